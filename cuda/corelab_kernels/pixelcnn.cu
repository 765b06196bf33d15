// pixelcnn.h for a GPU: a team is the blocks of a cluster, and draws a group of images in a launch.
//
// If the weights that pixels take fit into the shared memory of so many blocks, each of them keeps
// its columns of every product there: they are read once for all pixels. The sums of a product are
// written to all blocks, and everything else each does for itself, so that they wait for each other
// only once for a product. Else a team is one block, and weights come through the second cache. So
// do those of products whose columns cannot be shared out, which each block adds up for itself.
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

// Numbers that are read at once.
template <class T> constexpr int32 WIDE = 16 / sizeof(T);

// The blocks of a cluster, 2^SHIFT of them, and which one this is.
struct Blocks {
    int32 rank, shift;

    __device__ int32 count() const { return 1 << shift; }
    __device__ bool share_out(int32 columns) const { return !(columns & (count() - 1)); }
};

// What a block adds up of a product: its columns, or all if they cannot be shared out equally.
struct Part {
    int32 first, n;

    __device__ Part(int32 columns, const Blocks& blocks) {
        const bool equal = blocks.share_out(columns);
        n = equal ? columns >> blocks.shift : columns;
        first = equal ? blocks.rank * n : 0;
    }
};

// The weights of pixels in shared memory: of each product, a block's columns, WIDE terms at a time.
template <class T> struct Weights {
    Blocks blocks;
    const T* from;  // the weights from here on are kept, null: none

    // Whether those of P are: if they can be shared out, and then begin where WIDE can be read.
    __device__ bool keep(const Product<T>& p) const {
        if (!from || p.w < from || !blocks.share_out(p.n)) return false;
        return ((p.w - from) >> blocks.shift) % WIDE<T> == 0;
    }
    // Where term K of column N is, of so many TERMS and COLUMNS.
    __device__ static int32 at(int32 k, int32 n, int32 terms, int32 columns) {
        const bool whole = k < terms / WIDE<T> * WIDE<T>;
        const int32 group = k / WIDE<T> * WIDE<T>;
        return whole ? group * columns + n * WIDE<T> + k - group : k * columns + n;
    }
    __device__ T* place(const T* w) const {
        return reinterpret_cast<T*>(shared_memory()) + ((w - from) >> blocks.shift);
    }
};

