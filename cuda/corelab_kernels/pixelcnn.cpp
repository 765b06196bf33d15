// pixelcnn.h for a CPU: each thread is a team of its own, and draws one group of images at a time.

#include "pixelcnn.h"
#include "vector.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#include <thread>
#include <vector>

namespace corelab {
namespace {

constexpr int32 TALL = 6, BROAD = Vector<float>::WIDTH == 8 ? 2 : 4;  // sums of a tile: 24, or 12

// One number, where there is not a vector of them.
template <class T> struct Scalar {
    static constexpr int32 WIDTH = 1;
    T v;
    static Scalar load(const T* p) { return {*p}; }
    static Scalar all(T x) { return {x}; }
    void store(T* p) const { *p = v; }
    Scalar operator+(Scalar b) const { return {v + b.v}; }
    void add_product(Scalar a, Scalar b) { v = fma(a.v, b.v, v); }
};

// ---- matrix products ----------------------------------------------------------------------------

constexpr int32 DEPTH = 64;  // terms that are added at once: their weights stay in the first cache

// The part of a product in M rows, from column N on, for terms FROM to TO. The loops over rows are
// unrolled by name: the sums are then in registers from beginning to end.
template <class V, int32 M, int32 N, class T>
void tile(const Product<T>& p, int32 place, int32 n, int32 from, int32 to) {
    const bool begun = from || !(p.bias || p.extra), both = !begun && p.bias && p.extra;
    const T *a[M], *begin[M], *more[M];
    T* y[M];
    int32 image = place / p.places, x = place % p.places;
#pragma GCC unroll 8
    for (int32 m = 0; m < M; ++m) {
        a[m] = p.a + image * p.a_image + x * p.a_place;
        y[m] = p.y + image * p.y_image + x * p.y_place + n;
        more[m] = p.extra ? p.start(image, x) + n : nullptr;
        begin[m] = begun ? y[m] : p.bias ? p.bias + n : more[m];
        if (++x == p.places) x = 0, ++image;
    }
    V sum[M][N];
#pragma GCC unroll 8
    for (int32 m = 0; m < M; ++m) {
        for (int32 j = 0; j < N; ++j) sum[m][j] = V::load(begin[m] + j * V::WIDTH);
    }
    if (both) {
#pragma GCC unroll 8
        for (int32 m = 0; m < M; ++m) {
            for (int32 j = 0; j < N; ++j) sum[m][j] = sum[m][j] + V::load(more[m] + j * V::WIDTH);
        }
    }
    const T* w = p.w + (int64)from * p.n + n;
    // of the weights of the next terms each of the first tiles fetches a line: they may be far away
    const T* next = w + (int64)DEPTH * p.n + place / M % N * V::WIDTH;
    for (int32 k = from; k < to; ++k, w += p.n) {
        V b[N];
        for (int32 j = 0; j < N; ++j) b[j] = V::load(w + j * V::WIDTH);
        if constexpr (M == TALL) __builtin_prefetch(next + (k - from) * p.n);
#pragma GCC unroll 8
        for (int32 m = 0; m < M; ++m) {
            const V x = V::all(a[m][k]);
            for (int32 j = 0; j < N; ++j) sum[m][j].add_product(x, b[j]);
        }
    }
#pragma GCC unroll 8
    for (int32 m = 0; m < M; ++m) {
        for (int32 j = 0; j < N; ++j) sum[m][j].store(y[m] + j * V::WIDTH);
    }
}

// All rows, of N vectors of columns from column N0 on.
template <class V, int32 N, class T> void strip(const Product<T>& p, int32 n) {
    const int32 rows = p.images * p.places;
    int32 from = 0;
    do {
        const int32 to = std::min(from + DEPTH, p.k);
        int32 m = 0;
        for (; m + TALL <= rows; m += TALL) tile<V, TALL, N>(p, m, n, from, to);
        if (m + 4 <= rows) tile<V, 4, N>(p, m, n, from, to), m += 4;
        if (m + 2 <= rows) tile<V, 2, N>(p, m, n, from, to), m += 2;
        if (m < rows) tile<V, 1, N>(p, m, n, from, to);
        from = to;
    } while (from < p.k);
}

struct Thread {
    static constexpr bool AHEAD = false;

    template <class T> void product(const Product<T>& p) const {
        using V = Vector<T>;
        int32 n = 0;
        if (p.images * p.places == 1) {  // only the weights pass through: as many as there are
            for (; n + 2 * BROAD * V::WIDTH <= p.n; n += 2 * BROAD * V::WIDTH) {
                tile<V, 1, 2 * BROAD>(p, 0, n, 0, p.k);
            }
        }
        for (; n + BROAD * V::WIDTH <= p.n; n += BROAD * V::WIDTH) strip<V, BROAD>(p, n);
        for (; n + V::WIDTH <= p.n; n += V::WIDTH) strip<V, 1>(p, n);
        for (; n < p.n; ++n) strip<Scalar<T>, 1>(p, n);
    }
    template <class F> void each(int32 images, int32 places, int32 channels, F f) const {
        for (int32 i = 0; i < images; ++i) {
            for (int32 x = 0; x < places; ++x) {
#pragma GCC ivdep
                for (int32 c = 0; c < channels; ++c) f(i, x, c);
            }
        }
    }
    template <class F> void alone(int32 images, F f) const {
        for (int32 i = 0; i < images; ++i) f(i);
    }
    void sync() const {}
    void share() const {}
};

// ---- all images ---------------------------------------------------------------------------------

constexpr int32 GROUP = 8;  // images of a team: their rows share each weight that is read

template <class T> int run(const Task<T>& task, int32 threads) {
    const int32 group = std::clamp((task.images + threads - 1) / threads, 1, GROUP);
    const int32 groups = (task.images + group - 1) / group;
    std::atomic<int32> next = 0, lacking = 0;
    const int64 size = Sampler<T, Thread>(Thread(), task, Memory<T>{}, 0, group).size();
    if (size > INT32_MAX) return 1;
    auto work = [&] {
        const std::align_val_t line{64};
        T* workspace = static_cast<T*>(operator new(size * sizeof(T), line, std::nothrow));
        if (!workspace) {
            lacking = 1;
            return;
        }
        for (int32 g; (g = next++) < groups;) {
            const int32 first = g * group;
            const int32 images = std::min(group, task.images - first);
            const Memory<T> memory = {{nullptr, 0}, {workspace, 0}, 0};
            Sampler<T, Thread>(Thread(), task, memory, first, images).run();
        }
        operator delete(workspace, line);
    };
    std::vector<std::thread> others;
    for (int32 i = 1; i < std::min(threads, groups); ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
    return lacking;
}

}  // namespace
}  // namespace corelab

extern "C" {

// 0, or 1 if there is not enough memory
int pixelcnn_sample32(const corelab::Task<float>* task, int threads) {
    return corelab::run(*task, threads);
}
int pixelcnn_sample64(const corelab::Task<double>* task, int threads) {
    return corelab::run(*task, threads);
}
}
