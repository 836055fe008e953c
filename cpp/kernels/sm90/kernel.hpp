// One tile of C by a cluster: a producer and consumer warpgroups in each CTA.
#pragma once

#include <type_traits>

#include "common/grid_dependency.hpp"
#include "cutlass/arch/barrier.h"
#include "cutlass/arch/reg_reconfig.h"
#include "sm90/barriers.hpp"
#include "sm90/consumer.hpp"
#include "sm90/epilogue.hpp"
#include "sm90/params.hpp"
#include "sm90/producer.hpp"
#include "sm90/resident_tokens.hpp"
#include "sm90/resident_values.hpp"
#include "sm90/tile.hpp"

namespace nvfp4::sm90 {

template <class Tile>
using Resident =
    std::conditional_t<Tile::kActivations == NVFP4_DATA_TYPE_NVFP4, ResidentTokens<Tile>, ResidentValues<Tile>>;

template <class Tile>
CUTLASS_DEVICE void dual_gemm(Params const& params, char* memory) {
  auto& shared = *reinterpret_cast<typename Tile::SharedStorage*>(memory);
  int const warpgroup = cutlass::canonical_warp_group_idx();  // known to the compiler as the same for a warp
  typename Tile::Coordinates const coordinates(params);

  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      shared.full[i].init(Tile::kFullBarrierArrivals);
      shared.empty[i].init(Tile::kConsumers / 32);  // each warp of consumers arrives once
    }
    shared.exchanged.init(1);
    cutlass::arch::fence_barrier_init();
    shared.coordinates = coordinates;  // before the barriers of the stages, by which this thread hands over all that it wrote
  }
  cluster_arrive();

  constexpr Registers kRegisters = registers(Tile::kWarpgroups);
  bool const split = params.splits > 1;
  if (warpgroup == 0) {
    cutlass::arch::warpgroup_reg_dealloc<kRegisters.producer>();
    Producer<Tile> producer(params, coordinates, shared);
    if (threadIdx.x == 0) {
      producer.weights();
    }
    cluster_wait();
    if (!Tile::kResident && threadIdx.x == 32) {
      producer.tokens();
    }
    if (split) {
      for (int i = 0; i < (Tile::kResident ? 1 : 2); ++i) {  // as the consumers below
        cluster_arrive();
        cluster_wait();
      }
    }
  } else {
    auto const consumers_barrier = [] { named_barrier(Tile::kConsumers, kConsumersBarrier); };
    if constexpr (Tile::kResident) {
      detail::wait_for_prior_grids();
      Resident<Tile> const tokens(params, coordinates);
      __syncwarp();  // setmaxnreg is for whole warps
      cutlass::arch::warpgroup_reg_alloc<kRegisters.consumer>();
      tokens.store(shared.stages.tokens);
      consumers_barrier();
    } else {
      cutlass::arch::warpgroup_reg_alloc<kRegisters.consumer>();
    }
    cluster_wait();
    Consumer<Tile> consumer(params, coordinates, shared, warpgroup - 1);
    float sums[Consumer<Tile>::kAccumulators];
    consumer.run(sums);
    detail::launch_dependent_grids();
    Epilogue<Tile> const epilogue(params, shared.coordinates, shared.epilogue(), warpgroup - 1);
    epilogue.pad_scales();
    if constexpr (Tile::kResident) {
      epilogue.send_partials(sums);
      if (split) {
        cluster_exchange();
      } else {
        consumers_barrier();
      }
      epilogue.store_received();
    } else {
      consumers_barrier();  // all stages were read
      if (epilogue.whole()) {
        epilogue.store(sums);
      } else if (Tile::kSlices == 1 && params.splits == 2) {
        epilogue.stage_for_peer(sums);
        cluster_arrive();
        cluster_wait();
        epilogue.send_to_peer(shared.exchanged);
        shared.exchanged.wait(0);
        cluster_arrive();
        epilogue.store_pair(sums);
        cluster_wait();  // the peer has what was sent to it
      } else if (!split) {
        epilogue.write_partials(sums);
        consumers_barrier();
        epilogue.store_partials([] {});
      } else {
        epilogue.write_partials(sums);
        cluster_exchange();
        epilogue.store_partials([] { cluster_arrive_release(); });
        cluster_wait();  // nobody reads the partials of this CTA
      }
    }
  }
}

}  // namespace nvfp4::sm90
