// sampling.h on a GPU: what sampling.cpp does, with a thread for each lane of a row of logits and
// for each row of parameters of mixtures. All tensors are contiguous.
#include "sampling.h"

namespace corelab {

namespace {

constexpr int32 THREADS = LANES;  // of a block

struct Shared {
    float nodes[2 * THREADS], largest[THREADS];
    int32 leaf[THREADS];
};

// The lanes of a row stand side by side in a block, as many rows as there is room for.
struct Place {
    int32 lane, begin, lanes;  // of the row in the block
    int64 row;

    __device__ explicit Place(int64 classes) : lanes(lanes_for(classes)) {
        lane = threadIdx.x % lanes;
        begin = threadIdx.x - lane;
        row = (int64)blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes;
    }
};

// The tree of the sums of e^(logit - largest) of each row, shared out among so many LANES; returns
// the largest. All threads of the block take part.
__device__ float grow(Shared& shared, Place place, Logits logits, int32 lanes) {
    float* nodes = shared.nodes + 2 * place.begin;
    float* largest = shared.largest + place.begin;
    const int32 i = place.lane;
    float top = LOWEST, sum = 0;
    if (i < lanes) sum_lanes<1>(logits, lanes, i, &top, &sum);
    largest[i] = top;
    __syncthreads();
    for (int32 h = place.lanes / 2; h; h /= 2) {
        if (i < h) largest[i] = larger(largest[i], largest[i + h]);
        __syncthreads();
    }
    const float of_all = largest[0];
    if (i < lanes) nodes[lanes + i] = sum * weight(top - of_all);
    __syncthreads();
    for (int32 h = lanes / 2; h; h /= 2) {
        if (i < h) nodes[h + i] = nodes[2 * h + i] + nodes[3 * h + i];
        __syncthreads();
    }
    return of_all;
}

__device__ int64 thread() { return (int64)blockIdx.x * blockDim.x + threadIdx.x; }

}  // namespace

extern "C" {

__global__ void __launch_bounds__(THREADS)
    sample_categorical(const float* logits, int64* out, int64 rows, int64 classes, float scale,
                       uint64 seed, int64 first) {
    __shared__ Shared shared;
    const Place place(classes);
    const bool real = place.row < rows;
    const float* nodes = shared.nodes + 2 * place.begin;
    Logits part{logits + (real ? place.row * classes : 0), classes, 1, scale};
    const Words words = words_for(first + place.row, CATEGORICAL, seed);
    int64 drawn = 0;
    bool valid = true;
    for (int64 most = classes, level = 0;; most = rounds_for(most), ++level) {
        const int32 lanes = lanes_for(most);
        grow(shared, place, part, lanes);
        if (place.lane == 0) {
            const uint32 word = level == 0 ? words.x : level == 1 ? words.y
                              : level == 2 ? words.z : words.w;
            valid = valid && is_total(nodes[1]);
            shared.leaf[place.begin] = find_leaf(nodes, lanes, uniform(word) * nodes[1]);
        }
        __syncthreads();
        const int32 leaf = shared.leaf[place.begin];
        drawn += leaf * part.stride;
        if (most <= LANES) break;
        part = part.of_lane(leaf, lanes);
    }
    if (real && place.lane == 0) out[place.row] = valid ? drawn : -1;
}

__global__ void __launch_bounds__(THREADS)
    categorical_log_prob(const float* logits, const int64* symbols, float* out, float* log_sums,
                         int64 rows, int64 classes) {
    __shared__ Shared shared;
    const Place place(classes);
    const bool real = place.row < rows;
    const Logits row{logits + (real ? place.row * classes : 0), classes, 1, 1};
    const float largest = grow(shared, place, row, place.lanes);
    if (real && place.lane == 0) {
        const float sum = shared.nodes[2 * place.begin + 1];
        log_sums[place.row] = largest + log(sum);
        out[place.row] = log_prob(row, symbols[place.row], largest, sum);
    }
}

__global__ void __launch_bounds__(THREADS)
    categorical_slopes(const float* grads, const float* logits, const int64* symbols,
                       const float* log_sums, float* out, int64 rows, int64 classes) {
    const Place place(classes);
    if (place.row >= rows) return;
    const float grad = grads[place.row], log_sum = log_sums[place.row];
    const int64 begin = place.row * classes, symbol = symbols[place.row];
    for (int64 i = place.lane; i < classes; i += place.lanes) {
        const float slope = -grad * exp(logits[begin + i] - log_sum);
        out[begin + i] = i == symbol ? slope + grad : slope;
    }
}

__global__ void sample_logistic_mixture(const float* parameters, int64* out, int64 rows,
                                        int64 components, uint64 seed, int64 first) {
    const int64 r = thread();
    if (r >= rows) return;
    int32 drawn;
    draw_mixtures<1>({parameters + 3 * components * r, (int32)components}, first + r, seed, &drawn);
    out[r] = drawn;
}

__global__ void logistic_mixture_log_prob(const float* parameters, const int64* symbols, float* out,
                                          int64 rows, int64 components) {
    const int64 r = thread();
    if (r >= rows) return;
    const int32 symbol = level_of(symbols[r]);
    mixture_log_prob<1>({parameters + 3 * components * r, (int32)components}, &symbol, out + r);
}

__global__ void logistic_mixture_slopes(const float* grads, const float* parameters,
                                        const int64* symbols, float* out, int64 rows,
                                        int64 components) {
    const int64 r = thread();
    if (r >= rows) return;
    const int32 symbol = level_of(symbols[r]);
    const int64 begin = 3 * components * r;
    mixture_slopes<1>({parameters + begin, (int32)components}, &symbol, grads + r, out + begin);
}
}  // extern "C"

}  // namespace corelab
