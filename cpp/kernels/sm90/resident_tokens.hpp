// Few tokens: a CTA widens those of all its K itself, to where the tensor cores read them, while the first weights are
// on their way. No other kernel and no memory beyond the operands.
#pragma once

#include <cstdint>

#include "cutlass/arch/barrier.h"
#include "sm90/params.hpp"
#include "sm90/tile.hpp"
#include "sm90/widening.hpp"

namespace nvfp4::sm90 {

// Each thread of the consumers has one group of one row.
template <class Tile>
class ResidentTokens {
  static_assert(Tile::kTokens * Tile::kResidentGroups <= Tile::kConsumers, "a thread for each group of each row");

 public:
  // Asks global memory, before it is busy with weights.
  CUTLASS_DEVICE ResidentTokens(Params const& params, typename Tile::Coordinates const& coordinates)
      : groups_((coordinates.k_end - coordinates.k_begin) * Tile::kGroups), low_{}, high_{}, scales_(0) {
    PackedTokens const& a = params.a;
    int const thread = static_cast<int>(threadIdx.x) - 128;
    row_ = thread / groups_;
    group_ = thread % groups_;
    int const group = coordinates.k_begin * Tile::kGroups + group_;
    int const token = coordinates.token_tile * Tile::kTokens + row_;
    // What is beyond A is zero: tensor cores multiply it.
    if (row_ >= Tile::kTokens || token >= params.m || group >= a.groups) {
      return;
    }
    std::int64_t const row = std::int64_t{coordinates.batch} * params.m + token;
    auto const* const codes = reinterpret_cast<uint4 const*>(a.codes + row * a.row_bytes + group * kGroupCodeBytes);
    low_ = codes[0];
    if (group * kGroupCodeBytes + kGroupCodeBytes / 2 < a.row_bytes) {
      high_ = codes[1];
    }
    scales_ = *reinterpret_cast<std::uint32_t const*>(a.group_scales(coordinates.batch, params.m, token, group));
  }

  // A barrier of the consumers, then tensor cores may read.
  CUTLASS_DEVICE void store(std::uint8_t (*tokens)[Tile::kTokens * kGroupTokenBytes]) const {
    if (row_ < Tile::kTokens) {
      std::uint8_t* const target = tokens[group_] + row_ * kGroupTokenBytes;
      std::uint32_t const words[2][4] = {{low_.x, low_.z, high_.x, high_.z}, {low_.y, low_.w, high_.y, high_.w}};
      CUTLASS_PRAGMA_UNROLL
      for (int half = 0; half < 2; ++half) {
        HalfGroup const widened = widen_half_group(words[half], scales_);
        CUTLASS_PRAGMA_UNROLL
        for (int i = 0; i < 4; ++i) {
          // Swizzled: the number of the piece exclusive-or the row.
          *reinterpret_cast<uint4*>(target + ((half * 4 + i) ^ row_ % 8) * 16) = widened.piece[i];
        }
      }
    }
    cutlass::arch::fence_view_async_shared();
  }

 private:
  int groups_, row_, group_;
  uint4 low_, high_;
  std::uint32_t scales_;
};

}  // namespace nvfp4::sm90
