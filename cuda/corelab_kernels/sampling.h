// Draws from categorical distributions and mixtures of logistics, and their log-probabilities: what
// sampling.cpp runs on a CPU and sampling.cu on a GPU, to the same bits.
//
// Categories are drawn by going down a tree. A row of numbers is shared out among lanes, number i
// to lane i mod lanes, and the lanes' sums are added as a binary tree. A GPU gives each lane a
// thread; a CPU goes through N lanes at once, with the width of its vectors. So loops over `n < N`
// are over what happens at the same time, and N is 1 on a GPU. Neither N nor how rows are divided
// among threads changes what is added to what.
#pragma once
#include "arithmetic.h"

namespace corelab {

// ---- categorical --------------------------------------------------------------------------------

constexpr int32 LANES = 256, LEAST = 32;  // powers of two
constexpr int32 TILE = 8;  // numbers of a lane between two looks at the largest so far
constexpr float LOWEST = -3.40282347e38f;

// How many lanes share COUNT numbers: the power of two that is enough, but at least LEAST.
CORELAB_HD int32 lanes_for(int64 count) {
    int32 lanes = LEAST;
    while (lanes < LANES && lanes < count) lanes *= 2;
    return lanes;
}

// How many of COUNT numbers a lane has at most, if they are more than LANES.
CORELAB_HD int64 rounds_for(int64 count) { return (count + LANES - 1) / LANES; }

// Of what a categorical distribution is made: SCALE times the numbers at x[0], x[stride], … are the
// log-probabilities of COUNT classes, up to a constant. -infinity is a probability of 0.
struct Logits {
    const float* x;
    int64 count, stride;
    float scale;

    CORELAB_HD float at(int64 i) const {
        return i < count ? x[i * stride] * scale : -infinity(scale);
    }
    CORELAB_HD Logits of_lane(int32 lane, int32 lanes) const {
        return {x + lane * stride, (count - lane + lanes - 1) / lanes, stride * lanes, scale};
    }
};

// The logarithm of the probability of class I, where the sum of all e^(logit - LARGEST) is SUM.
CORELAB_HD float log_prob(Logits logits, int64 i, float largest, float sum) {
    return 0 <= i && i < logits.count ? logits.x[i] - largest - log(sum) : number(0x7FC00000u);
}

// e^d for d <= 0, and 0 where that is below 1e-37: a CPU is slow with subnormal numbers.
CORELAB_HD float weight(float d) {
    const float e = exp(larger(d, -85.0f));
    return d < -85.0f ? 0.0f : e;
}

template <int N> CORELAB_HD void load(Logits logits, int64 i, float* out) {
    if (logits.stride == 1 && i + N <= logits.count)
        for (int n = 0; n < N; ++n) out[n] = logits.x[i + n] * logits.scale;
    else
        for (int n = 0; n < N; ++n) out[n] = logits.at(i + n);
}

// For N of so many LANES from FIRST on: the largest logit, and the sum of e^(logit - largest). The
// numbers are read once: where a tile has a larger one than all before, the sum is made smaller.
template <int N>
CORELAB_HD void sum_lanes(Logits logits, int32 lanes, int32 first, float* largest, float* sum) {
    float top[N], total[N];
    for (int n = 0; n < N; ++n) top[n] = LOWEST, total[n] = 0;
    const int64 rounds = (logits.count + lanes - 1) / lanes;
    for (int64 start = 0; start < rounds; start += TILE) {
        const int32 filled = (int32)(rounds - start < TILE ? rounds - start : TILE);
        float tile[TILE][N], next[N], part[N];
        for (int n = 0; n < N; ++n) next[n] = top[n], part[n] = 0;
        for (int32 j = 0; j < TILE; ++j) {  // to be unrolled: a tile's place is in registers
            const int64 i = (start + j) * lanes + first;
            if (j < filled) load<N>(logits, i, tile[j]);
        }
        for (int32 j = 0; j < TILE; ++j)
            if (j < filled)
                for (int n = 0; n < N; ++n) next[n] = larger(next[n], tile[j][n]);
        for (int32 j = 0; j < TILE; ++j)
            if (j < filled)
                for (int n = 0; n < N; ++n) part[n] += weight(tile[j][n] - next[n]);
        if (start)
            for (int n = 0; n < N; ++n) part[n] = fma(total[n], weight(top[n] - next[n]), part[n]);
        for (int n = 0; n < N; ++n) top[n] = next[n], total[n] = part[n];
    }
    for (int n = 0; n < N; ++n) largest[n] = top[n], sum[n] = total[n];
}

// The sums of a tree: the leaves are tree[lanes], …, tree[2 lanes - 1], node tree[h + i] of the h
// nodes of its generation is the sum of tree[2 h + i] and tree[3 h + i], and the root is tree[1].
//
// The leaf at which the sum of it and of those before it passes T, 0 <= T < root. Never one that is
// zero, unless all are.
CORELAB_HD int32 find_leaf(const float* tree, int32 lanes, float t) {
    int32 i = 0;
    for (int32 h = 1; h < lanes; h *= 2) {
        const float left = tree[2 * h + i], right = tree[3 * h + i];
        const bool on = t >= left && right > 0;
        t = on ? t - left : t;
        i = on ? i + h : i;
    }
    return i;
}

// Whether a sum is of probabilities: not if there was a NaN or an infinite logit, or nothing else
// than probabilities of 0.
CORELAB_HD bool is_total(float sum) { return sum > 0 && sum < infinity(sum); }

enum Use : uint32 { CATEGORICAL = 1, MIXTURE = 2 };

// Four random words for row ROW of all, whichever part of them is drawn at a time.
CORELAB_HD Words words_for(int64 row, Use use, uint64 seed) {
    return philox({(uint32)row, (uint32)((uint64)row >> 32), 0, use}, seed);
}

// ---- mixtures of logistics ----------------------------------------------------------------------

// PixelCNN++ (Salimans et al. 2017, arXiv:1701.05517, eq. 2): logistic distributions over the 256
// levels -1, -1 + 2/255, …, 1, cut into bins, the outermost of which reach to infinity.
constexpr int32 LEVELS = 256;
constexpr float WIDEST = 7;  // of log-scales, either way

CORELAB_HD int32 level_of(int64 symbol) {
    return 0 <= symbol && symbol < LEVELS ? (int32)symbol : -1;
}

// The log of a sum of e^v, one v at a time.
struct LogSum {
    float top = LOWEST, sum = 0;

