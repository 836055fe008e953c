// CUTLASS's block-scaled SM100 collective for one MMA tile, as a source of types: the MMA, shared memory layouts, TMA
// atoms, pipelines and the dispatch policy by which the kernel layer is chosen. Its object is never built.
#pragma once

#include <cstdint>

#include "cute/tensor.hpp"
#include "cutlass/cutlass.h"
#include "cutlass/gemm/collective/collective_builder.hpp"
#include "cutlass/gemm/dispatch_policy.hpp"
#include "nvfp4_dual_gemm/types.h"

namespace nvfp4::sm100 {

using ElementPair = cutlass::nv_float4_t<cutlass::float_e2m1_t>;  // codes, and UE4M3 scales of 16 each

template <int kSms>
using Schedule = cute::conditional_t<kSms == 2, cutlass::gemm::KernelTmaWarpSpecialized2SmNvf4Sm100,
                                     cutlass::gemm::KernelTmaWarpSpecialized1SmNvf4Sm100>;

// Both operands K-major, rows of whole 16 bytes.
template <int kSms, int kMmaM, int kMmaN, int kClusterM, int kClusterN, int kStages>
using Stock = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm100, cutlass::arch::OpClassBlockScaledTensorOp, ElementPair, cutlass::layout::RowMajor,
    NVFP4_K_MULTIPLE, ElementPair, cutlass::layout::ColumnMajor, NVFP4_K_MULTIPLE, float,
    cute::Shape<cute::Int<kMmaM>, cute::Int<kMmaN>, cute::Int<NVFP4_TILE_K>>,
    cute::Shape<cute::Int<kClusterM>, cute::Int<kClusterN>, cute::_1>, cutlass::gemm::collective::StageCount<kStages>,
    Schedule<kSms>>::CollectiveOp;

// Bytes of one row of codes and of its scales in a tile.
inline constexpr int kCodeRowBytes = NVFP4_TILE_K / 2;
inline constexpr int kScaleRowBytes = NVFP4_TILE_K / NVFP4_SCALE_BLOCK;

// The smem layout `Atom` of one tile, repeated in `kSlots` consecutive places.
template <class Atom, int kSlots>
using ScaleSlots = decltype(cute::make_layout(
    cute::append(cute::shape(Atom{}), cute::Int<kSlots>{}),
    cute::append(cute::stride(Atom{}), cute::Int<cute::cosize_v<decltype(cute::filter_zeros(Atom{}))>>{})));

// The 128x4 layout of the scale factors of `batch` matrices, each padded to whole atoms. A batch may begin beyond 2^31.
CUTLASS_HOST_DEVICE auto scale_layout(int rows, int k, int batch) {
  using Config = cutlass::detail::Sm1xxBlockScaledConfig<NVFP4_SCALE_BLOCK>;
  auto const layout = Config::tile_atom_to_shape_SFA(cute::make_shape(rows, rows, k, batch));
  std::int64_t const row_atoms = cute::ceil_div(rows, NVFP4_SCALE_ATOM_ROWS);
  std::int64_t const k_atoms = cute::ceil_div(k, NVFP4_SCALE_ATOM_BLOCKS * NVFP4_SCALE_BLOCK);
  auto const batch_stride = cute::make_stride(cute::_0{}, row_atoms * k_atoms * NVFP4_SCALE_ATOM_BYTES);
  return cute::make_layout(cute::shape(layout), cute::replace<2>(cute::stride(layout), batch_stride));
}
using ScaleLayout = decltype(scale_layout(0, 0, 0));

}  // namespace nvfp4::sm100