// The team that puts weights where they are kept: its products add up nothing.
template <class T> struct Loader {
    static constexpr bool AHEAD = true;
    Weights<T> weights;

    __device__ void product(const Product<T>& p) const {
        if (!weights.keep(p)) return;
        const Part part(p.n, weights.blocks);
        T* const w = weights.place(p.w);
        for (int32 i = threadIdx.x; i < p.k * part.n; i += blockDim.x) {
            const int32 k = i / part.n, n = i % part.n;
            w[Weights<T>::at(k, n, p.k, part.n)] = p.w[(int64)k * p.n + part.first + n];
        }
        for (int32 i = threadIdx.x; p.bias && i < part.n; i += blockDim.x) {
            weights.place(p.bias)[i] = p.bias[part.first + i];
        }
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
        const int32 own = weights.blocks.rank;
        if (rank == own) return p;
        const T* const near = memory.near.base;
        if (near <= p && p < near + memory.room) return in_block(p, rank);
        return p + (rank - own) * size;
    }

    template <bool ALIGNED> __device__ static Several<T, WIDE<T>> wide(const T* p) {
        if constexpr (ALIGNED) {
            return *reinterpret_cast<const Several<T, WIDE<T>>*>(p);
        } else {
            Several<T, WIDE<T>> read;
#pragma unroll
            for (int32 i = 0; i < WIDE<T>; ++i) read.of[i] = p[i];
            return read;
        }
    }

    // Of column N of the weights W, with so many COLUMNS, the terms from K on.
    template <bool KEPT>
    __device__ static Several<T, WIDE<T>> terms(const T* w, int32 columns, int32 k, int32 n) {
        if constexpr (KEPT) {
            return wide<true>(w + k * columns + n * WIDE<T>);
        } else {
            Several<T, WIDE<T>> read;
#pragma unroll
            for (int32 i = 0; i < WIDE<T>; ++i) read.of[i] = __ldg(w + (k + i) * columns + n);
            return read;
        }
    }

    // M rows of a product from row M0 on, and of its PART N columns: N0, N0 + STEP, …
    template <int32 M, int32 N, bool KEPT, bool ALIGNED>
    __device__ void tile(const Product<T>& p, const Part& part, int32 m0, int32 n0,
                         int32 step) const {
        T sum[M][N];
        const T* a[M];
        int32 out[M];  // from Y on
        const T* const bias = !p.bias ? p.bias : KEPT ? weights.place(p.bias) : p.bias + part.first;
        int32 image = p.places == 1 ? m0 : m0 / p.places, x = m0 - image * p.places;
#pragma unroll
        for (int32 i = 0; i < M; ++i) {
            a[i] = p.a + image * p.a_image + x * p.a_place;
            out[i] = image * (int32)p.y_image + x * (int32)p.y_place + part.first + n0;
            const T* extra = p.start(image, x);
            if (extra) extra += part.first;
#pragma unroll
            for (int32 j = 0; j < N; ++j) {
                const int32 n = n0 + j * step;
                sum[i][j] = bias    ? (extra ? bias[n] + extra[n] : bias[n])
                            : extra ? extra[n]
                                    : p.y[out[i] + j * step];
            }
            if (++x == p.places) x = 0, ++image;
        }

        using Wide = Several<T, WIDE<T>>;
        constexpr int32 AT_ONCE = M == 1 ? 32 : 8, GROUPS = AT_ONCE / WIDE<T>;  // on their way
        const T* const w = KEPT ? weights.place(p.w) : p.w + part.first;
        int32 k = 0;
        for (; k + AT_ONCE <= p.k; k += AT_ONCE) {
            Wide b[GROUPS][N], factors[M == 1 ? GROUPS : 1];
#pragma unroll
            for (int32 l = 0; l < GROUPS; ++l) {
                if (M == 1) factors[l] = wide<ALIGNED>(a[0] + k + l * WIDE<T>);
#pragma unroll
                for (int32 j = 0; j < N; ++j) {
                    b[l][j] = terms<KEPT>(w, KEPT ? part.n : p.n, k + l * WIDE<T>, n0 + j * step);
                }
            }
#pragma unroll
            for (int32 l = 0; l < GROUPS; ++l) {
#pragma unroll
                for (int32 i = 0; i < M; ++i) {
                    if (M > 1) factors[0] = wide<ALIGNED>(a[i] + k + l * WIDE<T>);
#pragma unroll
                    for (int32 f = 0; f < WIDE<T>; ++f) {
                        const T factor = factors[M == 1 ? l : 0].of[f];
#pragma unroll
                        for (int32 j = 0; j < N; ++j) {
                            sum[i][j] = fma(factor, b[l][j].of[f], sum[i][j]);
                        }
                    }
                }
            }
        }
        for (; k < p.k; ++k) {
#pragma unroll
            for (int32 j = 0; j < N; ++j) {
                const int32 n = n0 + j * step;
                const T b = w[KEPT ? Weights<T>::at(k, n, p.k, part.n) : k * p.n + n];
#pragma unroll
                for (int32 i = 0; i < M; ++i) sum[i][j] = fma(a[i][k], b, sum[i][j]);
            }
        }

        // what every block adds up, or goes on adding to, it needs alone
        const bool own = part.n == p.n || p.unfinished;
        for (int32 rank = 0; rank < weights.blocks.count(); ++rank) {
            if (own && rank != weights.blocks.rank) continue;
            T* const y = in(p.y, rank);
#pragma unroll
            for (int32 i = 0; i < M; ++i) {
#pragma unroll
                for (int32 j = 0; j < N; ++j) y[out[i] + j * step] = sum[i][j];
            }
        }
    }

    // Which of the members that add up P this thread is, if whole warps before it do something else.
    __device__ int32 member(const Product<T>& p) const {
        if (!p.beside) return threadIdx.x;
        const int32 columns = (p.beside * p.images) >> weights.blocks.shift;
        const int32 i = threadIdx.x - (columns + 31) / 32 * 32 % (int32)blockDim.x;
        return i < 0 ? i + blockDim.x : i;
    }

    // Tiles of ROWS rows, at most one of half as many, and the rest row by row.
    template <int32 N, bool KEPT>
    __device__ void tiles(const Product<T>& p, const Part& part) const {
        const int32 rows = p.images * p.places, columns = part.n / N, whole = rows / ROWS;
        const int32 tall = whole * columns, half = rows % ROWS / (ROWS / 2) * columns;
        for (int32 i = member(p); i < tall + half; i += blockDim.x) {
            if (i < tall) {
                tile<ROWS, N, KEPT, true>(p, part, i / columns * ROWS, i % columns, columns);
            } else {
                tile<ROWS / 2, N, KEPT, true>(p, part, whole * ROWS, i - tall, columns);
            }
        }
        const int32 rest = rows % (ROWS / 2);
        one_by_one<KEPT, true>(p, part, rows - rest, rest);
    }

    template <bool KEPT, bool ALIGNED>
    __device__ void one_by_one(const Product<T>& p, const Part& part, int32 first,
                               int32 rows) const {
        for (int32 i = member(p); i < rows * part.n; i += blockDim.x) {
            const int32 m = rows == 1 ? 0 : i / part.n;
            tile<1, 1, KEPT, ALIGNED>(p, part, first + m, i - m * part.n, 0);
        }
    }

    template <bool KEPT> __device__ void add_up(const Product<T>& p, const Part& part) const {
        const int32 rows = p.images * p.places;
        const bool aligned = !(p.a_image % WIDE<T> | p.a_place % WIDE<T> | (int64)p.a % 16);
        if (!aligned) one_by_one<KEPT, false>(p, part, 0, rows);
        else if (rows < ROWS / 2) one_by_one<KEPT, true>(p, part, 0, rows);
        else if (KEPT || part.n % COLUMNS<T> || rows / ROWS * part.n < (int32)blockDim.x)
            tiles<1, KEPT>(p, part);
        else tiles<KEPT ? 1 : COLUMNS<T>, KEPT>(p, part);
    }

    // Not inlined: a copy for each of the layers' products would take minutes to compile. P comes in
    // registers, not by an address that each thread would have to write it to.
    __device__ __noinline__ void product(const Product<T> p) const {
        const Part part(p.n, weights.blocks);
        if (weights.keep(p)) add_up<true>(p, part);
        else add_up<false>(p, part);
    }
    template <class F> __device__ void each(int32 images, int32 places, int32 channels, F f) const {
        const int32 rows = images * places;
        for (int32 i = threadIdx.x; i < rows * channels; i += blockDim.x) {
            const int32 m = rows == 1 ? 0 : i / channels, image = places == 1 ? m : m / places;
            f(image, m - image * places, i - m * channels);
        }
    }
    template <class F> __device__ void alone(int32 images, F f) const {
        for (int32 i = threadIdx.x; i < images; i += blockDim.x) f(i);
    }
    __device__ void sync() const { __syncthreads(); }
    __device__ void share() const {
        if (weights.blocks.shift) sync_cluster();
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
    const int32 rank = cluster_rank(), count = cluster_size();
    int32 shift = 0;
    while (1 << shift < count) ++shift;
    T* const near = reinterpret_cast<T*>(shared_memory()) + plan.kept;
    void* const object = near + plan.room;

    const int32 first = ((int32)blockIdx.x >> shift) * plan.images;
    const int32 images = smaller(plan.images, task.images - first);
    const int64 all = (int64)task.images * net.channels * net.height * net.width;
    task.symbols += rank * all;  // each block draws for itself
    task.failed += rank * task.images;
    const Memory<T> memory = {{near, 0}, {workspace + blockIdx.x * plan.size, 0}, plan.room};

    Weights<T> weights = {{rank, shift}, nullptr};
    if (plan.kept) {
        weights.from = task.weights + plan.from;
        const Loader<T> loader = {weights};
        sampler(object, loader, task, memory, 0, 1).ask({weights.from, 0});
    }
    const Members<T> members = {weights, memory, plan.size};
    sampler(object, members, task, memory, first, images).run();
    if (shift) sync_cluster();  // nobody is gone as long as somebody writes to it
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
