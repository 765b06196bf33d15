// What a linear policy sees of a proof, and the scores that it gives to inferences.
#pragma once

#include "proof.h"
#include "walks.h"

#include <cmath>
#include <cstddef>
#include <vector>

namespace {

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

}  // namespace
