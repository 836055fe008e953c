// The threads that keep the stages full: one for weights, and one for tokens where they come in stages.
#pragma once

#include <cstdint>

#include "common/grid_dependency.hpp"
#include "cute/arch/copy_sm90_tma.hpp"
#include "sm90/params.hpp"
#include "sm90/tile.hpp"

namespace nvfp4::sm90 {

template <class Tile>
class Producer {
  using SharedStorage = typename Tile::SharedStorage;

 public:
  CUTLASS_DEVICE Producer(Params const& params, typename Tile::Coordinates const& coordinates, SharedStorage& shared)
      : params_(params), coordinates_(coordinates), shared_(shared) {
    // Weights that several tiles of tokens read should stay in L2 until the last of them has.
    weights_hint_ = params.token_tiles > 1 ? cute::TMA::CacheHintSm90::EVICT_NORMAL
                                           : cute::TMA::CacheHintSm90::EVICT_FIRST;
  }

  // The kernel that widens tokens has nothing to do with weights; where there is none, the kernel before this one may
  // have written them.
  CUTLASS_DEVICE void weights() {
    if (!Tile::kWidenedAhead) {
      detail::wait_for_prior_grids();
    }
    for (int i = 0; i < 2; ++i) {
      cute::prefetch_tma_descriptor(&params_.codes[i]);
      cute::prefetch_tma_descriptor(&params_.scales[i]);
    }
    for_each_stage([&](int stage, int k_tile) {
      shared_.full[stage].arrive_and_expect_tx(Tile::kWeightBytes);
      load_weights(stage, k_tile);
    });
  }

  // Tokens, in a thread of their own so that they do not queue behind the weights of all stages.
  CUTLASS_DEVICE void tokens() {
    cute::prefetch_tma_descriptor(&params_.tokens);
    detail::wait_for_prior_grids();
    for_each_stage([&](int stage, int k_tile) {
      shared_.full[stage].arrive_and_expect_tx(Tile::kTokenBytes);
      load_tokens(stage, k_tile);
    });
  }

 private:
  template <class Load>
  CUTLASS_DEVICE void for_each_stage(Load&& load) {
    int stage = 0;
    std::uint32_t phase = 1;  // a barrier that was never completed counts as having been in its other phase
    for (int k_tile = coordinates_.k_begin; k_tile < coordinates_.k_end; ++k_tile) {
      shared_.empty[stage].wait(phase);
      load(stage, k_tile);
      if (++stage == Tile::kStages) {
        stage = 0;
        phase ^= 1;
      }
    }
  }

  CUTLASS_DEVICE std::uint64_t* full(int stage) {
    return reinterpret_cast<std::uint64_t*>(&shared_.full[stage]);
  }

  CUTLASS_DEVICE void load_weights(int stage, int k_tile) {
    int const column = coordinates_.column_tile * Tile::kColumns;
    CUTLASS_PRAGMA_UNROLL
    for (int matrix = 0; matrix < 2; ++matrix) {
      cute::SM90_TMA_LOAD_3D::copy(&params_.codes[matrix], full(stage), static_cast<std::uint64_t>(weights_hint_),
                                   shared_.stages.codes[stage][matrix], k_tile * (Tile::kTileK / 2), column,
                                   coordinates_.batch);
      cute::SM90_TMA_LOAD_3D::copy(&params_.scales[matrix], full(stage), static_cast<std::uint64_t>(weights_hint_),
                                   shared_.stages.scales[stage][matrix],
                                   k_tile * (Tile::kGroups * NVFP4_SCALE_ATOM_BYTES / 8),
                                   column / NVFP4_SCALE_ATOM_ROWS, coordinates_.batch);
    }
  }

  CUTLASS_DEVICE void load_tokens(int stage, int k_tile) {
    constexpr auto kHint = static_cast<std::uint64_t>(cute::TMA::CacheHintSm90::EVICT_LAST);
    CUTLASS_PRAGMA_UNROLL
    for (int group = 0; group < Tile::kGroups; ++group) {
      cute::SM90_TMA_LOAD_3D::copy(&params_.tokens, full(stage), kHint,
                                   shared_.stages.tokens[stage * Tile::kGroups + group],
                                   (k_tile * Tile::kGroups + group) * kGroupK, coordinates_.token_tile * Tile::kTokens,
                                   coordinates_.batch);
    }
  }

  Params const& params_;
  typename Tile::Coordinates const& coordinates_;
  SharedStorage& shared_;
  cute::TMA::CacheHintSm90 weights_hint_;
};

}  // namespace nvfp4::sm90
