// Connection tableaux, compiled. What every function here means is defined by its twin of the same
// name in corelab_envs/theorem/calculus.py; the two agree inference by inference.
//
// Nothing recurs, so neither deep proofs nor deep terms overflow the stack. All that a search knows
// lies in flat arrays whose entries refer to each other by number: going back is to shorten the
// arrays, and copying a state is copying them.
//
// Terms are shared with the matrix: an instance of a term is the term and an offset, at which the
// values of its variables begin.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

namespace {

using Int = std::int32_t;
using Hash = std::uint32_t;

enum Outcome : Int { RUNNING = 0, PROVED = 1, EXHAUSTED = 2, OUT_OF_MEMORY = 3 };
enum Kind : Int { EXTENSION = 0, REDUCTION = 1, LEMMA = 2 };

constexpr Int NONE = -1;
constexpr Int TERM_LIMIT = 100'000;    // symbols that a unification or comparison may look at
constexpr Int FEATURE_LIMIT = 1'000;   // symbols of a state that its features count
constexpr Int STATE_NUMBERS = 4;       // plain numbers in front of the hashed features of a state
constexpr Int ACTION_NUMBERS = 3;      // and of an action

// ---- the matrix ---------------------------------------------------------------------------------

struct Term {
    Int symbol;  // or -(v + 1) for variable v of its clause
    Int first, count;  // its arguments, in Matrix::arguments
    Int ground;
};

constexpr Int HEADS = 3;

struct Connection {
    Int literal;
    Int heads[HEADS];  // the symbols of its first arguments, NONE for variables and beyond
};

struct Entry {  // what a literal is to a policy when its clause is entered by it
    bool known;
    Hash identity;            // of the clause and the literal, the same in all problems
    std::vector<Hash> walks;  // of the literal and of those that become goals
};

struct Matrix {
    std::vector<Term> terms;  // equal ground terms are one
    std::vector<Int> arguments;
    std::vector<Int> atom, key, clause_of;  // of each literal; key: 2 * predicate + negative
    std::vector<Int> begin, width, ground;  // of each clause: first literal, variables, if none
    std::vector<Int> connection_begin;               // of each key
    std::vector<Connection> connections;             // the literals of each key, in order
    std::vector<Hash> codes;  // of each symbol
    Int start;  // the clause that is the first goal

    // The features of an extension to each literal, made when first asked for, for one width.
    mutable std::vector<float> extension_features;
    mutable Int extension_buckets = 0;
    mutable std::vector<Entry> entries;  // of each literal, made when first asked for
};

// ---- bindings -----------------------------------------------------------------------------------

struct Instance {
    Int term, offset;
};

class Bindings {
public:
    explicit Bindings(const Matrix& matrix) : matrix(matrix) {}

    const Matrix& matrix;
    std::vector<Instance> values;  // of each variable; term NONE: it has none
    std::vector<Int> trail;        // older variables that were bound, in order
    Int old = 0;                   // variables from here on need no trail: they will be gone
    bool oversized = false;        // whether TERM_LIMIT was ever reached

    Int fresh(Int count) {
        Int offset = Int(values.size());
        values.resize(values.size() + count, Instance{NONE, 0});
        return offset;
    }

    void undo(std::size_t trail_mark, std::size_t variables) {
        while (trail.size() > trail_mark) {
            values[trail.back()].term = NONE;
            trail.pop_back();
        }
        values.resize(variables);
    }

    Instance resolve(Instance x) const {
        for (Int symbol; (symbol = matrix.terms[x.term].symbol) < 0;) {
            const Instance& value = values[x.offset - symbol - 1];
            if (value.term == NONE) break;
            x = value;
        }
        return x;
    }

    bool unify(Instance a, Instance b) { return walk<true>(a, b); }
    bool equal(Instance a, Instance b) { return walk<false>(a, b); }

private:
    struct Pair {
        Instance a, b;
    };
    std::vector<Pair> pairs;
    std::vector<Instance> below;

    Int variable(Instance x) const { return x.offset - matrix.terms[x.term].symbol - 1; }

    template <bool BIND>
    bool walk(Instance a, Instance b) {
        pairs.clear();
        Int looked = 0;
        for (;;) {
            a = resolve(a);
            b = resolve(b);
            const Term &x = matrix.terms[a.term], &y = matrix.terms[b.term];
            if (x.symbol < 0 || y.symbol < 0) {
                bool same = x.symbol < 0 && y.symbol < 0 && variable(a) == variable(b);
                if (!same) {
                    if (!BIND) return false;
                    if (x.symbol >= 0) std::swap(a, b);
                    if (!bind(variable(a), b, looked)) return false;
                }
            } else if (x.ground && y.ground) {
                if (a.term != b.term) return false;
            } else if (a.term != b.term || a.offset != b.offset) {
                if (x.symbol != y.symbol) return false;
                if ((looked += x.count) > TERM_LIMIT) return too_large();
                const Int *xs = &matrix.arguments[x.first], *ys = &matrix.arguments[y.first];
                const Int count = x.count, of_a = a.offset, of_b = b.offset;
                for (Int i = count; i-- > 0;) {
                    const Term &s = matrix.terms[xs[i]], &t = matrix.terms[ys[i]];
                    if (s.symbol >= 0 && t.symbol >= 0) {  // what is decided at a glance
                        if (s.symbol != t.symbol) return false;
                        if (xs[i] == ys[i] && (s.ground || of_a == of_b)) continue;
                        if (s.ground && t.ground) return false;
                    }
                    pairs.push_back({{xs[i], of_a}, {ys[i], of_b}});
                }
            }
            if (pairs.empty()) return true;
            a = pairs.back().a;
            b = pairs.back().b;
            pairs.pop_back();
        }
    }

    bool bind(Int variable, Instance value, Int& looked) {
        if (!matrix.terms[value.term].ground && occurs(variable, value, looked)) return false;
        values[variable] = value;
        if (variable < old) trail.push_back(variable);
        return true;
    }

    bool occurs(Int wanted, Instance x, Int& looked) {
        if (matrix.terms[x.term].symbol < 0) return false;  // another variable
        below.assign(1, x);
        while (!below.empty()) {
            x = resolve(below.back());
            below.pop_back();
            const Term& term = matrix.terms[x.term];
            if (term.symbol < 0) {
                if (variable(x) == wanted) return true;
            } else if (!term.ground) {
                if ((looked += term.count) > TERM_LIMIT) {
                    too_large();
                    return true;
                }
                for (Int i = term.count; i-- > 0;) {
                    Int argument = matrix.arguments[term.first + i];
                    if (!matrix.terms[argument].ground) below.push_back({argument, x.offset});
                }
            }
        }
        return false;
    }

