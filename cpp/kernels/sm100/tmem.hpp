// Tensor memory: where accumulators and scale factors lie, and that they fit.
#pragma once

#include <cstdint>

#include "cutlass/detail/sm100_tmem_helper.hpp"
#include "sm100/stock.hpp"

namespace nvfp4::sm100 {

// Columns from 0: the accumulators of all stages, A's scales, then the scales of each accumulator's weights.
template <class Stock, class Weights>
struct Tmem {
  using TiledMma = typename Stock::TiledMma;
  static constexpr int kAccumulators = Weights::kAccumulators;
  static constexpr int kStages = Stock::DispatchPolicy::Schedule::AccumulatorPipelineStageCount;
  static_assert(!Stock::DispatchPolicy::IsOverlappingAccum || kAccumulators == 1,
                "CUTLASS lets only a single accumulator overlap with its own next stage");

  template <class Accumulators, class ScalesA, class ScalesB>
  struct Tensors {
    Accumulators accumulators;  // (MMA, MMA_M, MMA_N, [accumulator,] stage)
    ScalesA a_scales;           // (MMA, MMA_M, MMA_K)
    ScalesB b_scales;           // (MMA, MMA_N, MMA_K, accumulator)
  };

  template <class EpilogueTile, bool kOverlap>
  CUTLASS_HOST_DEVICE static auto tensors() {
    using namespace cute;
    auto const tile = partition_shape_C(TiledMma{}, take<0, 2>(typename Stock::TileShape{}));
    auto const shape_of_stage = [&] {
      if constexpr (kAccumulators == 1) {
        return tile;
      } else {
        return append(tile, Int<kAccumulators>{});
      }
    }();
    auto const accumulators =
        cutlass::detail::make_sm100_accumulator<kStages, kOverlap>(TiledMma{}, shape_of_stage, EpilogueTile{});
    auto const a_scales = make_tensor<typename TiledMma::FrgTypeSFA>(shape(typename Stock::SmemLayoutAtomSFA{}));
    auto const b_scales = make_tensor<typename TiledMma::FrgTypeSFB>(
        append(shape(typename Weights::ScaleAtom{}), Int<kAccumulators>{}));
    return Tensors<remove_cvref_t<decltype(accumulators)>, remove_cvref_t<decltype(a_scales)>,
                   remove_cvref_t<decltype(b_scales)>>{accumulators, a_scales, b_scales};
  }

  template <class Tensor>
  static constexpr int kColumnsOf = cutlass::detail::find_tmem_tensor_col_offset(Tensor{});

  template <class Accumulators, class ScalesA, class ScalesB>
  CUTLASS_HOST_DEVICE static void place(Tensors<Accumulators, ScalesA, ScalesB>& tensors, std::uint32_t base) {
    tensors.accumulators.data() = base;
    tensors.a_scales.data() = base + kColumnsOf<Accumulators>;
    tensors.b_scales.data() = base + kColumnsOf<Accumulators> + kColumnsOf<ScalesA>;
  }

  // What a kernel with this epilogue tile uses. CUTLASS allocates all columns and checks nothing.
  template <class EpilogueTile>
  struct Columns {
    using All = decltype(tensors<EpilogueTile, Stock::DispatchPolicy::IsOverlappingAccum>());
    static constexpr int kAccumulatorColumns = kColumnsOf<decltype(All::accumulators)>;
    static constexpr int kScaleColumnsA = kColumnsOf<decltype(All::a_scales)>;
    static constexpr int kScaleColumnsB = kColumnsOf<decltype(All::b_scales)>;
    static constexpr int kTotal = kAccumulatorColumns + kScaleColumnsA + kScaleColumnsB;
    static_assert(kTotal <= NVFP4_TMEM_COLUMNS, "accumulators and scale factors do not fit into tensor memory");
  };
};

}  // namespace nvfp4::sm100
