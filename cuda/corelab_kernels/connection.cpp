// Connection tableaux, compiled. This is the plain C interface; all else is in the headers. What
// every function there means is defined by its twin of the same name in corelab_envs/theorem, most
// of them in calculus.py; the two agree inference by inference.
//
// Nothing recurs, so neither deep proofs nor deep terms overflow the stack. All that a search knows
// lies in flat arrays whose entries refer to each other by number: going back is to shorten the
// arrays, and copying a state is copying them.

#include "connection/graph.h"
#include "connection/search.h"
#include "connection/tree_search.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace {

template <class T>
std::vector<T> taken(const Int*& from) {
    Int count = *from++;
    std::vector<T> values(count);
    if (count) std::memcpy(values.data(), from, count * sizeof(T));
    from += count * (sizeof(T) / sizeof(Int));
    return values;
}

}  // namespace

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
// COUNTS takes how many they are of each. Returns how many in all; at most CAPACITY are written.
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
