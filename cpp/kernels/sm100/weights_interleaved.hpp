// Weights that were repacked into tiles of 96 gate rows, then 96 up rows: to the MMA one matrix.
#pragma once

#include "sm100/stock.hpp"

namespace nvfp4::sm100 {

// The members are explained at SeparateWeights.
template <class Stock>
struct InterleavedWeights {
  static constexpr int kMatrices = 1;
  static constexpr int kAccumulators = 1;
  static constexpr int kProblemNScale = 2;
  static constexpr int kCodesPerCta = 1;
  static constexpr int kStages = Stock::DispatchPolicy::Stages;
  static constexpr int kTileN = cute::size<1>(typename Stock::TileShape{}) / 2;
  static_assert(kTileN == NVFP4_INTERLEAVE, "the packing fixes the tile");

  using CodesMma = typename Stock::TiledMma;
  using CodesTile = typename Stock::TileShape;
  using CodeSlots = typename Stock::SmemLayoutB;
  using CodesForMma = CodeSlots;

  // Each tile owns whole atoms of scales, so that all tiles begin at the same column of tensor memory.
  using ScalesMma = typename Stock::TiledMMA_SF;
  using ScalesTile = typename Stock::TileShape_SF;
  using ScaleAtom = typename Stock::SmemLayoutAtomSFB;
  using ScaleSlots = typename Stock::SmemLayoutSFB;
  using ScalesForMma = ScaleSlots;
  static_assert(cute::size<1>(ScalesTile{}) == NVFP4_INTERLEAVED_SCALE_ROWS, "the packing fixes the tile of scales");

  CUTLASS_HOST_DEVICE static constexpr int tiles(int n) { return (n + kTileN - 1) / kTileN; }
  CUTLASS_HOST_DEVICE static constexpr int code_rows(int n) { return tiles(n) * 2 * kTileN; }
  CUTLASS_HOST_DEVICE static constexpr int scale_rows(int n) { return tiles(n) * NVFP4_INTERLEAVED_SCALE_ROWS; }
  CUTLASS_HOST_DEVICE static constexpr int scale_tile(int tile) { return tile; }
  CUTLASS_HOST_DEVICE static constexpr int scale_column_shift(int) { return 0; }
};

}  // namespace nvfp4::sm100
