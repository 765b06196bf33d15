// Depth-first search with iterative deepening on the length of paths, in leanCoP's order or that of
// a guide.
#pragma once

#include "guide.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

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

}  // namespace
