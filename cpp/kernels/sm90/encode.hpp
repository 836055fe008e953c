// The host's side of a compiled kernel: its row of the table, its parameter and launch shape for given operands, and
// those of the kernel that widens A ahead of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "instance.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "sm90/arrangement.hpp"
#include "sm90/kernel.hpp"
#include "sm90/widen_tokens.hpp"
#include "tensor_map_encoder.hpp"

namespace nvfp4::sm90 {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// A row-major tensor (batch, rows, inner) as boxes of `box_rows` x `box_inner`.
struct MapShape {
  CUtensorMapDataType type;
  std::int64_t inner, rows, batch;
  std::int64_t row_bytes;
  int box_inner, box_rows;
  CUtensorMapSwizzle swizzle;
};

inline void encode_map(cute::TmaDescriptor& map, char const* operand, void const* address, MapShape const& shape) {
  cuuint64_t const extents[] = {static_cast<cuuint64_t>(shape.inner), static_cast<cuuint64_t>(shape.rows),
                                static_cast<cuuint64_t>(shape.batch)};
  cuuint64_t const strides[] = {static_cast<cuuint64_t>(shape.row_bytes),
                                static_cast<cuuint64_t>(shape.row_bytes * shape.rows)};
  cuuint32_t const box[] = {static_cast<cuuint32_t>(shape.box_inner), static_cast<cuuint32_t>(shape.box_rows), 1};
  cuuint32_t const steps[] = {1, 1, 1};
  CUresult const result = detail::tensor_map_encoder()(
      &map, shape.type, 3, const_cast<void*>(address), extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      shape.swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw Error(NVFP4_STATUS_CUDA, static_cast<int>(result),
                std::string("cuTensorMapEncodeTiled refused the tensor map of ") + operand + " with CUresult " +
                    std::to_string(static_cast<int>(result)));
  }
}

inline std::size_t workspace_bytes(nvfp4_problem const& problem) {
  return static_cast<std::size_t>(token_row_bytes(problem.k)) * static_cast<std::size_t>(problem.m) *
         static_cast<std::size_t>(problem.batch);
}

template <class Tile>
void encode_maps(nvfp4_problem const& problem, nvfp4_operands const& operands, Params& params) {
  std::int64_t const groups = ceil_div(problem.k, kGroupK);
  if (!Tile::kResident) {
    encode_map(params.tokens, "the widened A", operands.workspace,
               {CU_TENSOR_MAP_DATA_TYPE_FLOAT16, groups * kGroupK, problem.m, problem.batch, groups * kGroupTokenBytes,
                kGroupK, Tile::kTokens, CU_TENSOR_MAP_SWIZZLE_128B});
  }
  char const* const names[] = {"B1", "B2", "the scales of B1", "the scales of B2"};
  void const* const codes[] = {operands.b1_codes, operands.b2_codes};
  void const* const scales[] = {operands.b1_scales, operands.b2_scales};
  for (int i = 0; i < 2; ++i) {
    encode_map(params.codes[i], names[i], codes[i],
               {CU_TENSOR_MAP_DATA_TYPE_UINT8, problem.k / 2, problem.n, problem.batch, problem.k / 2,
                Tile::kTileK / 2, Tile::kColumns,
                Tile::kTileK == 64    ? CU_TENSOR_MAP_SWIZZLE_NONE
                : Tile::kTileK == 128 ? CU_TENSOR_MAP_SWIZZLE_64B
                                      : CU_TENSOR_MAP_SWIZZLE_128B});
    // As 8-byte words: a box has at most 256 elements along a dimension.
    constexpr int kAtomWords = NVFP4_SCALE_ATOM_BYTES / 8;
    encode_map(params.scales[i], names[2 + i], scales[i],
               {CU_TENSOR_MAP_DATA_TYPE_INT64, groups * kAtomWords, ceil_div(problem.n, NVFP4_SCALE_ATOM_ROWS),
                problem.batch, groups * NVFP4_SCALE_ATOM_BYTES, Tile::kGroups * kAtomWords, Tile::kScaleAtoms,
                CU_TENSOR_MAP_SWIZZLE_NONE});
  }
}

inline std::uint32_t grid_of(std::int64_t blocks, char const* what) {
  if (blocks > std::numeric_limits<std::int32_t>::max()) {
    throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0,
                std::string("too many blocks ") + what + ": " + std::to_string(blocks));
  }
  return static_cast<std::uint32_t>(blocks);
}

