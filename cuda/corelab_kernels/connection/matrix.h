// The clauses of a problem as a matrix, which corelab_envs/theorem/matrix.py makes.
//
// What this and the other headers of connection.cpp define is in a namespace without a name: no
// other source includes them, and what is called once can then be inlined.
#pragma once

#include <cstdint>
#include <vector>

namespace {

using Int = std::int32_t;
using Hash = std::uint32_t;

constexpr Int NONE = -1;

struct Term {
    Int symbol;        // or -(v + 1) for variable v of its clause
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
    std::vector<Int> connection_begin;      // of each key
    std::vector<Connection> connections;    // the literals of each key, in order
    std::vector<Hash> codes;                // of each symbol
    Int start;                              // the clause that is the first goal

    // The features of an extension to each literal, made when first asked for, for one width.
    mutable std::vector<float> extension_features;
    mutable Int extension_buckets = 0;
    mutable std::vector<Entry> entries;  // of each literal, made when first asked for
};

}  // namespace