    CORELAB_HD void add(float v) {
        const float d = v - top, e = exp(d < 0 ? d : -d);
        sum = d > 0 ? fma(sum, e, 1.0f) : sum + e;
        top = d > 0 ? v : top;
    }
    CORELAB_HD float log() const { return top + corelab::log(sum); }
};

// The logarithm of the mass that a logistic distribution has in the bin of SYMBOL, and what its
// derivatives are made of. With u and l the edges of the bin in units of the scale from the
// location, and δ = u - l, the mass is
//     σ(u) - σ(l) = σ(u) σ(-l) (1 - e^-δ),
// where nothing cancels however small it is. The factor of an edge at infinity is 1, and so is the
// last one there.
struct Bin {
    float u, l, delta, inverse_scale, a, b, width;  // a = e^-|u|, b = e^-|l|, width = 1 - e^-δ
    bool lowest, highest;

    CORELAB_HD Bin(float location, float log_scale, int32 symbol) {
        const float clamped = smaller(larger(log_scale, -WIDEST), WIDEST);
        const float upper = (float)(2 * symbol - (LEVELS - 2)) / (LEVELS - 1);
        const float lower = (float)(2 * symbol - LEVELS) / (LEVELS - 1);
        lowest = symbol == 0;
        highest = symbol == LEVELS - 1;
        inverse_scale = exp(-clamped);
        u = (upper - location) * inverse_scale;
        l = (lower - location) * inverse_scale;
        delta = 2.0f / (LEVELS - 1) * inverse_scale;
        a = exp(u < 0 ? u : -u);
        b = exp(l < 0 ? l : -l);
        width = -expm1(-delta);
    }
    CORELAB_HD float log_mass() const {
        const float above = highest ? 0.0f : smaller(u, 0.0f);
        const float below = lowest ? 0.0f : larger(l, 0.0f);
        const float upper = highest ? 1.0f : 1.0f + a, lower = lowest ? 1.0f : 1.0f + b;
        const float between = lowest || highest ? 1.0f : width;
        return above - below - log(upper * lower / between);
    }
    // Its derivatives by u, l and δ are σ(-u), -σ(l) and e^-δ / (1 - e^-δ).
    CORELAB_HD float by_location() const { return -inverse_scale * (by_u() + by_l()); }
    CORELAB_HD float by_log_scale(float log_scale) const {
        const float by_delta = lowest || highest ? 0.0f : (1.0f - width) / width;
        const float slope = -fma(u, by_u(), fma(l, by_l(), delta * by_delta));
        return log_scale < -WIDEST || log_scale > WIDEST ? 0.0f : slope;
    }

private:
    CORELAB_HD float by_u() const { return highest ? 0.0f : (u < 0 ? 1.0f : a) / (1.0f + a); }
    CORELAB_HD float by_l() const { return lowest ? 0.0f : -(l < 0 ? b : 1.0f) / (1.0f + b); }
};

// The parameters of N rows: for each of K components the N logits of its weight, after those of all
// components the locations, and then the log-scales.
template <int N> struct Mixtures {
    const float* p;
    int32 components;

    CORELAB_HD float logit(int32 k, int n) const { return p[k * N + n]; }
    CORELAB_HD float location(int32 k, int n) const { return p[(components + k) * N + n]; }
    CORELAB_HD float log_scale(int32 k, int n) const { return p[(2 * components + k) * N + n]; }
};

// For N SYMBOLS, -1 where there is none: the logarithms of Σ e^(logit) mass and of Σ e^(logit).
template <int N>
CORELAB_HD void log_sums(Mixtures<N> mixtures, const int32* symbols, LogSum* joint, LogSum* all) {
    for (int n = 0; n < N; ++n) joint[n] = all[n] = {};
    for (int32 k = 0; k < mixtures.components; ++k)
        for (int n = 0; n < N; ++n) {
            const Bin bin(mixtures.location(k, n), mixtures.log_scale(k, n), symbols[n]);
            joint[n].add(mixtures.logit(k, n) + bin.log_mass());
            all[n].add(mixtures.logit(k, n));
        }
}

// Their difference is the log-probability.
template <int N>
CORELAB_HD void mixture_log_prob(Mixtures<N> mixtures, const int32* symbols, float* out) {
    LogSum joint[N], all[N];
    log_sums(mixtures, symbols, joint, all);
    for (int n = 0; n < N; ++n)
        out[n] = symbols[n] < 0 ? number(0x7FC00000u) : joint[n].log() - all[n].log();
}

// GRADS times the derivatives of the log-probabilities by the parameters, which lie as those do.
template <int N>
CORELAB_HD void mixture_slopes(Mixtures<N> mixtures, const int32* symbols, const float* grads,
                               float* out) {
    LogSum joint[N], all[N];
    log_sums(mixtures, symbols, joint, all);
    const int32 K = mixtures.components;
    for (int n = 0; n < N; ++n) joint[n].top = joint[n].log(), all[n].top = all[n].log();
    for (int32 k = 0; k < K; ++k)
        for (int n = 0; n < N; ++n) {
            const float logit = mixtures.logit(k, n), log_scale = mixtures.log_scale(k, n);
            const Bin bin(mixtures.location(k, n), log_scale, symbols[n]);
            const float prior = exp(logit - all[n].top);
            const float posterior = exp(logit + bin.log_mass() - joint[n].top);
            out[k * N + n] = grads[n] * (posterior - prior);
            out[(K + k) * N + n] = grads[n] * posterior * bin.by_location();
            out[(2 * K + k) * N + n] = grads[n] * posterior * bin.by_log_scale(log_scale);
        }
}

// Levels drawn for rows ROW, ROW + 1, …; -1 where a parameter is no number.
template <int N>
CORELAB_HD void draw_mixtures(Mixtures<N> mixtures, int64 row, uint64 seed, int32* out) {
    const int32 K = mixtures.components;
    float which[N], where[N], top[N], sum[N], before[N], location[N], log_scale[N];
    for (int n = 0; n < N; ++n) {
        const Words words = words_for(row + n, MIXTURE, seed);
        which[n] = uniform(words.x), where[n] = uniform(words.y);
        top[n] = LOWEST, sum[n] = before[n] = location[n] = log_scale[n] = 0;
    }
    for (int32 k = 0; k < K; ++k)
        for (int n = 0; n < N; ++n) top[n] = larger(top[n], mixtures.logit(k, n));
    for (int32 k = 0; k < K; ++k)
        for (int n = 0; n < N; ++n) sum[n] += exp(mixtures.logit(k, n) - top[n]);
    for (int32 k = 0; k < K; ++k)
        for (int n = 0; n < N; ++n) {
            const float until = before[n] + exp(mixtures.logit(k, n) - top[n]);
            const float wanted = which[n] * sum[n];
            const bool here = before[n] <= wanted && wanted < until;
            location[n] = here ? mixtures.location(k, n) : location[n];
            log_scale[n] = here ? mixtures.log_scale(k, n) : log_scale[n];
            before[n] = until;
        }
    for (int n = 0; n < N; ++n) {
        const float clamped = smaller(larger(log_scale[n], -WIDEST), WIDEST);
        const float standard = log(where[n]) - log(1.0f - where[n]);
        const float x = fma(exp(clamped), standard, location[n]);
        const float inside = smaller(larger(x, -1.0f), 1.0f);
        const bool valid = is_total(sum[n]) && x == x && log_scale[n] == log_scale[n];
        out[n] = valid ? (int32)fma(inside, 127.5f, 128.0f) : -1;
    }
}

}  // namespace corelab
