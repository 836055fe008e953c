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

#include "common/glu.hpp"
#include "common/output.hpp"
#include "device/tensor_map.hpp"
#include "nvfp4_dual_gemm/error.hpp"
#include "nvfp4_dual_gemm/weights.hpp"
#include "registry/instance.hpp"
#include "select/sm90_tile.hpp"
#include "sm90/kernel.hpp"
#include "sm90/widen_tokens.hpp"
#include "support/integer.hpp"

namespace nvfp4::sm90 {

// A row-major tensor (batch, rows, inner) as boxes of `box_rows` x `box_inner`.
inline detail::TensorMapShape map_of(CUtensorMapDataType type, std::int64_t inner, std::int64_t rows,
                                     std::int64_t batch, std::int64_t row_bytes, int box_inner, int box_rows,
                                     CUtensorMapSwizzle swizzle) {
  auto const size = [](std::int64_t value) { return static_cast<cuuint64_t>(value); };
  return {type,
          3,
          {size(inner), size(rows), size(batch)},
          {size(row_bytes), size(row_bytes * rows)},
          {static_cast<cuuint32_t>(box_inner), static_cast<cuuint32_t>(box_rows), 1},
          swizzle,
          CU_TENSOR_MAP_L2_PROMOTION_L2_256B};
}

inline std::int64_t groups_of(int k) { return detail::ceil_div(std::int64_t{k}, kGroupK); }

inline std::size_t workspace_bytes(nvfp4_shape const& shape) {
  return static_cast<std::size_t>(token_row_bytes(shape.k)) * static_cast<std::size_t>(shape.m) *
         static_cast<std::size_t>(shape.batch);
}

inline std::uint32_t grid_of(std::int64_t blocks, char const* what) {
  if (blocks > std::numeric_limits<std::int32_t>::max()) {
    throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0,
                std::string("too many blocks ") + what + ": " + std::to_string(blocks));
  }
  return static_cast<std::uint32_t>(blocks);
}

// How the work of so many rows is divided.
struct Division {
  std::int64_t token_tiles, tiles;
  int splits;
};

template <class Tile>
Division divide(nvfp4_shape const& shape, detail::Residency const& residency) {
  std::int64_t const k_tiles = detail::ceil_div(std::int64_t{shape.k}, Tile::kTileK);
  std::int64_t const token_tiles = detail::ceil_div(std::int64_t{shape.m}, Tile::kTokens);
  std::int64_t const column_tiles = detail::ceil_div(std::int64_t{shape.n}, Tile::kColumns);
  std::int64_t const tiles = token_tiles * column_tiles * shape.batch;
  static_cast<void>(grid_of(tiles, "of the GEMM"));
  int const splits = sm90::splits(shape, {Tile::kTokens, Tile::kColumns, Tile::kTileK}, residency);
  if (splits == 0) {
    throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0,
                "k = " + std::to_string(shape.k) + ": at most " + std::to_string(detail::kMaxCluster * kResidentK) +
                    " for tiles of " + std::to_string(Tile::kTokens) + " tokens, in clusters of CTAs with " +
                    std::to_string(kResidentK) + " each, as large as the device takes them");
  }
  if (splits > k_tiles) {  // never of sm90::splits: C would be what was in the registers of the CTA without K
    throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0,
                "k = " + std::to_string(shape.k) + ": " + std::to_string(k_tiles) + " tiles for " +
                    std::to_string(splits) + " CTAs");
  }
  return {token_tiles, tiles, splits};
}

template <class Tile>
nvfp4_launch_shape shape_of(Division const& division) {
  auto const cluster = static_cast<std::uint32_t>(division.splits);
  return {{grid_of(division.tiles * cluster, "of the GEMM"), 1, 1},
          {Tile::kThreads, 1, 1},
          {cluster, 1, 1},
          static_cast<std::uint32_t>(sizeof(typename Tile::SharedStorage))};
}

template <class Tile>
nvfp4_launch_shape launch_shape(nvfp4_spec const& spec, int rows, detail::Residency const& residency) {
  return shape_of<Tile>(divide<Tile>(detail::products(spec, rows), residency));
}

// What all launches have in common of the parameter.
template <class Tile>
void encode_weights(detail::TensorMapEncoder const& encoder, nvfp4_spec const& spec, nvfp4_weights const& weights,
                    detail::ParamsBytes& encoded) {
  static_assert(std::is_trivially_copyable_v<Params> && sizeof(Params) <= sizeof(encoded.bytes),
                "the parameter is handed over as bytes");
  std::int64_t const groups = groups_of(spec.k);
  int const rows = weight_rows(spec);
  Params params{};
  char const* const names[] = {"B1", "B2", "the scales of B1", "the scales of B2"};
  void const* const codes[] = {weights.b1_codes, weights.b2_codes};
  void const* const scales[] = {weights.b1_scales, weights.b2_scales};
  for (int i = 0; i < 2; ++i) {
    encoder.encode(params.codes[i], names[i], codes[i],
                   map_of(CU_TENSOR_MAP_DATA_TYPE_UINT8, spec.k / 2, rows, spec.batch, spec.k / 2, Tile::kTileK / 2,
                          Tile::kColumns,
                          Tile::kTileK == 64    ? CU_TENSOR_MAP_SWIZZLE_NONE
                          : Tile::kTileK == 128 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                : CU_TENSOR_MAP_SWIZZLE_128B));
    // As 8-byte words: a box has at most 256 elements along a dimension.
    constexpr int kAtomWords = NVFP4_SCALE_ATOM_BYTES / 8;
    encoder.encode(params.scales[i], names[2 + i], scales[i],
                   map_of(CU_TENSOR_MAP_DATA_TYPE_INT64, groups * kAtomWords,
                          detail::ceil_div(rows, NVFP4_SCALE_ATOM_ROWS), spec.batch, groups * NVFP4_SCALE_ATOM_BYTES,
                          Tile::kGroups * kAtomWords, Tile::kScaleAtoms, CU_TENSOR_MAP_SWIZZLE_NONE));
  }
  params.k_tiles = detail::ceil_div(spec.k, Tile::kTileK);
  params.column_tiles = static_cast<int>(detail::ceil_div(std::int64_t{rows}, Tile::kColumns));
  params.glu = detail::glu_constants(spec);
  params.bias[0] = weights.bias1;
  params.bias[1] = weights.bias2;
  std::memcpy(encoded.bytes, &params, sizeof(params));
}

