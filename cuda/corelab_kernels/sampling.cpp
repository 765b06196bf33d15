// sampling.h on a CPU. Rows are divided among threads, if there are many; each row's result is its
// own, so by how many does not matter.
#include "sampling.h"

#include <algorithm>
#include <system_error>
#include <thread>
#include <vector>

namespace corelab {

namespace {

constexpr int VECTOR = LEAST;  // two of the widest vectors: of one, g++ would unroll the loops

constexpr int64 WORTH = 1 << 16;  // how many numbers a thread must have to be worth its start

// f(begin, end) for parts of 0, …, rows - 1 whose bounds are multiples of VECTOR.
template <class F> void divide(int64 rows, int64 width, int64 threads, F f) {
    const int64 blocks = (rows + VECTOR - 1) / VECTOR;
    const int64 parts = std::max<int64>(1, std::min({rows * width / WORTH, blocks, threads}));
    const auto part = [&](int64 i) {
        f(blocks * i / parts * VECTOR, std::min(blocks * (i + 1) / parts * VECTOR, rows));
    };
    std::vector<std::thread> others;
    for (int64 i = 1; i < parts; ++i) try {
            others.emplace_back(part, i);
        } catch (const std::system_error&) {  // there are too many already
            part(i);
        }
    part(0);
    for (std::thread& other : others) other.join();
}

// The tree of the lanes' sums of e^(logit - largest), where LARGEST is of all of them.
struct Tree {
    alignas(64) float nodes[2 * LANES];
    float largest;
    int32 lanes;

