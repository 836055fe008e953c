// One thread that keeps the stages full.
#pragma once

#include <cstdint>

#include "cute/arch/copy_sm90_tma.hpp"
#include "cutlass/arch/grid_dependency_control.h"
#include "sm90/params.hpp"
#include "sm90/tile.hpp"

namespace nvfp4::sm90 {

template <class Tile>
class Producer {
  using SharedStorage = typename Tile::SharedStorage;

 public:
  CUTLASS_DEVICE Producer(Params const& params, Place const& place, SharedStorage& shared)
      : params_(params), place_(place), shared_(shared) {
    int const slice_rows = Tile::kTokens / params.multicast;
    token_row_ = place.token_tile * Tile::kTokens + place.column_of_cluster * slice_rows;
    token_offset_ = place.column_of_cluster * slice_rows * kGroupTokenBytes;
    peers_ = 0;
    for (int i = 0; i < params.multicast; ++i) {
      peers_ |= static_cast<std::uint16_t>(1u << (place.split + i * params.splits));
    }
    // Weights that several tiles of tokens read should stay in L2 until the last of them has.
    weights_hint_ = params.token_tiles > 1 ? cute::TMA::CacheHintSm90::EVICT_NORMAL
                                           : cute::TMA::CacheHintSm90::EVICT_FIRST;
  }

  // Weights of the first stages. The kernel before this one only widens tokens: weights may come before it has finished.
  // Few of them, or the tokens of the first stage would queue behind the weights of the last.
  CUTLASS_DEVICE void run_ahead() {
    for (int i = 0; i < 2; ++i) {
      cute::prefetch_tma_descriptor(&params_.codes[i]);
      cute::prefetch_tma_descriptor(&params_.scales[i]);
    }
    cute::prefetch_tma_descriptor(&params_.tokens);
    for (int i = 0; i < early(); ++i) {
      shared_.full[i].arrive_and_expect_tx(Tile::kStageBytes);
      load_weights(i, place_.k_begin + i);
    }
  }

  // The rest, when all CTAs of the cluster are ready.
  CUTLASS_DEVICE void run() {
    int const k_tiles = place_.k_end - place_.k_begin;
    int const ahead = k_tiles < Tile::kStages ? k_tiles : Tile::kStages;
    cutlass::arch::wait_on_dependent_grids();
    for (int i = 0; i < early(); ++i) {
      load_tokens(i, place_.k_begin + i);
    }
    for (int i = early(); i < ahead; ++i) {
      load(i, place_.k_begin + i);
    }
    int stage = 0;
    std::uint32_t phase = 0;
    for (int k_tile = place_.k_begin + ahead; k_tile < place_.k_end; ++k_tile) {
      shared_.empty[stage].wait(phase);
      load(stage, k_tile);
      if (++stage == Tile::kStages) {
        stage = 0;
        phase ^= 1;
      }
    }
  }

 private:
  CUTLASS_DEVICE int early() const {
    constexpr int kEarlyStages = 3;
    static_assert(kEarlyStages <= Tile::kStages);
    int const k_tiles = place_.k_end - place_.k_begin;
    return k_tiles < kEarlyStages ? k_tiles : kEarlyStages;
  }

  CUTLASS_DEVICE void load(int stage, int k_tile) {
    shared_.full[stage].arrive_and_expect_tx(Tile::kStageBytes);
    load_tokens(stage, k_tile);
    load_weights(stage, k_tile);
  }

  CUTLASS_DEVICE std::uint64_t* full(int stage) {
    return reinterpret_cast<std::uint64_t*>(&shared_.full[stage]);
  }

  CUTLASS_DEVICE void load_weights(int stage, int k_tile) {
    int const column = place_.column_tile * Tile::kColumns;
    CUTLASS_PRAGMA_UNROLL
    for (int matrix = 0; matrix < 2; ++matrix) {
      cute::SM90_TMA_LOAD_3D::copy(&params_.codes[matrix], full(stage), static_cast<std::uint64_t>(weights_hint_),
                                   shared_.stages.codes[stage][matrix], k_tile * (Tile::kTileK / 2), column,
                                   place_.batch);
      cute::SM90_TMA_LOAD_3D::copy(&params_.scales[matrix], full(stage), static_cast<std::uint64_t>(weights_hint_),
                                   shared_.stages.scales[stage][matrix],
                                   k_tile * (Tile::kGroups * NVFP4_SCALE_ATOM_BYTES / 8),
                                   column / NVFP4_SCALE_ATOM_ROWS, place_.batch);
    }
  }

  CUTLASS_DEVICE void load_tokens(int stage, int k_tile) {
    constexpr auto kHint = static_cast<std::uint64_t>(cute::TMA::CacheHintSm90::EVICT_LAST);
    CUTLASS_PRAGMA_UNROLL
    for (int group = 0; group < Tile::kGroups; ++group) {
      std::uint8_t* const target = shared_.stages.tokens[stage][group] + token_offset_;
      int const k = (k_tile * Tile::kGroups + group) * kGroupK;
      if (params_.multicast == 1) {
        cute::SM90_TMA_LOAD_3D::copy(&params_.tokens, full(stage), kHint, target, k, token_row_, place_.batch);
      } else {
        cute::SM90_TMA_LOAD_MULTICAST_3D::copy(&params_.tokens, full(stage), peers_, kHint, target, k, token_row_,
                                               place_.batch);
      }
    }
  }

  Params const& params_;
  Place const& place_;
  SharedStorage& shared_;
  int token_row_, token_offset_;
  std::uint16_t peers_;
  cute::TMA::CacheHintSm90 weights_hint_;
};

}  // namespace nvfp4::sm90