template <class Tile>
void encode_io(detail::KernelInstance const& kernel, detail::TensorMapEncoder const& encoder, nvfp4_spec const& spec,
               nvfp4_io const& io, detail::Residency const& residency, detail::ParamsBytes const& encoded,
               detail::Launches& launches) {
  Division const division = divide<Tile>(detail::products(spec, io.rows), residency);
  std::int64_t const groups = groups_of(spec.k);
  Params params;
  std::memcpy(&params, encoded.bytes, sizeof(params));
  params.m = io.rows;
  params.token_tiles = static_cast<int>(division.token_tiles);
  params.splits = division.splits;
  params.c = detail::output_of(spec, io);
  params.whole_rows = detail::alignment_bits(params.c) % 16 == 0;
  params.whole_residual = detail::whole_residual(params.c);
  params.alpha1 = io.alpha1;
  params.alpha2 = io.alpha2;
  params.factor1 = io.factor1;
  params.factor2 = io.factor2;
  auto const* const a = static_cast<std::uint8_t const*>(io.a_codes);
  std::int64_t const row_bytes = 2 * (io.a_row_stride == 0 ? spec.k : io.a_row_stride);  // of values
  if constexpr (Tile::kActivations == NVFP4_DATA_TYPE_NVFP4) {
    params.a = {a, static_cast<std::uint8_t const*>(io.a_scales), spec.k / 2, static_cast<int>(groups)};
  } else {
    params.values = {a, row_bytes, spec.k};
  }

  bool programmatic = spec.programmatic_launch != 0;
  launches.count = 0;
  if constexpr (Tile::kNaturalOrder) {
    encoder.encode(params.tokens, "A", io.a_codes,
                   map_of(Tile::kActivations == NVFP4_DATA_TYPE_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                                    : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                          spec.k, io.rows, spec.batch, row_bytes, kGroupK, Tile::kTokens,
                          CU_TENSOR_MAP_SWIZZLE_128B));
  }
  if constexpr (Tile::kWidenedAhead) {
    encoder.encode(params.tokens, "the widened A", io.workspace,
                   map_of(CU_TENSOR_MAP_DATA_TYPE_FLOAT16, groups * kGroupK, io.rows, spec.batch,
                          groups * kGroupTokenBytes, kGroupK, Tile::kTokens, CU_TENSOR_MAP_SWIZZLE_128B));
    static_assert(std::is_trivially_copyable_v<WidenParams> && sizeof(WidenParams) <= sizeof(encoded.bytes));
    WidenParams widen{};
    widen.a = params.a;
    widen.tokens = static_cast<std::uint8_t*>(io.workspace);
    widen.rows = io.rows;
    // 65535 is the most of a grid along y, and of batches.
    std::int64_t const pieces = detail::ceil_div(4 * groups, kWidenThreads);
    detail::Launch& ahead = launches.list[launches.count++];
    ahead.function = kernel.prologue;
    ahead.role = "prologue of ";
    ahead.programmatic = programmatic;
    ahead.shape = {{static_cast<std::uint32_t>(pieces), static_cast<std::uint32_t>(std::min(io.rows, 65535)),
                    static_cast<std::uint32_t>(spec.batch)},
                   {kWidenThreads, 1, 1},
                   {1, 1, 1},
                   0};
    std::memcpy(ahead.params.bytes, &widen, sizeof(widen));
    programmatic = true;  // the kernel waits for the prologue itself, and that for what was before it
  }
  detail::Launch& launch = launches.list[launches.count++];
  launch.function = kernel.function;
  launch.role = "";
  launch.programmatic = programmatic;
  launch.shape = shape_of<Tile>(division);
  std::memcpy(launch.params.bytes, &params, sizeof(params));
}

template <class Tile>
detail::KernelInstance instance(char const* name, void const* function) {
  nvfp4_kernel_info info{};
  info.name = name;
  info.mainloop = NVFP4_MAINLOOP_WIDENED;
  info.scheduler = NVFP4_SCHEDULER_GRID;
  info.weights = NVFP4_WEIGHTS_SEPARATE;
  info.activations = Tile::kActivations;
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
  if constexpr (Tile::kWidenedAhead) {
    return {info,
            function,
            reinterpret_cast<void const*>(&widen_tokens<Tile>),
            &workspace_bytes,
            &encode_weights<Tile>,
            &launch_shape<Tile>,
            &encode_io<Tile>};
  } else {
    return {info, function, nullptr, nullptr, &encode_weights<Tile>, &launch_shape<Tile>, &encode_io<Tile>};
  }
}

}  // namespace nvfp4::sm90
