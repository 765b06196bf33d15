// pixelcnn.h for a GPU: a team is the blocks of a cluster, and draws a group of images in a launch.
//
// If the weights that pixels take fit into the shared memory of so many blocks, each of them keeps
// its columns of every product there: they are read once for all pixels. The sums of a product are
// written to all blocks, and everything else each does for itself, so that they wait for each other
// only once for a product. Else a team is one block, and weights come through the second cache.
//
// A thread of a product has one column or two and some of the rows. What all threads know alike,
// such as where everything is, is in shared memory, and so is what is needed most of a block's
// memory.

#include "cluster.h"
#include "pixelcnn.h"

namespace corelab {
namespace {

constexpr int32 THREADS = 256;  // of a block, at most
constexpr int32 ROWS = 8;  // of a thread's tile in products over many rows

// Columns of it: in float64 there are no registers for more.
template <class T> constexpr int32 COLUMNS = sizeof(T) == 4 ? 2 : 1;

// How a launch shares out images and memory, as pixelcnn.py plans it.
struct Plan {
    int32 images;  // of a team
    int32 kept;    // numbers of shared memory for the weights of pixels; 0: they are not kept,
    int32 room;    // and for a part of a block's memory
    int64 from;    // where the weights of pixels begin
    int64 size;    // of a block's memory
};

template <class T, int32 N> struct alignas(N * sizeof(T)) Several {
    T of[N];
};

// What a block has of a product: some columns.
template <class T> struct Part {
    int32 first, n;  // columns
    const T *w, *bias;  // from the first one on
    int32 row;  // of weights: numbers from one to the next
    bool kept;  // whether they are in shared memory
};

// The columns of a product are shared out if they can be in equal parts, else each block has all.
template <class T> struct Weights {
    int32 rank, blocks;
    const T* from;  // the weights from here on are kept, null: none
    T* kept;

    __device__ bool keeps(const Product<T>& p) const {
        return from && p.w >= from && p.n % blocks == 0;
    }
    __device__ T* place(const T* w) const { return kept + (w - from) / blocks; }

    __device__ Part<T> part(const Product<T>& p) const {
        const bool shared = p.n % blocks == 0;
        const int32 n = shared ? p.n / blocks : p.n, first = shared ? rank * n : 0;
        if (keeps(p)) return {first, n, place(p.w), p.bias ? place(p.bias) : p.bias, n, true};
        return {first, n, p.w + first, p.bias ? p.bias + first : p.bias, p.n, false};
    }
};

// The team that puts weights where they are kept: its products add up nothing.
template <class T> struct Loader {
    static constexpr bool AHEAD = true;
    Weights<T> weights;

    __device__ void product(const Product<T>& p) const {
        if (!weights.keeps(p)) return;
        const int32 n = p.n / weights.blocks, first = weights.rank * n;
        T* const w = weights.place(p.w);
        for (int32 i = threadIdx.x; i < p.k * n; i += blockDim.x) {
            w[i] = p.w[(int64)(i / n) * p.n + first + i % n];
        }
        if (!p.bias) return;
        T* const bias = weights.place(p.bias);
        for (int32 i = threadIdx.x; i < n; i += blockDim.x) bias[i] = p.bias[first + i];
    }
    template <class F> __device__ void each(int32, int32, int32, F) const {}
    template <class F> __device__ void alone(int32, F) const {}
    __device__ void sync() const {}
    __device__ void share() const {}
};

template <class T> struct Members {
    static constexpr bool AHEAD = true;
    Weights<T> weights;
    Memory<T> memory;  // of this block
    int64 size;        // of it, and of that of the next block behind it

    // Where block RANK has what is at P in the memory of this one.
    __device__ T* in(T* p, int32 rank) const {
        if (rank == weights.rank) return p;
        const T* const near = memory.near.base;
        if (near <= p && p < near + memory.room) return in_block(p, rank);
        return p + (rank - weights.rank) * size;
    }

    // M rows of a product from row M0 on, and of its part N columns: N0, N0 + STEP, …
    template <int32 M, int32 N, bool KEPT, bool ALIGNED>
    __device__ void tile(const Product<T>& p, const Part<T>& part, int32 m0, int32 n0,
                         int32 step) const {
        T sum[M][N];
        const T* a[M];
        const auto out = [&](T* y, int32 i) {
            const int32 image = (m0 + i) / p.places, x = (m0 + i) % p.places;
            return y + image * p.y_image + x * p.y_place + part.first + n0;
        };
#pragma unroll
        for (int32 i = 0; i < M; ++i) {
            const int32 image = (m0 + i) / p.places, x = (m0 + i) % p.places;
            a[i] = p.a + image * p.a_image + x * p.a_place;
            const T* extra = p.start(image, x);
            if (extra) extra += part.first;
#pragma unroll
            for (int32 j = 0; j < N; ++j) {
                const int32 n = n0 + j * step;
                sum[i][j] = part.bias ? (extra ? part.bias[n] + extra[n] : part.bias[n])
                            : extra   ? extra[n]
                                      : out(p.y, i)[j * step];
            }
        }
        constexpr int32 AT_ONCE = M == 1 ? 32 : 8;  // weights on their way
        constexpr int32 WIDE = ALIGNED ? 16 / sizeof(T) : 1;
        const T* w = part.w + n0;
        const auto weight = [&](int32 j) { return KEPT ? w[j * step] : __ldg(w + j * step); };
        int32 k = 0;
        for (; k + AT_ONCE <= p.k; k += AT_ONCE) {
            T b[AT_ONCE][N];
#pragma unroll
            for (int32 l = 0; l < AT_ONCE; ++l, w += part.row) {
#pragma unroll
                for (int32 j = 0; j < N; ++j) b[l][j] = weight(j);
            }
#pragma unroll
            for (int32 l = 0; l < AT_ONCE; l += WIDE) {
#pragma unroll
                for (int32 i = 0; i < M; ++i) {
                    using Factors = Several<T, WIDE>;
                    const Factors factors = *reinterpret_cast<const Factors*>(a[i] + k + l);
#pragma unroll
                    for (int32 f = 0; f < WIDE; ++f) {
#pragma unroll
                        for (int32 j = 0; j < N; ++j) {
                            sum[i][j] = fma(factors.of[f], b[l + f][j], sum[i][j]);
                        }
                    }
                }
            }
        }
        for (; k < p.k; ++k, w += part.row) {
#pragma unroll
            for (int32 i = 0; i < M; ++i) {
                const T factor = a[i][k];
#pragma unroll
                for (int32 j = 0; j < N; ++j) sum[i][j] = fma(factor, weight(j), sum[i][j]);
            }
        }
        for (int32 rank = 0; rank < weights.blocks; ++rank) {
            T* const y = in(p.y, rank);
#pragma unroll
            for (int32 i = 0; i < M; ++i) {
#pragma unroll
                for (int32 j = 0; j < N; ++j) out(y, i)[j * step] = sum[i][j];
            }
        }
    }

    // Tiles of ROWS rows, at most one of half as many, and the rest row by row.
    template <int32 N, bool KEPT>
    __device__ void tiles(const Product<T>& p, const Part<T>& part) const {
        const int32 rows = p.images * p.places, columns = part.n / N, whole = rows / ROWS;
        const int32 tall = whole * columns, half = rows % ROWS / (ROWS / 2) * columns;
        for (int32 i = threadIdx.x; i < tall + half; i += blockDim.x) {
            if (i < tall) {
                tile<ROWS, N, KEPT, true>(p, part, i / columns * ROWS, i % columns, columns);
            } else {
                tile<ROWS / 2, N, KEPT, true>(p, part, whole * ROWS, i - tall, columns);
            }
        }
        const int32 rest = rows % (ROWS / 2), first = rows - rest;
        for (int32 i = threadIdx.x; i < rest * part.n; i += blockDim.x) {
            tile<1, 1, KEPT, true>(p, part, first + i / part.n, i % part.n, 0);
        }
    }

    template <bool KEPT> __device__ void add_up(const Product<T>& p, const Part<T>& part) const {
        constexpr int32 WIDE = 16 / sizeof(T);
        const bool aligned = !(p.a_image % WIDE | p.a_place % WIDE) && !((uint64)p.a % 16);
        if (!aligned) {
            for (int32 i = threadIdx.x; i < p.images * p.places * part.n; i += blockDim.x) {
                tile<1, 1, KEPT, false>(p, part, i / part.n, i % part.n, 0);
            }
        } else if (part.n % COLUMNS<T> == 0 &&
                   p.images * p.places / ROWS * part.n >= (int32)blockDim.x) {
            tiles<COLUMNS<T>, KEPT>(p, part);
        } else {
            tiles<1, KEPT>(p, part);
        }
    }

    // Not inlined: a copy for each of the layers' products would take minutes to compile.
    __device__ __noinline__ void product(const Product<T>& p) const {
        const Part<T> part = weights.part(p);
        if (part.kept) add_up<true>(p, part);
        else add_up<false>(p, part);
    }
    template <class F> __device__ void each(int32 images, int32 places, int32 channels, F f) const {
        for (int32 i = threadIdx.x; i < images * places * channels; i += blockDim.x) {
            const int32 m = i / channels;
            f(m / places, m % places, i % channels);
        }
    }
    template <class F> __device__ void alone(int32 images, F f) const {
        for (int32 i = threadIdx.x; i < images; i += blockDim.x) f(i);
    }
    __device__ void sync() const { __syncthreads(); }
    __device__ void share() const {
        if (weights.blocks > 1) sync_cluster();
        else __syncthreads();
    }
};

// One object for all threads of a block, at PLACE.
template <class Team, class T>
__device__ const Sampler<T, Team>& sampler(void* place, const Team& team, const Task<T>& task,
                                           const Memory<T>& memory, int32 first, int32 images) {
    __syncthreads();
    if (threadIdx.x == 0) {
        const Sampler<T, Team> made(team, task, memory, first, images);
        memcpy(place, &made, sizeof made);
    }
    __syncthreads();
    return *static_cast<const Sampler<T, Team>*>(place);
}

template <class T> __device__ void sample(Task<T> task, const Plan& plan, T* workspace) {
    const Network& net = task.net;
    const int32 rank = cluster_rank(), blocks = cluster_size();
    T* const kept = reinterpret_cast<T*>(shared_memory());
    T* const near = kept + plan.kept;
    void* const object = near + plan.room;

    const int32 first = (int32)blockIdx.x / blocks * plan.images;
    const int32 images = smaller(plan.images, task.images - first);
    const int64 all = (int64)task.images * net.channels * net.height * net.width;
    task.symbols += rank * all;  // each block draws for itself
    task.failed += rank * task.images;
    const Memory<T> memory = {{near, 0}, {workspace + blockIdx.x * plan.size, 0}, plan.room};

    Weights<T> weights = {rank, blocks, nullptr, kept};
    if (plan.kept) {
        weights.from = task.weights + plan.from;
        const Loader<T> loader = {weights};
        sampler(object, loader, task, Memory<T>{}, 0, 1).ask({weights.from, 0});
    }
    const Members<T> members = {weights, memory, plan.size};
    sampler(object, members, task, memory, first, images).run();
    if (blocks > 1) sync_cluster();  // nobody is gone as long as somebody writes to it
}

// The bytes of a block's object, and numbers of its memory for one image, for two, … up to MOST.
template <class T> __device__ void needs(const Network& net, int32 most, int64* of) {
    using Block = Sampler<T, Members<T>>;
    Task<T> task = {};
    task.net = net;
    of[0] = sizeof(Block);
    for (int32 images = 1; images <= most; ++images) {
        of[images] = Block(Members<T>(), task, Memory<T>{}, 0, images).size();
    }
}

}  // namespace

extern "C" {

__global__ void __launch_bounds__(THREADS, 1)
    pixelcnn_sample32(Task<float> task, Plan plan, float* workspace) {
    sample(task, plan, workspace);
}
__global__ void __launch_bounds__(THREADS, 1)
    pixelcnn_sample64(Task<double> task, Plan plan, double* workspace) {
    sample(task, plan, workspace);
}

__global__ void pixelcnn_needs32(Network net, int32 most, int64* of) {
    needs<float>(net, most, of);
}
__global__ void pixelcnn_needs64(Network net, int32 most, int64* of) {
    needs<double>(net, most, of);
}
}

}  // namespace corelab