    bool too_large() {
        oversized = true;
        return false;
    }
};

// ---- what a search and a tableau have in common -------------------------------------------------

struct Cell {  // of a path or a list of lemmas
    Int literal, key, offset, next, length;
};

struct Goal {  // a literal of a clause in the tableau that is to be closed next
    Int literal, end;  // the literal, and the end of its clause
    Int entry;         // the literal by which the clause was entered
    Int offset, path, lemmas;
    Int parent;    // the goal that the clause closes
    Int instance;  // 1 + the step that brought the clause
    Int height;    // of the choices before this goal's own
};

struct Step {
    Int kind, instance, literal, other, offset;
};

struct Proof {
    explicit Proof(const Matrix& matrix) : matrix(matrix), bindings(matrix) {}

    const Matrix& matrix;
    Bindings bindings;
    std::vector<Cell> cells;
    std::vector<Goal> goals;
    std::vector<Step> steps;

    Instance atom(Int literal, Int offset) const { return {matrix.atom[literal], offset}; }

    Int add_cell(Int literal, Int offset, Int next) {
        Int length = next == NONE ? 1 : cells[next].length + 1;
        cells.push_back({literal, matrix.key[literal], offset, next, length});
        return Int(cells.size()) - 1;
    }

    Int add_goal(Goal goal) {
        goal.literal += goal.literal == goal.entry;
        goals.push_back(goal);
        return Int(goals.size()) - 1;
    }

    Int begin() {
        Int first = matrix.begin[matrix.start];
        return add_goal({first, first + 1, NONE, bindings.fresh(0), NONE, NONE, NONE, 0, 0});
    }

    // What is to be closed after the literal of goal G, which is a lemma from now on.
    Int solved(Int g) {
        Goal next = goals[g];
        next.lemmas = add_cell(next.literal, next.offset, next.lemmas);
        next.literal++;
        return add_goal(next);
    }

    // Whether a literal of G's clause that is still open stands on the path, too.
    bool irregular(Int g) {
        const Goal goal = goals[g];
        for (Int literal = goal.literal; literal < goal.end; literal++) {
            if (literal == goal.entry) continue;
            Int key = matrix.key[literal];
            for (Int c = goal.path; c != NONE; c = cells[c].next)
                if (cells[c].key == key && bindings.equal(atom(cells[c].literal, cells[c].offset),
                                                          atom(literal, goal.offset)))
                    return true;
        }
        return false;
    }

    Int path_length(const Goal& goal) const {
        return goal.path == NONE ? 0 : cells[goal.path].length;
    }

    // Enter the clause of literal OTHER, whose variables begin at OFFSET, to close goal G.
    Int extend(Int g, Int other, Int offset) {
        const Goal goal = goals[g];
        Int clause = matrix.clause_of[other];
        steps.push_back({EXTENSION, goal.instance, goal.literal, other, offset});
        Int path = add_cell(goal.literal, goal.offset, goal.path);
        return add_goal({matrix.begin[clause], matrix.begin[clause + 1], other, offset, path,
                         goal.lemmas, g, Int(steps.size()), 0});
    }

    // Close the literal of goal G by cell C of its path or its lemmas.
    Int close(Int g, Int c, Kind kind) {
        const Goal& goal = goals[g];
        steps.push_back({kind, goal.instance, goal.literal, cells[c].literal, cells[c].offset});
        return solved(g);
    }

    // The symbols of an instance in the order of writing, variables as -(v + 1): how many, or NONE
    // if they are more than CAPACITY.
    Int write(Instance x, Int* out, Int capacity) const {
        std::vector<Instance> todo{x};
        Int n = 0;
        while (!todo.empty()) {
            x = resolve(todo.back());
            todo.pop_back();
            if (n == capacity) return NONE;
            const Term& term = matrix.terms[x.term];
            out[n++] = term.symbol < 0 ? term.symbol - x.offset : term.symbol;
            for (Int i = term.count; i-- > 0;)
                todo.push_back({matrix.arguments[term.first + i], x.offset});
        }
        return n;
    }

    Instance resolve(Instance x) const { return bindings.resolve(x); }

    // The heads of an atom, to pass over connections that clash with it at a glance.
    Connection heads(Instance atom) const {
        const Term& term = matrix.terms[atom.term];
        Connection wanted{NONE, {NONE, NONE, NONE}};
        for (Int i = 0; i < std::min(term.count, HEADS); i++) {
            Instance x = resolve({matrix.arguments[term.first + i], atom.offset});
            wanted.heads[i] = std::max(matrix.terms[x.term].symbol, NONE);
        }
        return wanted;
    }

    static bool clash(const Connection& a, const Connection& b) {
        for (Int i = 0; i < HEADS; i++)
            if (a.heads[i] != b.heads[i] && a.heads[i] != NONE && b.heads[i] != NONE) return true;
        return false;
    }

    // The literals that the goal AT can be connected to, in order.
    std::vector<Int> extensions(const Goal& at) {
        const Instance wanted = atom(at.literal, at.offset);
        const Int key = matrix.key[at.literal];
        const std::size_t trail = bindings.trail.size(), variables = bindings.values.size();
        const Connection own = heads(wanted);
        const Int end = matrix.connection_begin[(key ^ 1) + 1];
        std::vector<Int> found;
        for (Int i = matrix.connection_begin[key ^ 1]; i < end; i++) {
            const Int other = matrix.connections[i].literal;
            if (clash(own, matrix.connections[i])) continue;
            const Int offset = bindings.fresh(matrix.width[matrix.clause_of[other]]);
            if (bindings.unify(atom(other, offset), wanted)) found.push_back(other);
            bindings.undo(trail, variables);
        }
        return found;
    }
};

// ---- walks --------------------------------------------------------------------------------------

Hash mix(Hash a, Hash b) { return (a * 2654435761u) ^ (b + 0x9e3779b9u + (a << 6) + (a >> 2)); }

Hash bucket(Hash hash, Int buckets) { return Hash(std::uint64_t(hash) * Hash(buckets) >> 32); }

enum Role : Hash { GOAL = 1, PATH = 2, OPEN = 3, ENTRY = 4, NEW = 5, ORIGIN = 6, WIDTH = 7 };
constexpr Hash VARIABLE = 1;

// Tells SINK the walks of up to three symbols down the terms of literals, hashed.
template <class Sink>
struct Walks {
    const Matrix& matrix;
    const Bindings* bindings;  // none: variables have no values
    Sink sink;
    Int looked = 0;

    struct Place {
        Instance at;
        Hash parent, grandparent;
    };
    std::vector<Place> todo{};

