// A tableau that is extended step by step, without backtracking, and its features.
#pragma once

#include "proof.h"
#include "walks.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <vector>

namespace {

constexpr Int STATE_NUMBERS = 4;   // plain numbers in front of the hashed features of a state
constexpr Int ACTION_NUMBERS = 3;  // and of an action

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

// ---- the tableau --------------------------------------------------------------------------------

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

}  // namespace
