// Runs the kernels of sampling.cu on a CPU, with a driver of its own: each thread of a block is a
// thread, and blocks follow each other. So the GPU's order of things is followed, where there is no
// GPU, and ThreadSanitizer finds barriers that are missing.
#include <pthread.h>

#include <cstring>
#include <thread>
#include <utility>
#include <vector>

namespace {

struct Index {
    unsigned x;
};
thread_local Index threadIdx;
Index blockIdx, blockDim;
pthread_barrier_t barriers[2];  // in turn, else the sanitizer takes the next one's waiting for this
thread_local int turn;

void __syncthreads() { pthread_barrier_wait(&barriers[turn++ & 1]); }

}  // namespace

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#include "../sampling.cu"

namespace {

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

template <class... A>
void launch(void (*kernel)(A...), unsigned blocks, unsigned threads, void** arguments) {
    blockDim.x = threads;
    for (auto& barrier : barriers) pthread_barrier_init(&barrier, nullptr, threads);
    std::vector<std::thread> block;
    for (unsigned i = 0; i < threads; ++i)
        block.emplace_back([=] {
            threadIdx.x = i;
            for (unsigned b = 0; b < blocks; ++b) {
                if (i == 0) blockIdx.x = b;
                __syncthreads();
                call(kernel, arguments, std::index_sequence_for<A...>());
                turn &= 1;
                __syncthreads();
            }
        });
    for (std::thread& thread : block) thread.join();
    for (auto& barrier : barriers) pthread_barrier_destroy(&barrier);
}

}  // namespace

// Whether there is a kernel of that name.
int launch_blocks(const char* name, unsigned blocks, unsigned threads, void** arguments) {
#define KERNEL(kernel) \
    if (!std::strcmp(name, #kernel)) return launch(corelab::kernel, blocks, threads, arguments), 1;
    KERNEL(sample_categorical)
    KERNEL(categorical_log_prob)
    KERNEL(categorical_slopes)
    KERNEL(sample_logistic_mixture)
    KERNEL(logistic_mixture_log_prob)
    KERNEL(logistic_mixture_slopes)
    return 0;
}

// ---- of the CUDA driver, as much as is asked of it ----------------------------------------------

extern "C" {
int cuDeviceGet(int* device, int index) { return *device = index, 0; }
int cuDevicePrimaryCtxRetain(const void** context, int) { return *context = "context", 0; }
int cuCtxSetCurrent(const char* context) { return std::strcmp(context, "context"); }
int cuModuleLoadData(const void** module, const char*) { return *module = "module", 0; }
int cuModuleGetFunction(void** function, const char* module, const char* name) {
    *function = strdup(name);
    return std::strcmp(module, "module");
}
int cuLaunchKernel(const char* function, unsigned blocks, unsigned, unsigned, unsigned threads,
                   unsigned, unsigned, unsigned, void*, void** arguments, void**) {
    return launch_blocks(function, blocks, threads, arguments) ? 0 : 500;
}
int cuGetErrorString(int, const char** text) { return *text = "named symbol not found", 0; }
}

#ifdef PROGRAM  // for the sanitizer
#include <cstdio>

int main() {
    using namespace corelab;
    for (int64 classes : {3, 300, 70'000}) {
        int64 rows = 9, seed = 1, first = 0;
        float scale = 1;
        std::vector<float> logits(rows * classes), log_p(rows), sums(rows);
        for (std::size_t i = 0; i < logits.size(); ++i)
            logits[i] = uniform(philox({(uint32)i, 0, 0, 0}, 1).x) * 8 - 4;
        std::vector<int64> drawn(rows);
        float *p = logits.data(), *l = log_p.data(), *s = sums.data();
        int64* d = drawn.data();
        void* draw[] = {&p, &d, &rows, &classes, &scale, &seed, &first};
        launch_blocks("sample_categorical", rows, THREADS, draw);
        void* judge[] = {&p, &d, &l, &s, &rows, &classes};
        launch_blocks("categorical_log_prob", rows, THREADS, judge);
    }
    std::puts("done");
}
#endif