    void literal(Int literal, Int offset, Role role) {
        Hash root = mix(role, Hash(matrix.key[literal] & 1));
        todo.assign(1, {{matrix.atom[literal], offset}, 0, 0});
        while (!todo.empty()) {
            if (looked == FEATURE_LIMIT) return;
            looked++;
            Place place = todo.back();
            todo.pop_back();
            if (bindings) place.at = bindings->resolve(place.at);
            const Term& term = matrix.terms[place.at.term];
            Hash code = term.symbol < 0 ? VARIABLE : matrix.codes[term.symbol];
            sink(mix(root, code));
            if (place.parent) sink(mix(mix(root, place.parent), code));
            if (place.grandparent)
                sink(mix(mix(mix(root, place.grandparent), place.parent), code));
            for (Int i = term.count; i-- > 0;) {
                Instance below{matrix.arguments[term.first + i], place.at.offset};
                todo.push_back({below, code, place.parent});
            }
        }
    }
};

struct Collect {  // a sink of walks: a list
    std::vector<Hash>& into;
    void operator()(Hash walk) { into.push_back(walk); }
};

// ---- guidance -----------------------------------------------------------------------------------

Hash identity(const Matrix& matrix, Int entry) {
    const Int clause = matrix.clause_of[entry];
    Hash hash = ENTRY;
    std::vector<Int> todo;
    auto add = [&](Int literal) {
        hash = mix(hash, Hash(matrix.key[literal] & 1));
        todo.assign(1, matrix.atom[literal]);
        while (!todo.empty()) {
            const Term& term = matrix.terms[todo.back()];
            todo.pop_back();
            hash = mix(hash, term.symbol < 0 ? Hash(-term.symbol) : matrix.codes[term.symbol]);
            for (Int i = term.count; i-- > 0;) todo.push_back(matrix.arguments[term.first + i]);
        }
    };
    add(entry);
    for (Int other = matrix.begin[clause]; other < matrix.begin[clause + 1]; other++)
        if (other != entry) add(other);
    return hash;
}

const Entry& entry(const Matrix& matrix, Int literal) {
    if (matrix.entries.empty()) matrix.entries.resize(matrix.atom.size());
    Entry& made = matrix.entries[literal];
    if (!made.known) {
        const Int clause = matrix.clause_of[literal];
        Walks<Collect> walks{matrix, nullptr, {made.walks}};
        walks.literal(literal, 0, ENTRY);
        for (Int other = matrix.begin[clause]; other < matrix.begin[clause + 1]; other++)
            if (other != literal) walks.literal(other, 0, NEW);
        made.walks.push_back(mix(WIDTH, Hash(matrix.begin[clause + 1] - matrix.begin[clause])));
        made.identity = identity(matrix, literal);
        made.known = true;
    }
    return made;
}

// What a policy knows of goal G: a constant, walks down it, the predicates on its path, and how
// its clause was entered.
void describe(const Proof& proof, const Goal& g, std::vector<Hash>& out) {
    const Matrix& matrix = proof.matrix;
    out.assign(1, 0);
    Walks<Collect> walks{matrix, &proof.bindings, {out}};
    walks.literal(g.literal, g.offset, GOAL);
    for (Int c = g.path; c != NONE; c = proof.cells[c].next) {
        const Int key = proof.cells[c].key;
        out.push_back(mix(mix(PATH, Hash(key & 1)), matrix.codes[key >> 1]));
    }
    if (g.entry != NONE) out.push_back(mix(ORIGIN, entry(matrix, g.entry).identity));
}

Hash reduction_identity(const Proof& proof, Int cell) {
    const Int key = proof.cells[cell].key;
    return mix(mix(mix(ENTRY, PATH), Hash(key & 1)), proof.matrix.codes[key >> 1]);
}

struct Guide {  // linear models and vectors of literals; all of them belong to the caller
    const float *policy, *value;
    Int policy_size, value_size;
    double temperature;
    const float *goals, *entries;  // of each literal WIDTH numbers; none if WIDTH is 0
    Int width;
};

// Scores inferences by the policy of a guide.
struct Scorer {
    const Guide* guide;
    std::vector<Hash> goal{};
    std::vector<double> known{};  // of each literal: the part that does not depend on the goal

    double weight(Hash hash) const { return guide->policy[bucket(hash, guide->policy_size)]; }

    double crossed(double score, Hash identity) const {
        for (Hash hash : goal) score += weight(mix(identity, hash));
        return score;
    }

    // What is thought of closing literal G by entering a clause by LITERAL, whatever is bound.
    double pair(Int g, Int literal) const {
        double score = 0;
        for (Int i = 0; i < guide->width; i++)
            score += double(guide->goals[std::size_t(g) * guide->width + i]) *
                     guide->entries[std::size_t(literal) * guide->width + i];
        return score;
    }

    double extension(const Matrix& matrix, Int g, Int literal) {
        if (known.empty()) known.assign(matrix.atom.size(), std::nan(""));
        const Entry& made = entry(matrix, literal);
        double& score = known[literal];
        if (std::isnan(score)) {
            score = 0;
            for (Hash hash : made.walks) score += weight(hash);
        }
        return crossed(score, made.identity) + pair(g, literal);
    }
};

// ---- depth-first search -------------------------------------------------------------------------

constexpr double LEAST_PRICE = 0.5;  // of an extension that is certain

struct Settings {
    Int cut, scut, comp;
};

struct Choice {
    Int goal, kind, cursor;  // where among the alternatives it is: a cell, or a connection
    std::size_t trail, variables, cells, goals, steps;
    Int end;  // of its extensions among those that a guide has put in order
};

struct Search : Proof {
    Search(const Matrix& matrix, Settings settings, const Guide* guide)
        : Proof(matrix), settings(settings), scorer{guide} {
        restart();
    }

    Settings settings;
    Scorer scorer;
    std::vector<Choice> choices;
    std::vector<Int> ordered;  // literals to connect to, the best first, of the choices in turn
    std::vector<double> prices;  // what each adds to the cost of its path
    std::vector<double> costs;   // of paths, by the cell that they end in
    Int goal = NONE;  // to go on with, or NONE: take another alternative
    Int path_limit = 1;
    bool limited = false;  // whether the path limit kept the search from something
    std::int64_t inferences = 0;

    Outcome run(std::int64_t limit) {
        for (;;) {
            if (goal != NONE) {
                goal = next_open(goal);
                if (goal == NONE) return PROVED;
                if (!irregular(goal)) choose();
                goal = NONE;
            } else if (choices.empty()) {
                if (!deepen()) return EXHAUSTED;
            } else if (!alternative(limit)) {
                return RUNNING;
            }
        }
    }

private:
    void restart() {
        choices.clear();
        ordered.clear();
        prices.clear();
        bindings.old = 0;
        bindings.undo(0, 0);
        cells.clear();
        goals.clear();
        steps.clear();
        limited = false;
        goal = begin();
    }

    // From goal G on, the next literal to close, or NONE if there is none.
    Int next_open(Int g) {
        while (goals[g].literal == goals[g].end) {
            g = goals[g].parent;
            if (goals[g].parent == NONE) return NONE;  // the first goal is closed
            if (settings.cut) drop(goals[g].height);
            g = solved(g);
        }
        return g;
    }

    void choose() {
        goals[goal].height = Int(choices.size());
        choices.push_back({goal, LEMMA, goals[goal].lemmas, bindings.trail.size(),
                           bindings.values.size(), cells.size(), goals.size(), steps.size(),
                           Int(ordered.size())});
        bindings.old = Int(bindings.values.size());
    }

    void drop(std::size_t height) {
        choices.resize(height);
        ordered.resize(choices.empty() ? 0 : choices.back().end);
        prices.resize(ordered.size());
        bindings.old = choices.empty() ? 0 : Int(choices.back().variables);
    }

