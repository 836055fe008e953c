// The kernel that runs ahead of the GEMM: A, widened once to fp16 in the K order of the fragments.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/grid_dependency.hpp"
#include "sm90/params.hpp"
#include "sm90/tile.hpp"
#include "sm90/widening.hpp"

namespace nvfp4::sm90 {

// Bytes of a row of widened tokens.
constexpr std::int64_t token_row_bytes(int k) { return std::int64_t{(k + kGroupK - 1) / kGroupK} * kGroupTokenBytes; }

struct WidenParams {
  PackedTokens a;
  std::uint8_t* tokens;  // batch x rows x groups of kGroupTokenBytes
  int rows;
};

inline constexpr int kWidenThreads = 256;

// Four lanes have a value for each other: lane i of the four gets the i-th of each, in the order of the lanes.
CUTLASS_DEVICE uint4 transpose_by_four(Pairs const& own) {
  std::uint32_t const(&v)[4] = own.pair;
  bool const odd = threadIdx.x % 2 != 0, upper = threadIdx.x % 4 >= 2;
  std::uint32_t const low = __shfl_xor_sync(0xffffffffu, odd ? v[0] : v[1], 1);
  std::uint32_t const high = __shfl_xor_sync(0xffffffffu, odd ? v[2] : v[3], 1);
  // Of the even and the odd one of two lanes: for the first two lanes, and for the last two.
  uint2 const first = odd ? make_uint2(low, v[1]) : make_uint2(v[0], low);
  uint2 const last = odd ? make_uint2(high, v[3]) : make_uint2(v[2], high);
  uint2 const kept = upper ? last : first, sent = upper ? first : last;
  uint2 const got = {__shfl_xor_sync(0xffffffffu, sent.x, 2), __shfl_xor_sync(0xffffffffu, sent.y, 2)};
  return upper ? make_uint4(got.x, got.y, kept.x, kept.y) : make_uint4(kept.x, kept.y, got.x, got.y);
}

// Four lanes widen a group of a row, each what one owner has of it. They read and write whole sectors.
CUTLASS_DEVICE void widen_group(WidenParams const& params, int group, int row) {
  PackedTokens const& a = params.a;
  int const owner = static_cast<int>(threadIdx.x % 4);
  std::int64_t const batch = blockIdx.z;
  std::int64_t const batch_row = batch * params.rows + row;
  int const offset = group * kGroupCodeBytes + owner * 8;  // within the row
  uint2 words = {0, 0};
  std::uint32_t scale = 0;
  if (offset < a.row_bytes) {  // K may end within the group, after two owners
    words = *reinterpret_cast<uint2 const*>(a.codes + batch_row * a.row_bytes + offset);
    scale = a.group_scales(batch, params.rows, row, group)[owner];
  }
  __half2 const factor = widen_scales(scale | scale << 16);
  // Piece 4 * half + i of the row has pair i of word `half` of each owner.
  uint4 const pieces[] = {transpose_by_four(widen(words.x, factor)), transpose_by_four(widen(words.y, factor))};
  if (group < a.groups) {
    auto* const target = reinterpret_cast<uint4*>(params.tokens + (batch_row * a.groups + group) * kGroupTokenBytes);
    target[owner] = pieces[0];
    target[4 + owner] = pieces[1];
  }
}

// Block (x, y, z) has kWidenThreads / 4 groups of row y of batch z, and of the rows that are gridDim.y further. `Tile`
// gives each instance a kernel of its own.
template <class Tile>
__global__ void __launch_bounds__(kWidenThreads) widen_tokens(__grid_constant__ WidenParams const params) {
  detail::wait_for_prior_grids();
  detail::launch_dependent_grids();
  int const group = static_cast<int>(blockIdx.x * kWidenThreads + threadIdx.x) / 4;
  for (int row = static_cast<int>(blockIdx.y); row < params.rows; row += static_cast<int>(gridDim.y)) {
    widen_group(params, group, row);
  }
}

}  // namespace nvfp4::sm90