template <class Tile>
void encode(nvfp4_config const& config, nvfp4_operands const& operands, detail::Residency const& residency,
            detail::EncodedPlan& plan) {
  static_assert(std::is_trivially_copyable_v<Params> && std::is_trivially_copyable_v<WidenParams>,
                "the parameters are handed over as bytes");
  nvfp4_problem const& problem = config.problem;
  std::int64_t const k_tiles = ceil_div(problem.k, Tile::kTileK);
  std::int64_t const token_tiles = ceil_div(problem.m, Tile::kTokens);
  std::int64_t const column_tiles = ceil_div(problem.n, Tile::kColumns);
  std::int64_t const tiles = token_tiles * column_tiles * problem.batch;
  static_cast<void>(grid_of(tiles, "of the GEMM"));
  int const splits = sm90::splits(problem, {Tile::kTokens, Tile::kColumns, Tile::kTileK}, residency);
  if (splits == 0) {
    throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0,
                "k = " + std::to_string(problem.k) + ": at most " +
                    std::to_string(detail::kMaxCluster * kResidentK) + " for tiles of " +
                    std::to_string(Tile::kTokens) + " tokens, in clusters of CTAs with " + std::to_string(kResidentK) +
                    " each, as large as the device takes them");
  }
  if (splits > k_tiles) {  // never of sm90::splits: C would be what was in the registers of the CTA without K
    throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0,
                "k = " + std::to_string(problem.k) + ": " + std::to_string(k_tiles) + " tiles for " +
                    std::to_string(splits) + " CTAs");
  }

  Params params{};
  encode_maps<Tile>(problem, operands, params);
  params.m = problem.m;
  params.n = problem.n;
  params.k_tiles = static_cast<int>(k_tiles);
  params.token_tiles = static_cast<int>(token_tiles);
  params.column_tiles = static_cast<int>(column_tiles);
  params.splits = splits;
  params.gate = detail::gate_constants(config.gate);
  params.output = config.output;
  int const element = config.output == NVFP4_OUTPUT_F32 ? 4 : 2;
  params.whole_rows =
      (reinterpret_cast<std::uintptr_t>(operands.c) | static_cast<std::uintptr_t>(problem.n) * element) % 16 == 0;
  params.alpha1 = operands.alpha1;
  params.alpha2 = operands.alpha2;
  params.alpha1_ptr = operands.alpha1_ptr;
  params.alpha2_ptr = operands.alpha2_ptr;
  params.a = {static_cast<std::uint8_t const*>(operands.a_codes), static_cast<std::uint8_t const*>(operands.a_scales),
              problem.k / 2, static_cast<int>(ceil_div(problem.k, kGroupK))};
  params.c = static_cast<char*>(operands.c);
  std::memcpy(plan.params, &params, sizeof(params));

  auto const cluster = static_cast<std::uint32_t>(splits);
  plan.shape = {{grid_of(tiles * cluster, "of the GEMM"), 1, 1},
                {Tile::kThreads, 1, 1},
                {cluster, 1, 1},
                static_cast<std::uint32_t>(sizeof(typename Tile::SharedStorage))};

  if (Tile::kResident) {
    return;
  }
  WidenParams const widen{params.a, static_cast<std::uint8_t*>(operands.workspace), problem.m};
  std::memcpy(plan.prologue_params, &widen, sizeof(widen));
  // 65535 is the most of a grid along y, and of batches.
  std::int64_t const pieces = ceil_div(4 * params.a.groups, kWidenThreads);
  plan.prologue_shape = {{static_cast<std::uint32_t>(pieces), static_cast<std::uint32_t>(std::min(problem.m, 65535)),
                          static_cast<std::uint32_t>(problem.batch)},
                         {kWidenThreads, 1, 1},
                         {1, 1, 1},
                         0};
}

template <class Tile>
detail::KernelInstance instance(char const* name, void const* function) {
  nvfp4_kernel_info info{};
  info.name = name;
  info.mainloop = NVFP4_MAINLOOP_WIDENED;
  info.scheduler = NVFP4_SCHEDULER_GRID;
  info.weights = NVFP4_WEIGHTS_SEPARATE;
  info.compute_capability = 90;
  info.sms = 1;
  info.tile_m = Tile::kTokens;
  info.tile_n = Tile::kColumns;
  info.tile_k = Tile::kTileK;
  info.threads = Tile::kThreads;
  info.stages = Tile::kStages;
  info.accumulator_stages = 1;
  info.smem_bytes = sizeof(typename Tile::SharedStorage);
  info.params_bytes = sizeof(Params);
  if constexpr (Tile::kResident) {
    return {info, function, nullptr, 0, nullptr, &encode<Tile>};
  } else {
    return {info, function, reinterpret_cast<void const*>(&widen_tokens<Tile>), sizeof(WidenParams), &workspace_bytes,
            &encode<Tile>};
  }
}

}  // namespace nvfp4::sm90