    void undo(const Choice& choice) {
        bindings.undo(choice.trail, choice.variables);
        cells.resize(choice.cells);
        goals.resize(choice.goals);
        steps.resize(choice.steps);
    }

    bool deepen() {
        if (settings.comp && path_limit == settings.comp) {
            settings = {0, 0, 0};
            path_limit = 1;
        } else if (settings.comp || limited) {
            path_limit++;
        } else {
            return false;
        }
        restart();
        return true;
    }

    // Take the next alternative of the newest choice, if there is one; false if LIMIT forbids it.
    bool alternative(std::int64_t limit) {
        Choice& choice = choices.back();
        const Int g = choice.goal;
        undo(choice);
        const Goal at = goals[g];
        const Instance wanted = atom(at.literal, at.offset);
        const Int key = matrix.key[at.literal];
        if (choice.kind == LEMMA) {
            for (Int c = choice.cursor; c != NONE; c = cells[c].next)
                if (cells[c].key == key &&
                    bindings.equal(atom(cells[c].literal, cells[c].offset), wanted)) {
                    choice.cursor = cells[c].next;
                    return closed(g, c, LEMMA);
                }
            choice.kind = REDUCTION;
            choice.cursor = at.path;
        }
        if (choice.kind == REDUCTION) {
            for (Int c = choice.cursor; c != NONE; c = cells[c].next) {
                if (cells[c].key != (key ^ 1)) continue;
                if (bindings.unify(atom(cells[c].literal, cells[c].offset), wanted)) {
                    choice.cursor = c;
                    if (inferences >= limit) return false;
                    choice.cursor = cells[c].next;
                    inferences++;
                    return closed(g, c, REDUCTION);
                }
                bindings.undo(choice.trail, choice.variables);
            }
            choice.kind = EXTENSION;
            choice.cursor = matrix.connection_begin[key ^ 1];
            if (scorer.guide) order(choice, at);
        }
        const Connection own = heads(wanted);
        const Int end = scorer.guide ? choice.end : matrix.connection_begin[(key ^ 1) + 1];
        for (; choice.cursor < end; choice.cursor++) {
            const Int other = scorer.guide ? ordered[choice.cursor]
                                           : matrix.connections[choice.cursor].literal;
            if (!scorer.guide && clash(own, matrix.connections[choice.cursor])) continue;
            const Int clause = matrix.clause_of[other];
            const Int offset = bindings.fresh(matrix.width[clause]);
            if (bindings.unify(atom(other, offset), wanted)) {
                const double price = scorer.guide ? prices[choice.cursor] : 1;
                const double cost = price + (at.path == NONE ? 0 : costs[at.path]);
                if (!matrix.ground[clause] && cost > path_limit) {
                    limited = true;
                } else {
                    if (inferences >= limit) return false;
                    choice.cursor++;
                    inferences++;
                    goal = extend(g, other, offset);
                    costs.resize(cells.size());
                    costs.back() = cost;
                    if (settings.scut && at.parent == NONE) drop(0);
                    return true;
                }
            }
            bindings.undo(choice.trail, choice.variables);
        }
        drop(choices.size() - 1);
        return true;
    }

    // Put the extensions of goal AT in the order of their scores, with their prices.
    void order(Choice& choice, const Goal& at) {
        describe(*this, at, scorer.goal);
        std::vector<std::pair<double, Int>> found;
        for (Int other : extensions(at)) 
            found.push_back({scorer.extension(matrix, at.literal, other), other});
        std::stable_sort(found.begin(), found.end(),
                         [](const auto& a, const auto& b) { return a.first > b.first; });
        choice.cursor = Int(ordered.size());
        double sum = 0;
        const auto above = [&](double score) {
            return (score - found[0].first) / scorer.guide->temperature;
        };
        for (const auto& [score, other] : found) sum += std::exp(above(score));
        for (const auto& [score, other] : found) {
            ordered.push_back(other);
            prices.push_back(LEAST_PRICE + std::log(sum) - above(score));
        }
        choice.end = Int(ordered.size());
    }

    bool closed(Int g, Int c, Kind kind) {
        Int height = goals[g].height;
        goal = close(g, c, kind);
        if (settings.cut) drop(height);
        return true;
    }
};

// ---- features -----------------------------------------------------------------------------------

float scaled(float count) {
    static const std::vector<float> table = [] {
        std::vector<float> values(FEATURE_LIMIT + 1);
        for (Int i = 0; i <= FEATURE_LIMIT; i++) values[i] = float(std::log1p(double(i)));
        return values;
    }();
    return count <= float(FEATURE_LIMIT) ? table[std::size_t(count)]
                                         : float(std::log1p(double(count)));
}

struct Count {  // a sink of walks: a row of buckets
    float* out;
    Int buckets;
    void operator()(Hash walk) { out[bucket(walk, buckets)] += 1; }
};

void scale(float* row, Int buckets) {
    for (Int i = 0; i < buckets; i++)
        if (row[i] != 0) row[i] = scaled(row[i]);
}

const float* extension_features(const Matrix& matrix, Int literal, Int buckets) {
    if (matrix.extension_buckets != buckets) {
        const Int literals = Int(matrix.atom.size());
        matrix.extension_features.assign(std::size_t(literals) * buckets, 0.0f);
        float* row = matrix.extension_features.data();
        for (Int entry = 0; entry < literals; entry++, row += buckets) {
            Walks<Count> walks{matrix, nullptr, {row + ACTION_NUMBERS, buckets - ACTION_NUMBERS}};
            const Int clause = matrix.clause_of[entry];
            walks.literal(entry, 0, ENTRY);
            for (Int other = matrix.begin[clause]; other < matrix.begin[clause + 1]; other++)
                if (other != entry) walks.literal(other, 0, NEW);
            row[0] = 1;
            row[2] = float(matrix.begin[clause + 1] - matrix.begin[clause] - 1);
            scale(row, buckets);
        }
        matrix.extension_buckets = buckets;
    }
    return matrix.extension_features.data() + std::size_t(literal) * buckets;
}

// ---- a tableau that is extended step by step ----------------------------------------------------

struct Action {
    Int kind, other;  // EXTENSION: a literal to connect to; REDUCTION: a cell of the path
};

struct Tableau : Proof {
    Tableau(const Matrix& matrix, bool eager) : Proof(matrix), eager(eager) { reset(); }

    bool eager;
    Int goal = NONE;
    Int outcome = RUNNING;
    Int inferences = 0;
    std::vector<Action> actions;

    Int reset() {
        bindings.undo(0, 0);
        bindings.trail.clear();
        cells.clear();
        goals.clear();
        steps.clear();
        inferences = 0;
        goal = begin();
        return settle();
    }

    Int step(Int index) {
        const Action action = actions[index];
        const Goal at = goals[goal];
        inferences++;
        bindings.old = 0;  // there is no way back but `restore`
        if (action.kind == REDUCTION) {
            const Cell& cell = cells[action.other];
            bindings.unify(atom(cell.literal, cell.offset), atom(at.literal, at.offset));
            goal = close(goal, action.other, REDUCTION);
        } else {
            Int offset = bindings.fresh(matrix.width[matrix.clause_of[action.other]]);
            bindings.unify(atom(action.other, offset), atom(at.literal, at.offset));
            goal = extend(goal, action.other, offset);
        }
        return settle();
    }

