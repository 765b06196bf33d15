// pixelcnn.h for a GPU: each block is a team, and draws one image in one launch.
//
// A thread of a product has one column or two and some of the rows; weights come through the cache
// of the whole GPU, which holds them all, and each is read once for these rows. What all threads know
// alike, such as where everything is, is in shared memory: so their registers are enough for the
// rest, none is spilled, and two blocks have room on a multiprocessor.

#include "pixelcnn.h"

namespace corelab {
namespace {

constexpr int32 THREADS = 256;
constexpr int32 ROWS = 8;  // of a thread's tile in products over a row of pixels

// Columns of it: in float64 there are no registers for more.
template <class T> constexpr int32 COLUMNS = sizeof(T) == 4 ? 2 : 1;

struct Members {
    // M rows of a product from row M0 on, and of it N columns: N0, N0 + STEP, …
    template <int32 M, int32 N, class T>
    __device__ static void tile(const Product<T>& p, int32 m0, int32 n0, int32 step) {
        T sum[M][N];
        const T* a[M];
        const auto out = [&](int32 i) {
            const int32 image = (m0 + i) / p.places, x = (m0 + i) % p.places;
            return p.y + image * p.y_image + x * p.y_place + n0;
        };
#pragma unroll
        for (int32 i = 0; i < M; ++i) {
            const int32 image = (m0 + i) / p.places, x = (m0 + i) % p.places;
            a[i] = p.a + image * p.a_image + x * p.a_place;
            const T* extra = p.start(image, x);
#pragma unroll
            for (int32 j = 0; j < N; ++j) {
                const int32 n = n0 + j * step;
                sum[i][j] = p.bias  ? (extra ? p.bias[n] + extra[n] : p.bias[n])
                            : extra ? extra[n]
                                    : out(i)[j * step];
            }
        }
        constexpr int32 AT_ONCE = M == 1 ? 32 : 8;  // weights on their way
        const T* w = p.w + n0;
        int32 k = 0;
        for (; k + AT_ONCE <= p.k; k += AT_ONCE) {
            T b[AT_ONCE][N];
#pragma unroll
            for (int32 l = 0; l < AT_ONCE; ++l, w += p.n) {
#pragma unroll
                for (int32 j = 0; j < N; ++j) b[l][j] = __ldg(w + j * step);
            }
#pragma unroll
            for (int32 l = 0; l < AT_ONCE; ++l) {
#pragma unroll
                for (int32 i = 0; i < M; ++i) {
                    const T factor = a[i][k + l];
#pragma unroll
                    for (int32 j = 0; j < N; ++j) sum[i][j] = fma(factor, b[l][j], sum[i][j]);
                }
            }
        }
        for (; k < p.k; ++k, w += p.n) {
#pragma unroll
            for (int32 i = 0; i < M; ++i) {
                const T factor = a[i][k];
#pragma unroll
                for (int32 j = 0; j < N; ++j) sum[i][j] = fma(factor, __ldg(w + j * step), sum[i][j]);
            }
        }
#pragma unroll
        for (int32 i = 0; i < M; ++i) {
#pragma unroll
            for (int32 j = 0; j < N; ++j) out(i)[j * step] = sum[i][j];
        }
    }

    // Tiles of ROWS rows, at most one of half as many, and the rest row by row.
    template <int32 N, class T> __device__ static void tiles(const Product<T>& p) {
        const int32 rows = p.images * p.places, columns = p.n / N, whole = rows / ROWS;
        const int32 tall = whole * columns, half = rows % ROWS / (ROWS / 2) * columns;
        for (int32 i = threadIdx.x; i < tall + half; i += blockDim.x) {
            if (i < tall) tile<ROWS, N>(p, i / columns * ROWS, i % columns, columns);
            else tile<ROWS / 2, N>(p, whole * ROWS, i - tall, columns);
        }
        const int32 rest = rows % (ROWS / 2), first = rows - rest;
        for (int32 i = threadIdx.x; i < rest * p.n; i += blockDim.x) {
            tile<1, 1>(p, first + i / p.n, i % p.n, 0);
        }
    }

    // Not inlined: a copy for each of the layers' products would take minutes to compile.
    template <class T> __device__ __noinline__ void product(const Product<T>& p) const {
        if (p.n % COLUMNS<T> == 0) tiles<COLUMNS<T>>(p);
        else tiles<1>(p);
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
};

template <class T> __device__ void sample(const Task<T>& task, T* workspace, int64 size) {
    using Block = Sampler<T, Members>;
    alignas(Block) __shared__ unsigned char memory[sizeof(Block)];
    if (threadIdx.x == 0) {
        const Block block(Members(), task, workspace + blockIdx.x * size, blockIdx.x, 1);
        memcpy(memory, &block, sizeof block);
    }
    __syncthreads();
    reinterpret_cast<const Block*>(memory)->run();
}

template <class T> __device__ int64 workspace(const Network& net) {
    Task<T> task = {};
    task.net = net;
    return Sampler<T, Members>(Members(), task, nullptr, 0, 1).size();
}

}  // namespace

extern "C" {

__global__ void __launch_bounds__(THREADS)
    pixelcnn_sample32(Task<float> task, float* workspace, int64 size) {
    sample(task, workspace, size);
}
__global__ void __launch_bounds__(THREADS)
    pixelcnn_sample64(Task<double> task, double* workspace, int64 size) {
    sample(task, workspace, size);
}

// The size of a block's memory in numbers.
__global__ void pixelcnn_workspace32(Network net, int64* size) { *size = workspace<float>(net); }
__global__ void pixelcnn_workspace64(Network net, int64* size) { *size = workspace<double>(net); }
}

}  // namespace corelab
