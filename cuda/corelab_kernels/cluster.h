// The blocks of a cluster, which are on neighbouring multiprocessors and reach each other's shared
// memory (compute capability 9.0 and newer; before, a block is a cluster of its own).
#pragma once

#include "arithmetic.h"

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)  // else tests/driver.h has them
extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];

namespace corelab {

// The shared memory of this block that the launch asked for.
__device__ __forceinline__ unsigned char* shared_memory() { return dynamic_shared_memory; }

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
__device__ __forceinline__ int32 cluster_rank() {
    int32 rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ __forceinline__ int32 cluster_size() {
    int32 size;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
}

// Waits for all threads of all blocks, whose writes are then seen.
__device__ __forceinline__ void sync_cluster() {
    asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
}

// Where block RANK has what is at P in the shared memory of this one.
template <class T> __device__ __forceinline__ T* in_block(T* p, int32 rank) {
    T* there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(p), "r"(rank));
    return there;
}
#else
__device__ __forceinline__ int32 cluster_rank() { return 0; }
__device__ __forceinline__ int32 cluster_size() { return 1; }
__device__ __forceinline__ void sync_cluster() { __syncthreads(); }
template <class T> __device__ __forceinline__ T* in_block(T* p, int32) { return p; }
#endif

}  // namespace corelab
#endif