    Tree(Logits logits, const int32 lanes) : lanes(lanes) {
        alignas(64) float top[LANES], most[LANES];
        float* sum = nodes + lanes;
        for (int32 i = 0; i < lanes; i += VECTOR)
            sum_lanes<VECTOR>(logits, lanes, i, top + i, sum + i);
        std::copy_n(top, lanes, most);
        for (int32 h = lanes / 2; h; h /= 2)
            for (int32 i = 0; i < h; ++i) most[i] = larger(most[i], most[i + h]);
        const float of_all = largest = most[0];
        for (int32 i = 0; i < lanes; ++i) sum[i] *= weight(top[i] - of_all);
        for (int32 h = lanes / 2; h; h /= 2)
            for (int32 i = 0; i < h; ++i) nodes[h + i] = nodes[2 * h + i] + nodes[3 * h + i];
    }
    float sum() const { return nodes[1]; }
};

int64 draw(Logits logits, Words words) {
    const uint32 word[] = {words.x, words.y, words.z, words.w};
    int64 drawn = 0;
    for (int64 most = logits.count, level = 0;; most = rounds_for(most), ++level) {
        const Tree tree(logits, lanes_for(most));
        if (!is_total(tree.sum())) return -1;
        const int32 lane = find_leaf(tree.nodes, tree.lanes, uniform(word[level]) * tree.sum());
        drawn += lane * logits.stride;
        if (most <= LANES) return drawn;
        logits = logits.of_lane(lane, tree.lanes);
    }
}

// COUNT <= VECTOR rows of parameters as `Mixtures` has them; what is left over is the last row.
void gather(const float* rows, int64 count, int32 width, float* out) {
    for (int32 i = 0; i < width; ++i)
        for (int n = 0; n < VECTOR; ++n)
            out[i * VECTOR + n] = rows[std::min<int64>(n, count - 1) * width + i];
}

// Of COUNT <= VECTOR symbols those that are levels; -1 for others.
void gather(const int64* symbols, int64 count, int32* out) {
    for (int n = 0; n < VECTOR; ++n) out[n] = level_of(symbols[std::min<int64>(n, count - 1)]);
}

}  // namespace

// ---- the interface ------------------------------------------------------------------------------
// Tensors are contiguous, one row after the other. What can be asked of a row and makes no sense is
// answered with -1, or with NaN where a number is wanted.

extern "C" {

void sample_categorical(const float* logits, int64* out, int64 rows, int64 classes, float scale,
                        uint64 seed, int64 first, int64 threads) {
    divide(rows, classes, threads, [=](int64 begin, int64 end) {
        for (int64 r = begin; r < end; ++r)
            out[r] = draw({logits + r * classes, classes, 1, scale},
                          words_for(first + r, CATEGORICAL, seed));
    });
}

// log_sums[r] is the logarithm of the sum of e^logit.
void categorical_log_prob(const float* logits, const int64* symbols, float* out, float* log_sums,
                          int64 rows, int64 classes, int64 threads) {
    divide(rows, classes, threads, [=](int64 begin, int64 end) {
        for (int64 r = begin; r < end; ++r) {
            const Logits row{logits + r * classes, classes, 1, 1};
            const Tree tree(row, lanes_for(classes));
            log_sums[r] = tree.largest + log(tree.sum());
            out[r] = log_prob(row, symbols[r], tree.largest, tree.sum());
        }
    });
}

void categorical_slopes(const float* grads, const float* logits, const int64* symbols,
                        const float* log_sums, float* out, int64 rows, int64 classes,
                        int64 threads) {
    divide(rows, classes, threads, [=](int64 begin, int64 end) {
        for (int64 r = begin; r < end; ++r) {
            const float *x = logits + r * classes, grad = grads[r], log_sum = log_sums[r];
            float* y = out + r * classes;
            for (int64 i = 0; i < classes; ++i) y[i] = -grad * exp(x[i] - log_sum);
            if (0 <= symbols[r] && symbols[r] < classes) y[symbols[r]] += grad;
        }
    });
}

void sample_logistic_mixture(const float* parameters, int64* out, int64 rows, int64 components,
                             uint64 seed, int64 first, int64 threads) {
    const int32 K = (int32)components, width = 3 * K;
    divide(rows, width, threads, [=](int64 begin, int64 end) {
        std::vector<float> p(width * VECTOR);
        int32 drawn[VECTOR];
        for (int64 r = begin; r < end; r += VECTOR) {
            const int64 count = std::min<int64>(VECTOR, end - r);
            gather(parameters + r * width, count, width, p.data());
            draw_mixtures<VECTOR>({p.data(), K}, first + r, seed, drawn);
            std::copy_n(drawn, count, out + r);
        }
    });
}

void logistic_mixture_log_prob(const float* parameters, const int64* symbols, float* out,
                               int64 rows, int64 components, int64 threads) {
    const int32 K = (int32)components, width = 3 * K;
    divide(rows, width, threads, [=](int64 begin, int64 end) {
        std::vector<float> p(width * VECTOR);
        int32 symbol[VECTOR];
        float log_prob[VECTOR];
        for (int64 r = begin; r < end; r += VECTOR) {
            const int64 count = std::min<int64>(VECTOR, end - r);
            gather(parameters + r * width, count, width, p.data());
            gather(symbols + r, count, symbol);
            mixture_log_prob<VECTOR>({p.data(), K}, symbol, log_prob);
            std::copy_n(log_prob, count, out + r);
        }
    });
}

void logistic_mixture_slopes(const float* grads, const float* parameters, const int64* symbols,
                             float* out, int64 rows, int64 components, int64 threads) {
    const int32 K = (int32)components, width = 3 * K;
    divide(rows, width, threads, [=](int64 begin, int64 end) {
        std::vector<float> p(width * VECTOR), slopes(width * VECTOR);
        int32 symbol[VECTOR];
        float grad[VECTOR];
        for (int64 r = begin; r < end; r += VECTOR) {
            const int64 count = std::min<int64>(VECTOR, end - r);
            gather(parameters + r * width, count, width, p.data());
            gather(symbols + r, count, symbol);
            gather(grads + r, count, 1, grad);
            mixture_slopes<VECTOR>({p.data(), K}, symbol, grad, slopes.data());
            for (int64 n = 0; n < count; ++n)
                for (int32 i = 0; i < width; ++i)
                    out[(r + n) * width + i] = slopes[i * VECTOR + n];
        }
    });
}
}  // extern "C"

}  // namespace corelab
