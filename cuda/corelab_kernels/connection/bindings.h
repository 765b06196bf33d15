// The values of variables: terms are unified and compared under them.
//
// Terms are shared with the matrix: an instance of a term is the term and an offset, at which the
// values of its variables begin.
#pragma once

#include "matrix.h"

#include <cstddef>
#include <utility>
#include <vector>

namespace {

constexpr Int TERM_LIMIT = 100'000;  // symbols that a unification or comparison may look at

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

}  // namespace
