// The tensor maps that the kernels load by, from the definition of the operands. Host only.
#pragma once

#include <cstdint>

#include "device/tensor_map.hpp"
#include "nvfp4_dual_gemm/types.h"
#include "nvfp4_dual_gemm/weights.hpp"
#include "sm100/kernel.hpp"
#include "support/integer.hpp"

namespace nvfp4::sm100 {

// Codes [batch, rows, k], K counted in codes; a box of `box_rows` rows of a tile's K, swizzled over their 128 bytes.
inline detail::TensorMapShape codes_map(std::int64_t rows, std::int64_t k, std::int64_t batch, int box_rows) {
  auto const size = [](std::int64_t value) { return static_cast<cuuint64_t>(value); };
  return {CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN8B,
          3,
          {size(k), size(rows), size(batch)},
          {size(k / 2), size(rows * k / 2)},
          {NVFP4_TILE_K, static_cast<cuuint32_t>(box_rows), 1},
          CU_TENSOR_MAP_SWIZZLE_128B,
          CU_TENSOR_MAP_L2_PROMOTION_L2_128B};
}

// Scales in the 128x4 layout, [batch, atoms of rows, atoms of K]: an atom is 256 elements of 16 bits, the most of a box
// along a dimension.
inline detail::TensorMapShape scales_map(std::int64_t rows, std::int64_t k, std::int64_t batch, int box_row_atoms,
                                         int box_k_atoms) {
  auto const size = [](std::int64_t value) { return static_cast<cuuint64_t>(value); };
  constexpr std::int64_t kAtom = NVFP4_SCALE_ATOM_BYTES;
  std::int64_t const k_atoms = detail::ceil_div(k, NVFP4_SCALE_BLOCK * NVFP4_SCALE_ATOM_BLOCKS);
  std::int64_t const row_atoms = detail::ceil_div(rows, NVFP4_SCALE_ATOM_ROWS);
  auto const box = [](int atoms) { return static_cast<cuuint32_t>(atoms); };
  cuuint64_t const batch_stride = size(row_atoms * k_atoms * kAtom);
  constexpr auto kType = CU_TENSOR_MAP_DATA_TYPE_UINT16;
  constexpr auto kSwizzle = CU_TENSOR_MAP_SWIZZLE_NONE;
  constexpr auto kPromotion = CU_TENSOR_MAP_L2_PROMOTION_L2_128B;
  if (box_row_atoms == 1) {
    return {kType,
            4,
            {kAtom / 2, size(k_atoms), size(row_atoms), size(batch)},
            {kAtom, size(k_atoms * kAtom), batch_stride},
            {kAtom / 2, box(box_k_atoms), 1, 1},
            kSwizzle,
            kPromotion};
  }
  // Of several, those of the same 64 of K stand side by side in shared memory: K is the outer dimension.
  return {kType,
          4,
          {kAtom / 2, size(row_atoms), size(k_atoms), size(batch)},
          {size(k_atoms * kAtom), kAtom, batch_stride},
          {kAtom / 2, box(box_row_atoms), box(box_k_atoms), 1},
          kSwizzle,
          kPromotion};
}

// Of the kernel `Config`. The CTAs of a cluster that need the same tile load a part of it each, for all: A's along N, the
// weights' codes along M, of those that hold the same rows, and their scales along M, as each of a pair needs all.
template <class Config>
struct OperandMaps {
  using Mainloop = typename Config::CollectiveMainloop;
  using Weights = typename Config::Weights;
  using Params = typename Mainloop::Params;

  static constexpr int kTileAtoms = NVFP4_TILE_K / (NVFP4_SCALE_BLOCK * NVFP4_SCALE_ATOM_BLOCKS);
  static constexpr int kRowsA = Config::kTileM / Config::kSms;
  static constexpr int kRowsB = static_cast<int>(Mainloop::kStageBytesB) / kCodeRowBytes / Weights::kCodesPerCta;
  static constexpr int kShareB = Config::kClusterM / Config::kSms;
  static constexpr int kRowAtomsB =
      static_cast<int>(cute::size<1>(typename Weights::ScalesTile{})) / NVFP4_SCALE_ATOM_ROWS;
  static_assert(kRowsA % Config::kClusterN == 0 && kTileAtoms % Config::kClusterN == 0 && kRowsB % kShareB == 0 &&
                    kTileAtoms % Config::kClusterM == 0,
                "the CTAs of a cluster load equal parts");

  static detail::TensorMapShape a_codes(int rows, int k, int batch) {
    return codes_map(rows, k, batch, kRowsA / Config::kClusterN);
  }
  static detail::TensorMapShape a_scales(int rows, int k, int batch) {
    return scales_map(rows, k, batch, 1, kTileAtoms / Config::kClusterN);
  }
  static detail::TensorMapShape b_codes(int n, int k, int batch) {
    return codes_map(Weights::code_rows(n), k, batch, kRowsB / kShareB);
  }
  static detail::TensorMapShape b_scales(int n, int k, int batch) {
    return scales_map(Weights::scale_rows(n), k, batch, kRowAtomsB, kTileAtoms / Config::kClusterM);
  }

  static void encode_weights(detail::TensorMapEncoder const& encoder, nvfp4_spec const& spec,
                             nvfp4_weights const& weights, Params& params) {
    static constexpr char const* kCodes[] = {"B1", "B2"};
    static constexpr char const* kScales[] = {"the scales of B1", "the scales of B2"};
    void const* const codes[] = {weights.b1_codes, weights.b2_codes};
    void const* const scales[] = {weights.b1_scales, weights.b2_scales};
    int const rows = weight_rows(spec);
    for (int i = 0; i < Weights::kMatrices; ++i) {
      encoder.encode(params.tma_b[i], kCodes[i], codes[i], b_codes(rows, spec.k, spec.batch));
      encoder.encode(params.tma_sfb[i], kScales[i], scales[i], b_scales(rows, spec.k, spec.batch));
    }
  }

  static void encode_activations(detail::TensorMapEncoder const& encoder, nvfp4_spec const& spec, nvfp4_io const& io,
                                 Params& params) {
    encoder.encode(params.tma_a, "A", io.a_codes, a_codes(io.rows, spec.k, spec.batch));
    encoder.encode(params.tma_sfa, "the scales of A", io.a_scales, a_scales(io.rows, spec.k, spec.batch));
  }
};

}  // namespace nvfp4::sm100
