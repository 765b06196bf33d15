// A CUDA driver of one's own, for machines without a GPU: as much as nvidia.py asks of it.
//
// Kernels run on a CPU. Each thread of a block is a thread, and blocks follow each other, so the
// order of things is a GPU's, and ThreadSanitizer finds barriers that are missing. What the driver
// is asked is written down, it refuses what a driver refuses, and it can be told to.
//
// A program includes this file, then a .cu file, and defines `kernels`.
#pragma once
#include <pthread.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// ---- the language -------------------------------------------------------------------------------

namespace {

struct Index {
    unsigned x;
};
thread_local Index threadIdx;
Index blockIdx, blockDim;
pthread_barrier_t barriers[2];  // in turn, else the sanitizer takes the next one's waiting for this
thread_local int turn;

void __syncthreads() { pthread_barrier_wait(&barriers[turn++ & 1]); }
template <class T> T __ldg(const T* p) { return *p; }

}  // namespace

#define __global__
#define __device__
#define __noinline__
#define __shared__ static
#define __launch_bounds__(threads)

// ---- kernels ------------------------------------------------------------------------------------

namespace {

struct Function {
    const char* name;
    std::function<void(void**)> call;
    std::vector<int> sizes;  // of its parameters
};

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

template <class... A> Function function(const char* name, void (*kernel)(A...)) {
    auto on = [=](void** given) { call(kernel, given, std::index_sequence_for<A...>()); };
    return {name, on, {(int)sizeof(A)...}};
}

void run(const Function& function, unsigned blocks, unsigned threads, void** arguments) {
    blockDim.x = threads;
    for (auto& barrier : barriers) pthread_barrier_init(&barrier, nullptr, threads);
    std::vector<std::thread> block;
    for (unsigned i = 0; i < threads; ++i)
        block.emplace_back([&, i] {
            threadIdx.x = i;
            for (unsigned b = 0; b < blocks; ++b) {
                if (i == 0) blockIdx.x = b;
                __syncthreads();
                function.call(arguments);
                turn &= 1;
                __syncthreads();
            }
        });
    for (std::thread& thread : block) thread.join();
    for (auto& barrier : barriers) pthread_barrier_destroy(&barrier);
}

std::vector<Function> kernels();  // those of the program

// Null if there is none of that name.
const Function* find(const char* name) {
    static const std::vector<Function> all = kernels();
    for (const Function& each : all)
        if (!std::strcmp(each.name, name)) return &each;
    return nullptr;
}

// ---- the driver ---------------------------------------------------------------------------------

enum { INVALID_VALUE = 1, NOT_INITIALISED = 3, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
       INVALID_HANDLE = 400, NOT_FOUND = 500 };
constexpr int DEVICES = 2, MOST_STATIC = 48 << 10, MOST_SHARED = 227 << 10, MAX_DYNAMIC_SHARED = 8;
constexpr long CONTEXT = 0x7C00'0000'0000, MODULE = 0x7D00'0000'0000;  // no 32 bits hold a handle

struct Loaded {
    long context;
    const Function* function;
    int shared;  // that a block may have
};

bool initialised;
int refused_with;
thread_local long current;
std::string said, refused;

template <class... A> int told(int code, const char* name, const char* form, A... values) {
    char line[200];
    std::snprintf(line, sizeof line, form, values...);
    said += std::string(name) + line + "\n";
    if (refused == name) return refused_with;
    return initialised ? code : NOT_INITIALISED;
}

}  // namespace

extern "C" {

// Begin anew.
void driver_resets() { initialised = false, current = 0, said.clear(), refused.clear(); }
// What was asked of the driver since this was asked last, a line for each call.
const char* driver_said() {
    static std::string last;
    last.swap(said);
    said.clear();
    return last.c_str();
}
// From now on, the driver answers calls of NAME with CODE.
void driver_refuses(const char* name, int code) { refused = name, refused_with = code; }
// The size in bytes of parameter I of kernel NAME, -1 if it has none.
int parameter_size(const char* name, unsigned i) {
    const Function* of = find(name);
    return of && i < of->sizes.size() ? of->sizes[i] : -1;
}

int cuInit(unsigned flags) {
    initialised = flags == 0;
    return told(0, "cuInit", " %u", flags);
}
int cuDeviceGet(int* device, int index) {
    *device = index;
    return told(index < DEVICES ? 0 : INVALID_DEVICE, "cuDeviceGet", " %d", index);
}
int cuDevicePrimaryCtxRetain(long* context, int device) {
    *context = CONTEXT + device;
    return told(0, "cuDevicePrimaryCtxRetain", " %d", device);
}
int cuCtxSetCurrent(long context) {
    current = context;
    const bool known = CONTEXT <= context && context < CONTEXT + DEVICES;
    return told(known ? 0 : INVALID_CONTEXT, "cuCtxSetCurrent", " %ld", context - CONTEXT);
}
int cuModuleLoadData(long* module, const char* image) {
    *module = current ? MODULE + current - CONTEXT : 0;
    return told(current ? 0 : INVALID_CONTEXT, "cuModuleLoadData", " %.4s", image);
}
int cuModuleGetFunction(Loaded** function, long module, const char* name) {
    const Function* const found = find(name);
    *function = new Loaded{module - MODULE + CONTEXT, found, MOST_STATIC};
    return told(found ? 0 : NOT_FOUND, "cuModuleGetFunction", " %s", name);
}
int cuFuncSetAttribute(Loaded* function, int attribute, int value) {
    const bool fits = attribute == MAX_DYNAMIC_SHARED && value <= MOST_SHARED;
    if (fits) function->shared = value;
    return told(fits ? 0 : INVALID_VALUE, "cuFuncSetAttribute", " %d %d", attribute, value);
}
int cuLaunchKernel(Loaded* function, unsigned x, unsigned y, unsigned z, unsigned threads,
                   unsigned threads_y, unsigned threads_z, unsigned shared, long stream,
                   void** arguments, void** extra) {
    bool fits = x && y == 1 && z == 1 && threads && threads <= 1024 && threads_y == 1;
    fits = fits && threads_z == 1 && shared <= (unsigned)function->shared && !extra;
    int code = fits ? 0 : INVALID_VALUE;
    if (function->context != current) code = INVALID_HANDLE;
    code = told(code, "cuLaunchKernel", " %s %u x %u, %u bytes, stream %ld",
                function->function->name, x, threads, shared, stream);
    if (!code) run(*function->function, x, threads, arguments);
    return code;
}
int cuGetErrorString(int code, const char** text) {
    switch (code) {
        case 2: *text = "out of memory"; break;
        case INVALID_VALUE: *text = "invalid argument"; break;
        case INVALID_HANDLE: *text = "invalid resource handle"; break;
        case NOT_FOUND: *text = "named symbol not found"; break;
        default: *text = nullptr; return INVALID_VALUE;
    }
    return 0;
}
}