    // All that a state is, as numbers; the actions are found again.
    std::vector<Int> saved() const {
        std::vector<Int> state{outcome, goal, inferences, Int(bindings.values.size()),
                               Int(cells.size()), Int(goals.size()), Int(steps.size()),
                               Int(actions.size())};
        const std::size_t bytes = bindings.values.size() * sizeof(Instance) +
                                  cells.size() * sizeof(Cell) + goals.size() * sizeof(Goal) +
                                  steps.size() * sizeof(Step) + actions.size() * sizeof(Action);
        state.reserve(state.size() + bytes / sizeof(Int));
        append(state, bindings.values);
        append(state, cells);
        append(state, goals);
        append(state, steps);
        append(state, actions);
        return state;
    }

    void restore(const Int* state) {
        outcome = state[0];
        goal = state[1];
        inferences = state[2];
        const Int* from = state + 8;
        bindings.trail.clear();
        take(from, bindings.values, state[3]);
        take(from, cells, state[4]);
        take(from, goals, state[5]);
        take(from, steps, state[6]);
        take(from, actions, state[7]);
    }

    // Tell SINK the literals that are open besides the goal, the nearest first.
    template <class Sink>
    void each_other_open(Sink sink) const {
        for (Int g = goal; g != NONE; g = goals[g].parent) {
            const Goal& other = goals[g];
            for (Int literal = other.literal + 1; literal < other.end; literal++)
                if (literal != other.entry) sink(literal, other.offset);
        }
    }

    // Show WALKS the goal AT, all that is open and the path; NUMBERS takes `STATE_NUMBERS`.
    template <class Sink>
    void look(Walks<Sink>& walks, const Goal& at, float* numbers) const {
        walks.literal(at.literal, at.offset, GOAL);
        float open = 1;
        each_other_open([&](Int literal, Int offset) {
            walks.literal(literal, offset, OPEN);
            open++;
        });
        numbers[0] = open;
        numbers[1] = float(path_length(at));
        numbers[2] = float(walks.looked);
        numbers[3] = float(inferences);
        for (Int c = at.path; c != NONE; c = cells[c].next)
            walks.literal(cells[c].literal, cells[c].offset, PATH);
    }

    void features(float* out, Int buckets) const {
        std::fill_n(out, buckets, 0.0f);
        if (goal == NONE) return;
        Walks<Count> walks{matrix, &bindings, {out + STATE_NUMBERS, buckets - STATE_NUMBERS}};
        const Goal at = goals[goal];
        look(walks, at, out);
        scale(out, buckets);
    }

    // The features of the first COUNT actions, one after the other.
    void action_features(float* out, Int buckets, Int count) const {
        std::fill_n(out, std::size_t(buckets) * count, 0.0f);
        for (Int a = 0; a < std::min(count, Int(actions.size())); a++, out += buckets) {
            if (actions[a].kind == EXTENSION) {
                std::copy_n(extension_features(matrix, actions[a].other, buckets), buckets, out);
                continue;
            }
            Walks<Count> walks{matrix, &bindings, {out + ACTION_NUMBERS, buckets - ACTION_NUMBERS}};
            const Cell& cell = cells[actions[a].other];
            walks.literal(cell.literal, cell.offset, PATH);
            out[1] = 1;
            scale(out, buckets);
        }
    }

private:
    template <class T>
    static void append(std::vector<Int>& state, const std::vector<T>& entries) {
        static_assert(sizeof(T) % sizeof(Int) == 0);
        const Int* data = reinterpret_cast<const Int*>(entries.data());
        state.insert(state.end(), data, data + entries.size() * (sizeof(T) / sizeof(Int)));
    }

    template <class T>
    static void take(const Int*& from, std::vector<T>& entries, Int count) {
        entries.resize(count);
        if (count) std::memcpy(entries.data(), from, count * sizeof(T));
        from += count * (sizeof(T) / sizeof(Int));
    }

    // Do what leaves no choice, up to the next goal that does.
    Int settle() {
        actions.clear();
        for (;;) {
            while (goals[goal].literal == goals[goal].end) {
                Int parent = goals[goal].parent;
                if (goals[parent].parent == NONE) {
                    goal = NONE;
                    return outcome = PROVED;
                }
                goal = solved(parent);
            }
            if (irregular(goal)) return outcome = EXHAUSTED;
            if (!closed_for_free()) break;
        }
        find_actions();
        return outcome = actions.empty() ? EXHAUSTED : RUNNING;
    }

    bool closed_for_free() {
        const Goal at = goals[goal];
        const Instance wanted = atom(at.literal, at.offset);
        const Int key = matrix.key[at.literal];
        for (Int c = at.lemmas; c != NONE; c = cells[c].next)
            if (cells[c].key == key &&
                bindings.equal(atom(cells[c].literal, cells[c].offset), wanted)) {
                goal = close(goal, c, LEMMA);
                return true;
            }
        bindings.old = Int(bindings.values.size());
        for (Int c = at.path; c != NONE; c = cells[c].next) {
            if (cells[c].key != (key ^ 1)) continue;
            const Instance other = atom(cells[c].literal, cells[c].offset);
            if (eager ? bindings.unify(other, wanted) : bindings.equal(other, wanted)) {
                bindings.trail.clear();
                goal = close(goal, c, REDUCTION);
                return true;
            }
            bindings.undo(0, bindings.values.size());
        }
        return false;
    }

    void find_actions() {
        const Goal at = goals[goal];
        const Instance wanted = atom(at.literal, at.offset);
        const Int key = matrix.key[at.literal];
        const std::size_t variables = bindings.values.size();
        bindings.old = Int(variables);
        if (!eager)
            for (Int c = at.path; c != NONE; c = cells[c].next)
                if (cells[c].key == (key ^ 1)) {
                    if (bindings.unify(atom(cells[c].literal, cells[c].offset), wanted))
                        actions.push_back({REDUCTION, c});
                    bindings.undo(0, variables);
                }
        for (Int other : extensions(at)) actions.push_back({EXTENSION, other});
    }
};

// ---- a state as a graph -------------------------------------------------------------------------

enum Thing : Int {
    PREDICATE = 1,
    FUNCTION = 2,
    CLAUSE = 3,
    POSITIVE = 5,
    NEGATIVE = 6,
    TERM = 7,
    UNBOUND = 8,
};
enum Link : Int { LITERAL = 1, SYMBOL = 2, FIRST = 3, BEYOND = 5, ABOVE = 6 };

struct Row {
    Int first, second, third;
};

struct Sketch {
    Sketch(const Matrix& matrix, Row* nodes, Row* edges, Int max_nodes, Int max_edges, Int names)
        : matrix(matrix), nodes(nodes), edges(edges), max_nodes(max_nodes), max_edges(max_edges),
          names(names), known(std::bit_ceil(2 * std::size_t(max_nodes))) {}

