// The kernel that runs ahead of the GEMM: A, widened once to fp16 in the K order of the fragments.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cutlass/arch/grid_dependency_control.h"
#include "sm90/tile.hpp"
#include "sm90/widening.hpp"

namespace nvfp4::sm90 {

// Bytes of a row of widened tokens.
constexpr std::int64_t token_row_bytes(int k) { return std::int64_t{(k + kGroupK - 1) / kGroupK} * kGroupTokenBytes; }

struct WidenParams {
  std::uint8_t const* codes;   // batch x rows x k / 2
  std::uint8_t const* scales;  // 128x4 atoms of each batch
  std::uint8_t* tokens;        // batch x rows x token_row_bytes(k)
  int rows, k;
};

inline constexpr int kWidenThreads = 256;

// Block (x, y, z) has the half groups of piece x of row y of batch z, and of the rows that are gridDim.y further. A
// thread widens one of them: word `half` of each of its four owners.
CUTLASS_DEVICE void widen_half_group(WidenParams const& params, int group, int half, int row, int groups) {
  std::int64_t const batch = blockIdx.z;
  std::int64_t const batch_row = batch * params.rows + row;
  std::int64_t const row_atoms = (params.rows + NVFP4_SCALE_ATOM_ROWS - 1) / NVFP4_SCALE_ATOM_ROWS;
  std::int64_t const atom = (batch * row_atoms + row / NVFP4_SCALE_ATOM_ROWS) * groups + group;
  int const row_of_atom = row % NVFP4_SCALE_ATOM_ROWS;
  std::uint32_t const scales = *reinterpret_cast<std::uint32_t const*>(
      params.scales + atom * NVFP4_SCALE_ATOM_BYTES + row_of_atom % 32 * 16 + row_of_atom / 32 * 4);
  std::uint8_t const* const codes = params.codes + batch_row * (params.k / 2) + group * kGroupCodeBytes + half * 4;
  int const remaining = params.k / 2 - group * kGroupCodeBytes;  // 16 where k ends within the group

  // [instruction of this half][k position / 2]: words, of which owner c has c and c + 4.
  std::uint32_t words[2][8];
  CUTLASS_PRAGMA_UNROLL
  for (int c = 0; c < 4; ++c) {
    std::uint32_t const word = c * 8 < remaining ? *reinterpret_cast<std::uint32_t const*>(codes + c * 8) : 0;
    std::uint32_t const scale = scales >> (8 * c) & 0xff;
    Pairs const pairs = widen(word, widen_scales(scale | scale << 16));
    words[0][c] = pairs.pair[0];
    words[0][c + 4] = pairs.pair[1];
    words[1][c] = pairs.pair[2];
    words[1][c + 4] = pairs.pair[3];
  }
  auto* const target =
      reinterpret_cast<uint4*>(params.tokens + (batch_row * groups + group) * kGroupTokenBytes + half * 64);
  CUTLASS_PRAGMA_UNROLL
  for (int i = 0; i < 4; ++i) {
    std::uint32_t const* const from = &words[i / 2][i % 2 * 4];
    target[i] = make_uint4(from[0], from[1], from[2], from[3]);
  }
}

CUTLASS_DEVICE void widen_tokens(WidenParams const& params) {
  cutlass::arch::wait_on_dependent_grids();
  cutlass::arch::launch_dependent_grids();
  int const groups = (params.k + kGroupK - 1) / kGroupK;
  int const index = static_cast<int>(blockIdx.x * kWidenThreads + threadIdx.x);
  if (index >= 2 * groups) {
    return;
  }
  for (int row = static_cast<int>(blockIdx.y); row < params.rows; row += static_cast<int>(gridDim.y)) {
    widen_half_group(params, index / 2, index % 2, row, groups);
  }
}

}  // namespace nvfp4::sm90
