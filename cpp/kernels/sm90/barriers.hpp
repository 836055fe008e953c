// Barriers that all threads of a warp have to reach together (`.aligned`): each begins with what brings them together,
// whatever branches were before.
#pragma once

#include <cstdint>

#include "cutlass/arch/barrier.h"
#include "cutlass/cutlass.h"

namespace nvfp4::sm90 {

// Named barrier 0 is __syncthreads'.
inline constexpr std::uint32_t kConsumersBarrier = 1;
inline constexpr std::uint32_t kWarpgroupBarrier = 2;  // and the following, one for each warpgroup

// Of `threads` threads, whole warps: what they wrote before is seen by all of them after.
CUTLASS_DEVICE void named_barrier(int threads, std::uint32_t id) {
  __syncwarp();
  cutlass::arch::NamedBarrier::sync(static_cast<std::uint32_t>(threads), id);
}

// All threads of the cluster, for when nobody reads what another thread has written before: a release would wait for
// all memory, of the whole device. What was read before may be overwritten after, although no rule of the memory model
// says so: shared memory was read by instructions whose results have been used, wgmmas that were waited for included.
CUTLASS_DEVICE void cluster_arrive() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
CUTLASS_DEVICE void cluster_wait() {
  __syncwarp();
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// What a thread read or wrote before, of any CTA's shared memory, is seen by all after.
CUTLASS_DEVICE void cluster_arrive_release() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
CUTLASS_DEVICE void cluster_exchange() {
  cluster_arrive_release();
  cluster_wait();
}

}  // namespace nvfp4::sm90
