// Few tokens of 16 bits an element: a CTA puts those of all its K where the tensor cores read them, in the K order of
// owners, while the first weights are on their way.
#pragma once

#include <cstdint>

#include "cutlass/arch/barrier.h"
#include "sm90/params.hpp"
#include "sm90/tile.hpp"
#include "sm90/widening.hpp"

namespace nvfp4::sm90 {

// Each thread of the consumers has one group of one row; neighbors have different rows, whose pieces lie in different
// banks.
template <class Tile>
class ResidentValues {
  static_assert(Tile::kTokens * Tile::kResidentGroups <= Tile::kConsumers, "a thread for each group of each row");

 public:
  // Asks global memory, before it is busy with weights.
  CUTLASS_DEVICE ResidentValues(Params const& params, typename Tile::Coordinates const& coordinates) : blocks_{} {
    TokenValues const& a = params.values;
    int const thread = static_cast<int>(threadIdx.x) - 128;
    row_ = thread % Tile::kTokens;
    group_ = thread / Tile::kTokens;
    mine_ = group_ < (coordinates.k_end - coordinates.k_begin) * Tile::kGroups;
    int const first = (coordinates.k_begin * Tile::kGroups + group_) * kGroupK;
    int const token = coordinates.token_tile * Tile::kTokens + row_;
    // What is beyond A is zero: tensor cores multiply it.
    if (!mine_ || token >= params.m) {
      return;
    }
    std::int64_t const row = std::int64_t{coordinates.batch} * params.m + token;
    auto const* const values =
        reinterpret_cast<uint4 const*>(a.values + row * a.row_bytes + std::int64_t{first} * 2);
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kBlocks; ++i) {
      if (first + i * 8 < a.k) {
        blocks_[i] = values[i];
      }
    }
  }

  // A barrier of the consumers, then tensor cores may read.
  CUTLASS_DEVICE void store(std::uint8_t (*tokens)[Tile::kTokens * kGroupTokenBytes]) const {
    if (mine_) {
      std::uint8_t* const target = tokens[group_] + row_ * kGroupTokenBytes;
      CUTLASS_PRAGMA_UNROLL
      for (int half = 0; half < 2; ++half) {
        // Word `half` of owner c is the block 2c + half.
        HalfGroup const ordered =
            order_half_group(blocks_[half], blocks_[2 + half], blocks_[4 + half], blocks_[6 + half]);
        CUTLASS_PRAGMA_UNROLL
        for (int i = 0; i < 4; ++i) {
          // Swizzled: the number of the piece exclusive-or the row.
          *reinterpret_cast<uint4*>(target + ((half * 4 + i) ^ row_ % 8) * 16) = ordered.piece[i];
        }
      }
    }
    cutlass::arch::fence_view_async_shared();
  }

 private:
  static constexpr int kBlocks = kGroupK / 8;  // of eight values, 16 bytes

  int row_, group_;
  bool mine_;
  uint4 blocks_[kBlocks];
};

}  // namespace nvfp4::sm90
