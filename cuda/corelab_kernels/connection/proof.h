// What a search and a tableau have in common: the goals, the paths and lemmas by which they can be
// closed, and the steps that were made.
#pragma once

#include "bindings.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace {

enum Outcome : Int { RUNNING = 0, PROVED = 1, EXHAUSTED = 2, OUT_OF_MEMORY = 3 };
enum Kind : Int { EXTENSION = 0, REDUCTION = 1, LEMMA = 2 };

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

}  // namespace