    const Matrix& matrix;
    Row *nodes, *edges;
    Int max_nodes, max_edges, names;
    Int node_count = 0, edge_count = 0;
    struct Known {  // the node of what has this key, if there is one
        Int first = 0, second = 0, node = NONE;
    };
    std::vector<Known> known;  // a hash table with open addressing
    struct Place {
        Int node, term, offset;
    };
    std::vector<Place> todo{};

    Int node(Int thing, Int role = 0, Int name = 0) {
        if (node_count == max_nodes) return NONE;
        nodes[node_count] = {thing, role, name};
        return node_count++;
    }

    void edge(Int source, Int target, Int link) {
        if (source != NONE && target != NONE && edge_count < max_edges)
            edges[edge_count++] = {source, target, link};
    }

    Int literal(Int literal, Int offset, Role role) {
        const Int made = node(matrix.key[literal] & 1 ? NEGATIVE : POSITIVE, Int(role));
        if (made != NONE) todo.push_back({made, matrix.atom[literal], offset});
        return made;
    }

    void finish(const Bindings& bindings) {
        for (std::size_t i = 0; i < todo.size(); i++) {
            const Place at = todo[i];
            const Term& term = matrix.terms[at.term];
            const Int thing = nodes[at.node].first == TERM ? FUNCTION : PREDICATE;
            edge(at.node, symbol(term.symbol, thing), SYMBOL);
            for (Int place = 0; place < term.count; place++) {
                Instance below{matrix.arguments[term.first + place], at.offset};
                if (at.offset >= 0) below = bindings.resolve(below);
                edge(at.node, instance(below), std::min<Int>(FIRST + place, BEYOND));
            }
        }
    }

private:
    Known& at(Int first, Int second) {
        std::size_t i = mix(Hash(first), Hash(second));
        for (;; i++) {
            Known& entry = known[i & (known.size() - 1)];
            if (entry.node == NONE) entry.first = first, entry.second = second;
            if (entry.first == first && entry.second == second) return entry;
        }
    }

    Int symbol(Int symbol, Int thing) {
        Known& entry = at(symbol, INT32_MAX);
        if (entry.node == NONE)
            entry.node = node(thing, 0, names ? 1 + Int(bucket(matrix.codes[symbol], names)) : 0);
        return entry.node;
    }

    Int instance(Instance x) {
        const Term& term = matrix.terms[x.term];
        const bool unbound = term.symbol < 0, entered = x.offset < 0;
        Known& entry = !unbound  ? at(x.term, term.ground ? 0 : x.offset)
                       : entered ? at(term.symbol, x.offset)
                                 : at(term.symbol - x.offset, 0);
        if (entry.node == NONE) {
            entry.node = node(unbound ? UNBOUND : TERM);
            if (!unbound && entry.node != NONE) todo.push_back({entry.node, x.term, x.offset});
        }
        return entry.node;
    }
};

void draw(const Tableau& tableau, Sketch& sketch, Int* actions, Int most) {
    std::fill_n(actions, most, NONE);
    if (tableau.goal == NONE) return;
    const Matrix& matrix = tableau.matrix;
    const Goal& goal = tableau.goals[tableau.goal];
    Int below = sketch.literal(goal.literal, goal.offset, GOAL);
    std::vector<std::pair<Int, Int>> on_path;  // cells and their nodes
    for (Int c = goal.path; c != NONE; c = tableau.cells[c].next) {
        const Cell& cell = tableau.cells[c];
        const Int above = sketch.literal(cell.literal, cell.offset, PATH);
        on_path.push_back({c, above});
        sketch.edge(below, above, ABOVE);
        below = above;
    }
    tableau.each_other_open([&](Int literal, Int offset) { sketch.literal(literal, offset, OPEN); });
    for (Int a = 0; a < std::min(most, Int(tableau.actions.size())); a++) {
        const Action& action = tableau.actions[a];
        if (action.kind == REDUCTION) {
            for (const auto& [c, node] : on_path)
                if (c == action.other) actions[a] = node;
            continue;
        }
        const Int clause = actions[a] = sketch.node(CLAUSE);
        const Int number = matrix.clause_of[action.other];
        for (Int literal = matrix.begin[number]; literal < matrix.begin[number + 1]; literal++) {
            const Role role = literal == action.other ? ENTRY : NEW;
            sketch.edge(clause, sketch.literal(literal, -1 - a, role), LITERAL);
        }
    }
    sketch.finish(tableau.bindings);
}

// ---- tree search --------------------------------------------------------------------------------

// The twin is in corelab_envs/theorem/tree_search.py, where corelab_mcts searches.

struct Rules {
    double exploration;
    Int big_step;  // playouts after which an inference is made for good
    Int depth;     // of inferences in a tableau
};

struct Edge {  // an inference that applies at a node
    double prior, mean;  // mean: of what it led to, 0 before
    Int child, visits;
    bool dead;  // it is known to lead to no proof
};

struct Node {
    Int parent, edge;  // where it hangs
    Int outcome;
    Int first, count, alive;  // its edges; none before it is visited again
    Int visits;
    std::vector<Int> state;
};

struct TreeSearch {
    TreeSearch(const Matrix& matrix, bool eager, Rules rules, const Guide* guide)
        : tableau(matrix, eager), rules(rules), scorer{guide} {
        add(NONE, NONE);
    }

    Tableau tableau;
    Rules rules;
    Scorer scorer;
    std::vector<Node> nodes;
    std::vector<Edge> edges;
    Int root = 0, playouts = 0;
    Int outcome = RUNNING;
    std::int64_t inferences = 0;

    Outcome run(std::int64_t limit) {
        if (nodes[0].outcome != RUNNING) outcome = nodes[0].outcome;
        while (outcome == RUNNING && inferences < limit) {
            playout();
            if (outcome != RUNNING) break;
            while (!nodes[root].alive && nodes[root].parent != NONE) root = nodes[root].parent;
            if (!nodes[root].alive) return Outcome(outcome = EXHAUSTED);
            if (++playouts % rules.big_step == 0) root = favourite(root);
        }
        return Outcome(outcome);
    }

    // The nodes from the first to the proof or, without one, to where most playouts went.
    std::vector<Int> line() const {
        Int last = outcome == PROVED ? Int(nodes.size()) - 1 : root;
        if (outcome != PROVED)
            for (Int next; (next = favourite(last)) != last;) last = next;
        std::vector<Int> found;
        for (Int n = last; n != NONE; n = nodes[n].parent) found.push_back(n);
        std::reverse(found.begin(), found.end());
        return found;
    }

    // The action of NODE that was visited most, but for ACTION; NONE if there is none.
    Int rival(Int node, Int action) const {
        const Node& at = nodes[node];
        Int best = NONE;
        for (Int a = 0; a < at.count; a++) {
            const Edge& edge = edges[at.first + a];
            if (a != action && edge.visits &&
                (best == NONE || edge.visits > edges[at.first + best].visits))
                best = a;
        }
        return best;
    }

private:
    std::vector<Hash> seen;

