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

// All threads of the cluster: what they wrote before to shared memory, of any of its CTAs, is seen after.
CUTLASS_DEVICE void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
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
      shared.full[i].init(1);
      shared.empty[i].init(releases);
    }
    cutlass::arch::fence_barrier_init();
    // These complete barriers of this CTA only: no other has to be ready.
    Producer<Tile>(params, place, shared).run_ahead();
  }
  cluster_barrier();

  constexpr Registers kRegisters = registers(Tile::kWarpgroups);
  bool const split = params.splits > 1;
  // Nothing may reach the shared memory of a CTA that has ended.
  bool const joined = split || params.multicast > 1;
  if (warpgroup == 0) {
    cutlass::arch::warpgroup_reg_dealloc<kRegisters.producer>();
    if (threadIdx.x == 0) {
      Producer<Tile>(params, place, shared).run();
    }
    __syncwarp();
    if (joined) {
      cluster_barrier();
    }
    if (split) {
      cluster_barrier();
    }
  } else {
    cutlass::arch::warpgroup_reg_alloc<kRegisters.consumer>();
    Consumer<Tile> consumer(params, place, shared, warpgroup - 1);
    float sums[Consumer<Tile>::kAccumulators];
    consumer.run(sums);
    cutlass::arch::launch_dependent_grids();
    Epilogue<Tile> epilogue(params, place, shared.epilogue, warpgroup - 1);
    auto const consumers_barrier = [] { cutlass::arch::NamedBarrier::sync(Tile::kConsumers, kConsumersBarrier); };
    if (joined) {
      cluster_barrier();
    } else {
      consumers_barrier();
    }
    if (epilogue.whole()) {
      epilogue.store(sums);
      return;
    }
    epilogue.send(sums);
    if (split) {
      cluster_barrier();
    } else {
      consumers_barrier();
    }
    epilogue.store_parts();
  }
}

}  // namespace nvfp4::sm90
