// Monte Carlo tree search over tableaux. The twin is in corelab_envs/theorem/tree_search.py, where
// corelab_mcts searches.
#pragma once

#include "guide.h"
#include "tableau.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

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
        if (tableau.outcome == PROVED) {
            outcome = PROVED;
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

}  // namespace