    // Add the state of the tableau.
    Int add(Int parent, Int edge) {
        nodes.push_back({parent, edge, tableau.outcome, NONE, 0, 1, 0, {}});
        if (tableau.outcome == RUNNING) nodes.back().state = tableau.saved();
        return Int(nodes.size()) - 1;
    }

    void playout() {
        Int n = root;
        for (;;) {
            if (nodes[n].first == NONE) open(n);
            const Int e = select(n);
            if (edges[e].child == NONE) {
                expand(n, e);
                return;
            }
            n = edges[e].child;
        }
    }

    // Give node N its edges.
    void open(Int n) {
        tableau.restore(nodes[n].state.data());
        const Int count = Int(tableau.actions.size());
        nodes[n].first = Int(edges.size());
        nodes[n].count = nodes[n].alive = count;
        for (Int a = 0; a < count; a++) edges.push_back({1.0 / count, 0, NONE, 0, false});
        if (!scorer.guide) return;
        Edge* own = &edges[nodes[n].first];
        double most = -INFINITY, sum = 0;
        describe(tableau, tableau.goals[tableau.goal], scorer.goal);
        for (Int a = 0; a < count; a++) {
            own[a].prior = score(tableau.actions[a]) / scorer.guide->temperature;
            most = std::max(most, own[a].prior);
        }
        for (Int a = 0; a < count; a++) sum += own[a].prior = std::exp(own[a].prior - most);
        for (Int a = 0; a < count; a++) own[a].prior /= sum;
    }

    double score(const Action& action) {
        if (action.kind == EXTENSION)
            return scorer.extension(tableau.matrix, tableau.goals[tableau.goal].literal,
                                    action.other);
        return scorer.crossed(0, reduction_identity(tableau, action.other));
    }

    Int select(Int n) const {
        const Node& node = nodes[n];
        const double log = std::log(double(node.visits) + 1);
        double most = -INFINITY;
        Int best = NONE;
        for (Int e = node.first; e < node.first + node.count; e++) {
            const Edge& edge = edges[e];
            if (edge.dead) continue;
            const double score = edge.mean + rules.exploration * edge.prior *
                                                 std::sqrt(log / std::max(edge.visits, 1));
            if (best == NONE || score > most) {
                most = score;
                best = e;
            }
        }
        return best;
    }

    void expand(Int n, Int e) {
        tableau.restore(nodes[n].state.data());
        tableau.step(e - nodes[n].first);
        inferences++;
        const Int child = add(n, e);
        edges[e].child = child;
        if (tableau.outcome == PROVED || tableau.outcome == OUT_OF_MEMORY) {
            outcome = tableau.outcome;
            return;
        }
        const bool dead = tableau.outcome == EXHAUSTED || tableau.inferences == rules.depth;
        if (dead) bury(child);
        const double reward = dead ? 0 : value();
        for (Int at = child;; at = nodes[at].parent) {
            nodes[at].visits++;
            if (nodes[at].edge == NONE) break;
            Edge& edge = edges[nodes[at].edge];
            edge.visits++;
            edge.mean += (reward - edge.mean) / edge.visits;
        }
    }

    // Node N leads to no proof, nor does any above of which no inference is left.
    void bury(Int n) {
        nodes[n].alive = 0;
        for (;;) {
            nodes[n].state = {};
            if (nodes[n].edge == NONE) return;
            edges[nodes[n].edge].dead = true;
            n = nodes[n].parent;
            if (--nodes[n].alive) return;
        }
    }

    // The child of node N that was visited most, if it has one from which a proof may follow.
    Int favourite(Int n) const {
        const Node& node = nodes[n];
        Int best = NONE;
        for (Int e = node.first; e < node.first + node.count; e++)
            if (!edges[e].dead && edges[e].child != NONE &&
                (best == NONE || edges[e].visits > edges[best].visits))
                best = e;
        return best == NONE ? n : edges[best].child;
    }

    double value() {
        float numbers[STATE_NUMBERS];
        seen.clear();
        Walks<Collect> walks{tableau.matrix, &tableau.bindings, {seen}};
        tableau.look(walks, tableau.goals[tableau.goal], numbers);
        const Guide* guide = scorer.guide;
        double score = 3.7 * std::exp(-0.05 * numbers[2]) - 2.5;
        if (guide) {
            score += guide->value[STATE_NUMBERS];
            for (Int i = 0; i < STATE_NUMBERS; i++)
                score += double(guide->value[i]) * std::log1p(double(numbers[i]));
            const Int first = STATE_NUMBERS + 1;
            for (Hash hash : seen)
                score += guide->value[first + bucket(hash, guide->value_size - first)];
        }
        return 1 / (1 + std::exp(-score));
    }
};

template <class T>
std::vector<T> taken(const Int*& from) {
    Int count = *from++;
    std::vector<T> values(count);
    if (count) std::memcpy(values.data(), from, count * sizeof(T));
    from += count * (sizeof(T) / sizeof(Int));
    return values;
}

}  // namespace

// ---- the interface ------------------------------------------------------------------------------

