// One tile of C by a cluster: a producer warp and consumer warpgroups in each CTA.
#pragma once

#include "cutlass/arch/barrier.h"
#include "cutlass/arch/grid_dependency_control.h"
#include "cutlass/arch/reg_reconfig.h"
#include "sm90/consumer.hpp"
#include "sm90/epilogue.hpp"
#include "sm90/params.hpp"
#include "sm90/producer.hpp"
#include "sm90/tile.hpp"

namespace nvfp4::sm90 {

// Named barrier 0 is __syncthreads'; those after this one are the epilogue's.
inline constexpr std::uint32_t kConsumersBarrier = 1;

// All threads of the cluster. Relaxed: nobody reads what another thread has written before; a release would wait for
// all memory, of the whole device.
CUTLASS_DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
CUTLASS_DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// What a thread wrote before to shared memory, of any CTA of the cluster, is seen by all after.
CUTLASS_DEVICE void cluster_exchange() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  cluster_wait();
}

template <class Tile>
CUTLASS_DEVICE void dual_gemm(Params const& params, char* memory) {
#if defined(__CUDA_ARCH__) && !defined(CUTLASS_GDC_ENABLED)
#error "compile with CUTLASS_ENABLE_GDC_FOR_SM90: without griddepcontrol.wait tokens are read before they are written"
#endif
  auto& shared = *reinterpret_cast<typename Tile::SharedStorage*>(memory);
  int const warpgroup = static_cast<int>(threadIdx.x) / 128;
  Place const place(params);

  if (threadIdx.x == 0) {
    // Each warp of consumers arrives once, at every CTA that shares its tokens.
    std::uint32_t const releases = static_cast<std::uint32_t>(Tile::kConsumers / 32 * params.multicast);
    for (int i = 0; i < Tile::kStages; ++i) {
      shared.full[i].init(2);  // by both producers
      shared.empty[i].init(releases);
    }
    cutlass::arch::fence_barrier_init();
  }
  __syncwarp();
  cluster_arrive();

  constexpr Registers kRegisters = registers(Tile::kWarpgroups);
  bool const split = params.splits > 1;
  // Nothing may reach the shared memory of a CTA that has ended.
  bool const joined = split || params.multicast > 1;
  if (warpgroup == 0) {
    cutlass::arch::warpgroup_reg_dealloc<kRegisters.producer>();
    Producer<Tile> producer(params, place, shared);
    if (threadIdx.x == 0) {
      producer.weights();
    }
    __syncwarp();
    cluster_wait();
    if (threadIdx.x == 32) {
      producer.tokens();
    }
    __syncwarp();
    if (joined) {
      cluster_arrive();
      cluster_wait();
    }
    if (split) {
      cluster_exchange();
    }
  } else {
    cutlass::arch::warpgroup_reg_alloc<kRegisters.consumer>();
    cluster_wait();
    Consumer<Tile> consumer(params, place, shared, warpgroup - 1);
    float sums[Consumer<Tile>::kAccumulators];
    consumer.run(sums);
    cutlass::arch::launch_dependent_grids();
    Epilogue<Tile> epilogue(params, place, shared.epilogue, warpgroup - 1);
    auto const consumers_barrier = [] { cutlass::arch::NamedBarrier::sync(Tile::kConsumers, kConsumersBarrier); };
    if (joined) {
      cluster_arrive();
      cluster_wait();
    } else {
      consumers_barrier();
    }
    if (epilogue.whole()) {
      epilogue.store(sums);
      return;
    }
    epilogue.send(sums);
    if (split) {
      cluster_exchange();
    } else {
      consumers_barrier();
    }
    epilogue.store_parts();
  }
}

}  // namespace nvfp4::sm90
