// B1 over B2 in one tile: the MMA is twice as wide as the tile of C, and A is read once for both products.
#pragma once

#include "sm100/stock.hpp"

namespace nvfp4::sm100 {

// The members are explained at SeparateWeights.
template <class Stock>
struct StackedWeights {
  static constexpr int kMatrices = 2;
  static constexpr int kAccumulators = 1;
  static constexpr int kProblemNScale = 2;
  // A pair of CTAs splits the rows of B: CTA 0 has those of B1, CTA 1 those of B2.
  static constexpr int kCodesPerCta = 2 / cute::size(typename Stock::TiledMma::AtomThrID{});
  static constexpr int kStages = Stock::DispatchPolicy::Stages;
  static constexpr int kTileN = cute::size<1>(typename Stock::TileShape{}) / 2;
  static_assert(kTileN == NVFP4_SCALE_ATOM_ROWS,
                "half a tile must be an atom of scales: they cannot be joined in the middle of one without packing");

  // A 1-SM MMA over one of the matrices: never issued, it only cuts up the tile for TMA.
  using HalfMma = cute::TiledMMA<
      cute::MMA_Atom<cute::SM100_MMA_MXF4_SS<typename Stock::ElementAMma, typename Stock::ElementBMma, float,
                                             typename Stock::ElementSF, 128, kTileN, NVFP4_SCALE_BLOCK,
                                             cute::UMMA::Major::K, cute::UMMA::Major::K>>,
      cute::Layout<cute::Shape<cute::_1, cute::_1, cute::_1>>,
      cute::Tile<cute::Underscore, cute::Underscore, cute::Underscore>>;
  using HalfTile = cute::Shape<cute::_128, cute::Int<kTileN>, cute::Int<NVFP4_TILE_K>>;
  using HalfShape = decltype(cute::partition_shape_B(
      HalfMma{}, cute::Shape<cute::Int<kTileN>, cute::Int<NVFP4_TILE_K>>{}));

  // Rows are 128 swizzled bytes whatever the tile's height, so a tile is its halves one after the other.
  using CodesMma = HalfMma;
  using CodesTile = HalfTile;
  using CodeSlots = decltype(cute::UMMA::tile_to_mma_shape(
      typename Stock::SmemLayoutAtomB{}, cute::append(HalfShape{}, cute::Int<kCodesPerCta * kStages>{}),
      cute::Step<cute::_1, cute::_2, cute::_3>{}));
  using CodesForMma = typename Stock::SmemLayoutB;
  static_assert(cute::cosize_v<CodeSlots> == cute::cosize_v<CodesForMma>, "two views of the same bytes");

  using ScalesMma = HalfMma;
  using ScalesTile = HalfTile;
  using HalfScales = decltype(Stock::Sm1xxBlkScaledConfig::deduce_smem_layoutSFB(HalfMma{}, HalfTile{}));
  using ScaleSlots = sm100::ScaleSlots<HalfScales, 2 * kStages>;

  // The stock tile has the atoms of both halves side by side for each 64 of K. Here each half is contiguous, so that it
  // is one TMA load; the shape stays, and with it the place of each scale in tensor memory.
  static constexpr int kHalfBytes = NVFP4_SCALE_ATOM_ROWS * kScaleRowBytes;
  using ScaleAtom = decltype(cute::make_layout(
      cute::shape(typename Stock::SmemLayoutAtomSFB{}),
      cute::Stride<cute::Stride<cute::Stride<cute::Stride<cute::_16, cute::_4>, cute::Int<kHalfBytes>>,
                                cute::Stride<cute::_0, cute::_1>>,
                   cute::_0, cute::Stride<cute::_4, cute::Int<NVFP4_SCALE_ATOM_BYTES>>>{}));
  using ScalesForMma = sm100::ScaleSlots<ScaleAtom, kStages>;
  static_assert(cute::cosize_v<ScaleSlots> == cute::cosize_v<ScalesForMma>, "two views of the same bytes");

  CUTLASS_HOST_DEVICE static constexpr int code_rows(int n) { return n; }
  CUTLASS_HOST_DEVICE static constexpr int scale_rows(int n) { return n; }
  CUTLASS_HOST_DEVICE static constexpr int scale_tile(int tile) { return tile; }
  CUTLASS_HOST_DEVICE static constexpr int scale_column_shift(int) { return 0; }
};

}  // namespace nvfp4::sm100
