// Walks down terms, hashed: what is seen of literals, the same in all problems.
#pragma once

#include "bindings.h"

#include <cstdint>
#include <vector>

namespace {

constexpr Int FEATURE_LIMIT = 1'000;  // symbols of a state that its features count

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

}  // namespace
