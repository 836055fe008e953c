// B1 and B2 as two tiles with an accumulator each.
#pragma once

#include "sm100/stock.hpp"

namespace nvfp4::sm100 {

// An arrangement of the weights says how they lie in global memory, in shared memory and before the MMA:
//   kMatrices       tensors in global memory, each with codes and scales, hence TMA loads of either per stage
//   kAccumulators   MMAs per 64 of K
//   kProblemNScale  columns of the kernel's problem per column of C
//   kCodesPerCta    matrices whose codes one CTA loads: where fewer than kMatrices, each CTA of a pair loads its own
//   Codes*, Scales* the MMA and tile by which TMA cuts up a matrix, and the slots in shared memory where tiles land:
//                   slot kCodesPerCta * stage + matrix, and kMatrices * stage + matrix
//   *ForMma         the same bytes as the MMA sees them: slot kAccumulators * stage + accumulator
//   scale_tile      the tile of scales for a tile of codes, and scale_column_shift what of it is used
template <class Stock>
struct SeparateWeights {
  static constexpr int kMatrices = 2;
  static constexpr int kAccumulators = 2;
  static constexpr int kProblemNScale = 1;
  static constexpr int kCodesPerCta = 2;
  static constexpr int kStages = Stock::DispatchPolicy::Stages;
  static constexpr int kTileN = cute::size<1>(typename Stock::TileShape{});
  static_assert(kTileN % 64 == 0, "scales in tensor memory can be addressed in steps of 64 rows only");
  static_assert(kTileN == 64 || kTileN % NVFP4_SCALE_ATOM_ROWS == 0, "a tile of codes must lie in one tile of scales");

  using CodesMma = typename Stock::TiledMma;
  using CodesTile = typename Stock::TileShape;
  using CodeSlots = decltype(cute::UMMA::tile_to_mma_shape(
      typename Stock::SmemLayoutAtomB{}, cute::append(typename Stock::MmaShapeB_NK{}, cute::Int<2 * kStages>{}),
      cute::Step<cute::_1, cute::_2, cute::_3>{}));
  using CodesForMma = CodeSlots;

  using ScalesMma = typename Stock::TiledMMA_SF;
  using ScalesTile = typename Stock::TileShape_SF;
  using ScaleAtom = typename Stock::SmemLayoutAtomSFB;
  using ScaleSlots = sm100::ScaleSlots<ScaleAtom, 2 * kStages>;
  using ScalesForMma = ScaleSlots;

  CUTLASS_HOST_DEVICE static constexpr int code_rows(int n) { return n; }
  CUTLASS_HOST_DEVICE static constexpr int scale_rows(int n) { return n; }

  // Two tiles of 64 columns share the 128 rows of an atom.
  CUTLASS_HOST_DEVICE static constexpr int scale_tile(int tile) { return kTileN == 64 ? tile / 2 : tile; }
  CUTLASS_HOST_DEVICE static constexpr int scale_column_shift(int tile) { return kTileN == 64 ? (tile & 1) * 2 : 0; }
};

}  // namespace nvfp4::sm100
