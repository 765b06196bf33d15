// The state of a tableau as a graph, in which names mean nothing.
#pragma once

#include "tableau.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

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
    tableau.each_other_open(
        [&](Int literal, Int offset) { sketch.literal(literal, offset, OPEN); });
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

}  // namespace
