// A CUDA driver of one's own, for machines without a GPU: as much as nvidia.py asks of it.
//
// Kernels run on a CPU. Each thread of a cluster of blocks is a thread, and clusters follow each
// other, so the order of things is a GPU's, and ThreadSanitizer finds barriers that are missing.
// Shared memory is full of NaN at first. What the driver is asked is written down, it refuses what a
// driver refuses, and it can be told to.
//
// A program includes this file, then a .cu file, and defines `kernels`.
#pragma once
#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// ---- the language -------------------------------------------------------------------------------

namespace {

constexpr unsigned MOST_BLOCKS = 8;  // of a cluster

// In turn, else the sanitizer takes the next one's waiting for this.
struct Barrier {
    pthread_barrier_t of[2];

    void begin(unsigned threads) {
        for (auto& barrier : of) pthread_barrier_init(&barrier, nullptr, threads);
    }
    void end() {
        for (auto& barrier : of) pthread_barrier_destroy(&barrier);
    }
    void wait(int& turn) { pthread_barrier_wait(&of[turn++ & 1]); }
};

struct Index {
    unsigned x;
};
thread_local Index threadIdx, blockIdx;
Index blockDim;
thread_local unsigned rank;  // of the block
unsigned cluster;            // blocks of one
thread_local int turn, cluster_turn, cluster_waits;
int leave_out = -1;  // that wait of a cluster: its blocks do not wait for each other
Barrier barriers[MOST_BLOCKS], cluster_barrier;
std::vector<unsigned char> shared[MOST_BLOCKS];

void __syncthreads() { barriers[rank].wait(turn); }
template <class T> T __ldg(const T* p) { return *p; }

}  // namespace

namespace corelab {

inline unsigned char* shared_memory() { return shared[rank].data(); }
inline int cluster_rank() { return rank; }
inline int cluster_size() { return cluster; }
inline void sync_cluster() {
    if (cluster_waits++ == leave_out) __syncthreads();
    else cluster_barrier.wait(cluster_turn);
}
template <class T> T* in_block(T* p, int other) {
    const auto at = reinterpret_cast<unsigned char*>(p) - shared[rank].data();
    return reinterpret_cast<T*>(shared[other].data() + at);
}

}  // namespace corelab

#define __global__
#define __device__
#define __noinline__
#define __shared__ static
#define __launch_bounds__(...)

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

// BLOCKS in clusters of SIZE, each with so many bytes of MEMORY to share.
void run(const Function& function, unsigned blocks, unsigned threads, void** arguments,
         unsigned size = 1, unsigned memory = 0) {
    blockDim.x = threads, cluster = size;
    cluster_barrier.begin(size * threads);
    for (unsigned r = 0; r < size; ++r) barriers[r].begin(threads), shared[r].resize(memory);
    std::vector<std::thread> all;
    for (unsigned i = 0; i < size * threads; ++i)
        all.emplace_back([&, i] {
            threadIdx.x = i % threads, rank = i / threads;
            for (blockIdx.x = rank; blockIdx.x < blocks; blockIdx.x += size) {
                if (threadIdx.x == 0) std::fill(shared[rank].begin(), shared[rank].end(), 0xFF);
                corelab::sync_cluster();
                function.call(arguments);
                corelab::sync_cluster();
            }
        });
    for (std::thread& thread : all) thread.join();
    for (unsigned r = 0; r < size; ++r) barriers[r].end();
    cluster_barrier.end();
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
       INVALID_HANDLE = 400, NOT_FOUND = 500, INVALID_CLUSTER_SIZE = 912 };
enum { MULTIPROCESSORS = 16, MOST_SHARED = 97, CLUSTERS = 120 };  // attributes of a GPU
constexpr int DEVICES = 2, MOST_STATIC = 48 << 10, MAX_DYNAMIC_SHARED = 8, CLUSTER_DIMENSION = 4;
constexpr long CONTEXT = 0x7C00'0000'0000, MODULE = 0x7D00'0000'0000;  // no 32 bits hold a handle

struct Loaded {
    long context;
    const Function* function;
    int shared;  // that a block may have
};

// As in cuda.h, without what is not asked for.
struct Attribute {
    int id, pad;
    unsigned x, y, z;
    char rest[52];
};
struct Launch {
    unsigned blocks, blocks_y, blocks_z, threads, threads_y, threads_z, shared;
    long stream;
    const Attribute* attributes;
    unsigned count;

    unsigned cluster() const { return count ? attributes->x : 1; }
    bool fits(const Loaded* function) const {
        bool fit = blocks && blocks_y == 1 && blocks_z == 1 && threads && threads <= 1024;
        fit = fit && threads_y == 1 && threads_z == 1 && shared <= (unsigned)function->shared;
        if (!count) return fit;
        const Attribute& a = *attributes;
        fit = fit && count == 1 && a.id == CLUSTER_DIMENSION && a.x && a.y == 1 && a.z == 1;
        return fit && a.x <= MOST_BLOCKS && blocks % a.x == 0;
    }
};

bool initialised;
int multiprocessors, most_shared, clusters;
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
void driver_resets() {
    initialised = false, current = 0, said.clear(), refused.clear();
    multiprocessors = 132, most_shared = 227 << 10, clusters = 1;
}
// The GPU is another one from now on.
void driver_has(int multiprocessors_, int most_shared_, int clusters_) {
    multiprocessors = multiprocessors_, most_shared = most_shared_, clusters = clusters_;
}
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
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    *value = attribute == MULTIPROCESSORS ? multiprocessors
             : attribute == MOST_SHARED   ? most_shared
             : attribute == CLUSTERS      ? clusters
                                          : -1;
    const int code = *value < 0 ? INVALID_VALUE : 0;
    return told(code, "cuDeviceGetAttribute", " %d %d", attribute, device);
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
    const bool fits = attribute == MAX_DYNAMIC_SHARED && value <= most_shared;
    if (fits) function->shared = value;
    return told(fits ? 0 : INVALID_VALUE, "cuFuncSetAttribute", " %d %d", attribute, value);
}
int cuOccupancyMaxActiveClusters(int* most, Loaded* function, const Launch* launch) {
    *most = multiprocessors / launch->cluster();
    const int code = clusters && launch->fits(function) ? 0 : INVALID_VALUE;
    return told(code, "cuOccupancyMaxActiveClusters", " %s %u, %u bytes", function->function->name,
                launch->cluster(), launch->shared);
}
int cuLaunchKernelEx(const Launch* launch, Loaded* function, void** arguments, void** extra) {
    int code = launch->fits(function) && !extra ? 0 : INVALID_VALUE;
    if (function->context != current) code = INVALID_HANDLE;
    if (launch->count && !clusters) code = INVALID_CLUSTER_SIZE;
    code = told(code, "cuLaunchKernelEx", " %s %u x %u in %u, %u bytes, stream %ld",
                function->function->name, launch->blocks, launch->threads, launch->cluster(),
                launch->shared, launch->stream);
    if (!code)
        run(*function->function, launch->blocks, launch->threads, arguments, launch->cluster(),
            launch->shared);
    return code;
}
int cuGetErrorString(int code, const char** text) {
    switch (code) {
        case 2: *text = "out of memory"; break;
        case INVALID_VALUE: *text = "invalid argument"; break;
        case INVALID_CLUSTER_SIZE: *text = "cluster misconfiguration"; break;
        case INVALID_HANDLE: *text = "invalid resource handle"; break;
        case NOT_FOUND: *text = "named symbol not found"; break;
        default: *text = nullptr; return INVALID_VALUE;
    }
    return 0;
}
}