extern "C" {

// A matrix from one array: each part is the number of its entries and the entries.
Matrix* matrix_new(const Int* from) {
    auto* matrix = new (std::nothrow) Matrix;
    if (!matrix) return nullptr;
    matrix->terms = taken<Term>(from);
    matrix->arguments = taken<Int>(from);
    matrix->atom = taken<Int>(from);
    matrix->key = taken<Int>(from);
    matrix->clause_of = taken<Int>(from);
    matrix->begin = taken<Int>(from);
    matrix->width = taken<Int>(from);
    matrix->ground = taken<Int>(from);
    matrix->connection_begin = taken<Int>(from);
    matrix->connections = taken<Connection>(from);
    matrix->codes = taken<Hash>(from);
    matrix->start = Int(matrix->width.size()) - 1;
    return matrix;
}
void matrix_free(Matrix* matrix) { delete matrix; }

Search* search_new(const Matrix* matrix, Int cut, Int scut, Int comp, const Guide* guide) {
    return new (std::nothrow) Search(*matrix, {cut, scut, comp}, guide);
}
void search_free(Search* search) { delete search; }
Int search_run(Search* search, std::int64_t limit) {
    try {
        return search->run(limit);
    } catch (const std::bad_alloc&) {
        return OUT_OF_MEMORY;
    }
}
std::int64_t search_inferences(const Search* search) { return search->inferences; }
Int search_path_limit(const Search* search) { return search->path_limit; }
// Whether an exhausted search has left nothing out.
Int search_complete(const Search* search) {
    return !search->settings.cut && !search->settings.scut && !search->bindings.oversized;
}
Int search_steps(const Search* search, Int* out) {
    if (out) std::memcpy(out, search->steps.data(), search->steps.size() * sizeof(Step));
    return Int(search->steps.size());
}
Int search_write(const Search* search, Int term, Int offset, Int* out, Int capacity) {
    return search->write({term, offset}, out, capacity);
}

Tableau* tableau_new(const Matrix* matrix, Int eager) {
    return new (std::nothrow) Tableau(*matrix, eager != 0);
}
void tableau_free(Tableau* tableau) { delete tableau; }
Int tableau_reset(Tableau* tableau) { return tableau->reset(); }
Int tableau_step(Tableau* tableau, Int action) {
    try {
        return tableau->step(action);
    } catch (const std::bad_alloc&) {
        tableau->actions.clear();
        return tableau->outcome = OUT_OF_MEMORY;
    }
}
// Step each of N tableaux by its action, if that is one of the first MOST that apply.
void tableau_step_many(Tableau* const* tableaux, Int n, const Int* actions, Int most,
                       Int* outcomes, Int* inferences, bool* applied) {
    for (Int i = 0; i < n; i++) {
        Tableau& tableau = *tableaux[i];
        applied[i] = 0 <= actions[i] && actions[i] < std::min(most, Int(tableau.actions.size()));
        if (applied[i]) tableau_step(&tableau, actions[i]);
        outcomes[i] = tableau.outcome;
        inferences[i] = tableau.inferences;
    }
}
Int tableau_outcome(const Tableau* tableau) { return tableau->outcome; }
Int tableau_inferences(const Tableau* tableau) { return tableau->inferences; }
Int tableau_actions(const Tableau* tableau, Int* out, Int capacity) {
    Int n = Int(tableau->actions.size());
    std::memcpy(out, tableau->actions.data(), std::min(n, capacity) * sizeof(Action));
    return n;
}
Int tableau_action_count(const Tableau* tableau) { return Int(tableau->actions.size()); }
Int tableau_save(const Tableau* tableau, Int* out, Int capacity) {
    std::vector<Int> state = tableau->saved();
    if (Int(state.size()) <= capacity) std::copy(state.begin(), state.end(), out);
    return Int(state.size());
}
void tableau_restore(Tableau* tableau, const Int* state) { tableau->restore(state); }
void tableau_features(const Tableau* tableau, float* out, Int buckets) {
    tableau->features(out, buckets);
}
void tableau_action_features(const Tableau* tableau, float* out, Int buckets, Int count) {
    tableau->action_features(out, buckets, count);
}
// For each of N tableaux a row of its features and those of its first MOST actions; and which of
// those actions there are.
void tableau_observe_many(const Tableau* const* tableaux, Int n, Int state_buckets,
                          Int action_buckets, Int most, float* rows, std::int8_t* masks) {
    for (Int i = 0; i < n; i++) {
        tableaux[i]->features(rows, state_buckets);
        rows += state_buckets;
        tableaux[i]->action_features(rows, action_buckets, most);
        rows += std::size_t(most) * action_buckets;
        for (Int a = 0; a < most; a++) *masks++ = a < Int(tableaux[i]->actions.size());
    }
}
// For each of N tableaux the rows of its graph and the nodes of its first MOST actions; and which
// of those actions there are.
void tableau_graph_many(const Tableau* const* tableaux, Int n, Int max_nodes, Int max_edges,
                        Int most, Int names, Row* nodes, Row* edges, Int* actions,
                        std::int8_t* masks) {
    std::fill_n(nodes, std::size_t(n) * max_nodes, Row{});
    std::fill_n(edges, std::size_t(n) * max_edges, Row{});
    for (Int i = 0; i < n; i++, nodes += max_nodes, edges += max_edges, actions += most) {
        Sketch sketch(tableaux[i]->matrix, nodes, edges, max_nodes, max_edges, names);
        draw(*tableaux[i], sketch, actions, most);
        for (Int a = 0; a < most; a++) *masks++ = a < Int(tableaux[i]->actions.size());
    }
}
Int tableau_steps(const Tableau* tableau, Int* out) {
    if (out) std::memcpy(out, tableau->steps.data(), tableau->steps.size() * sizeof(Step));
    return Int(tableau->steps.size());
}
Int tableau_goal(const Tableau* tableau) {
    return tableau->goal == NONE ? NONE : tableau->goals[tableau->goal].literal;
}
Int tableau_write(const Tableau* tableau, Int term, Int offset, Int* out, Int capacity) {
    return tableau->write({term, offset}, out, capacity);
}
// What a policy sees of each of the actions, as buckets of BUCKETS, one action after the other;
// COUNTS takes how many they are of each. Returns how many in all, or that many if CAPACITY is less.
Int tableau_policy_walks(const Tableau* tableau, Int buckets, Int* out, Int capacity, Int* counts) {
    if (tableau->goal == NONE) return 0;
    std::vector<Hash> goal;
    describe(*tableau, tableau->goals[tableau->goal], goal);
    Int n = 0;
    auto add = [&](Hash hash) {
        if (n < capacity) out[n] = Int(bucket(hash, buckets));
        n++;
    };
    for (const Action& action : tableau->actions) {
        const Int before = n;
        Hash identity;
        if (action.kind == EXTENSION) {
            const Entry& made = entry(tableau->matrix, action.other);
            for (Hash hash : made.walks) add(hash);
            identity = made.identity;
        } else {
            identity = reduction_identity(*tableau, action.other);
        }
        for (Hash hash : goal) add(mix(identity, hash));
        *counts++ = n - before;
    }
    return n;
}
// The same of what a value sees; NUMBERS takes the plain numbers in front.
Int tableau_value_walks(const Tableau* tableau, Int buckets, Int* out, Int capacity,
                        float* numbers) {
    if (tableau->goal == NONE) return 0;
    std::vector<Hash> seen;
    Walks<Collect> walks{tableau->matrix, &tableau->bindings, {seen}};
    tableau->look(walks, tableau->goals[tableau->goal], numbers);
    for (Int i = 0; i < std::min(Int(seen.size()), capacity); i++)
        out[i] = Int(bucket(seen[i], buckets));
    return Int(seen.size());
}

TreeSearch* tree_new(const Matrix* matrix, Int eager, double exploration, Int big_step, Int depth,
                     const Guide* guide) {
    const Rules rules{exploration, big_step, depth};
    return new (std::nothrow) TreeSearch(*matrix, eager != 0, rules, guide);
}
void tree_free(TreeSearch* tree) { delete tree; }
Int tree_run(TreeSearch* tree, std::int64_t limit) {
    try {
        return tree->run(limit);
    } catch (const std::bad_alloc&) {
        return tree->outcome = OUT_OF_MEMORY;
    }
}
std::int64_t tree_inferences(const TreeSearch* tree) { return tree->inferences; }
// The actions from the first node to the proof, or to where the search stands, and of each node
// the action besides that was visited most, NONE if none was.
Int tree_line(const TreeSearch* tree, Int* actions, Int* rivals, Int capacity) {
    const std::vector<Int> line = tree->line();
    for (Int i = 0; i + 1 < std::min(Int(line.size()), capacity + 1); i++) {
        actions[i] = tree->nodes[line[i + 1]].edge - tree->nodes[line[i]].first;
        rivals[i] = tree->rival(line[i], actions[i]);
    }
    return Int(line.size()) - 1;
}
}
