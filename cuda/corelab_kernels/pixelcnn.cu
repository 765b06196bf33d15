// pixelcnn.h for a GPU: each block is a team, and draws one image in one launch.
//
// A thread of a product has one column and some of the rows; weights come through the cache of the
// whole GPU, which holds them all, and each is read once for these rows. What all threads know
// alike, such as where everything is, is in shared memory: so their registers are enough for the
// rest, none is spilled, and two blocks have room on a multiprocessor.

#include "pixelcnn.h"

namespace corelab {
namespace {

constexpr int32 THREADS = 256;
constexpr int32 ROWS = 8;  // of a thread's tile in products over a whole row of pixels

struct Members {
    template <int32 M, class T> __device__ static void tile(const Product<T>& p, int32 m, int32 n) {
        T sum[M];
        const T* a[M];
        T* y[M];
#pragma unroll
        for (int32 i = 0; i < M; ++i) {
            const int32 image = (m + i) / p.places, x = (m + i) % p.places;
            a[i] = p.a + image * p.a_image + x * p.a_place;
            y[i] = p.y + image * p.y_image + x * p.y_place + n;
            const T* extra = p.start(image, x);
            sum[i] = p.bias ? (extra ? p.bias[n] + extra[n] : p.bias[n]) : extra ? extra[n] : *y[i];
        }
        constexpr int32 AT_ONCE = M == 1 ? 32 : 8;  // weights on their way
        const T* w = p.w + n;
        int32 k = 0;
        for (; k + AT_ONCE <= p.k; k += AT_ONCE) {
            T b[AT_ONCE];
#pragma unroll
            for (int32 j = 0; j < AT_ONCE; ++j, w += p.n) b[j] = __ldg(w);
#pragma unroll
            for (int32 j = 0; j < AT_ONCE; ++j) {
#pragma unroll
                for (int32 i = 0; i < M; ++i) sum[i] = fma(a[i][k + j], b[j], sum[i]);
            }
        }
        for (; k < p.k; ++k, w += p.n) {
            const T b = __ldg(w);
#pragma unroll
            for (int32 i = 0; i < M; ++i) sum[i] = fma(a[i][k], b, sum[i]);
        }
#pragma unroll
        for (int32 i = 0; i < M; ++i) *y[i] = sum[i];
    }

    // Not inlined: a copy for each of the layers' products would take minutes to compile.
    template <class T> __device__ __noinline__ void product(const Product<T>& p) const {
        const int32 rows = p.images * p.places, whole = rows / ROWS;
        for (int32 i = threadIdx.x; i < whole * p.n; i += blockDim.x) {
            tile<ROWS>(p, i / p.n * ROWS, i % p.n);
        }
        for (int32 i = threadIdx.x; i < (rows - whole * ROWS) * p.n; i += blockDim.x) {
            tile<1>(p, whole * ROWS + i / p.n, i % p.n);
        }
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
    __shared__ alignas(Block) unsigned char memory[sizeof(Block)];
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
