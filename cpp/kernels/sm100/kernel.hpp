// From a row of sm100.def to a kernel of CUTLASS's SM100 layer.
#pragma once

#include "cutlass/arch/grid_dependency_control.h"
#include "cutlass/gemm/kernel/gemm_universal.hpp"
#include "nvfp4_dual_gemm/types.h"
#include "sm100/epilogue.hpp"
#include "sm100/mainloop.hpp"
#include "sm100/weights_interleaved.hpp"
#include "sm100/weights_separate.hpp"
#include "sm100/weights_stacked.hpp"

namespace nvfp4::sm100 {

template <nvfp4_mainloop kMainloop>
struct Arrangement;
template <>
struct Arrangement<NVFP4_MAINLOOP_STACKED> {
  template <class Stock>
  using Weights = StackedWeights<Stock>;
};
template <>
struct Arrangement<NVFP4_MAINLOOP_TWO_ACCUMULATORS> {
  template <class Stock>
  using Weights = SeparateWeights<Stock>;
};
template <>
struct Arrangement<NVFP4_MAINLOOP_INTERLEAVED> {
  template <class Stock>
  using Weights = InterleavedWeights<Stock>;
};

// kTileM is per MMA, kTileN counts columns of C, as in the table.
template <nvfp4_mainloop kMainloop_, int kSms_, int kTileM_, int kTileN_, int kClusterM_, int kClusterN_,
          nvfp4_scheduler kScheduler_>
struct DualGemm {
  static constexpr nvfp4_mainloop kMainloop = kMainloop_;
  static constexpr nvfp4_scheduler kScheduler = kScheduler_;
  static constexpr int kSms = kSms_;
  static constexpr int kTileM = kTileM_;
  static constexpr int kTileN = kTileN_;
  static constexpr int kClusterM = kClusterM_;
  static constexpr int kClusterN = kClusterN_;
  static_assert(kSms == 1 || kSms == 2, "an MMA spans one SM or a pair");
  static_assert(kTileM == 128 * kSms, "the epilogue gives each of its 128 threads one row of a CTA's tile");

  static constexpr int kAccumulators = kMainloop == NVFP4_MAINLOOP_TWO_ACCUMULATORS ? 2 : 1;
  static constexpr int kMmaN = 2 * kTileN / kAccumulators;

  // As many stages as fit beside the barriers.
  static constexpr int kScaleRows = kAccumulators * cutlass::round_up(kMmaN, NVFP4_SCALE_ATOM_ROWS);
  static constexpr int kStageBytes = (kTileM / kSms + 2 * kTileN / kSms) * kCodeRowBytes +
                                     (kTileM / kSms + kScaleRows) * kScaleRowBytes;
  static constexpr int kBarrierBytes = 1024;
  static constexpr int kStages = (NVFP4_SM100_SMEM_BYTES - kBarrierBytes) / kStageBytes;

  // A weight is read by one cluster only where all rows of A are in it; where tiles outnumber SMs, M is long as well.
  static constexpr Keep kKeepWeights = kScheduler == NVFP4_SCHEDULER_CLC ? Keep::kNormally : Keep::kBriefly;

  using StockCollective = Stock<kSms, kTileM, kMmaN, kClusterM, kClusterN, kStages>;
  using Weights = typename Arrangement<kMainloop>::template Weights<StockCollective>;
  using CollectiveMainloop = Mainloop<StockCollective, Weights, Keep::kLong, kKeepWeights>;
  static_assert(Weights::kAccumulators == kAccumulators && CollectiveMainloop::kStageBytes == kStageBytes,
                "the stages were counted for another arrangement");

  // Two accumulator buffers of 256 columns share 64, which leaves 64 of the 512 to the scales. 32 would leave too few.
  static constexpr int kOverlapN = 64;
  using CollectiveEpilogue =
      GluEpilogue<kTileN, kOverlapN, Weights::kProblemNScale, Weights::kAccumulators>;
  using TmemColumns =
      typename CollectiveMainloop::TensorMemory::template Columns<typename CollectiveEpilogue::EpilogueTile>;

  using TileScheduler =
      cute::conditional_t<kScheduler == NVFP4_SCHEDULER_CLC, void, cutlass::gemm::StaticPersistentScheduler>;
  using ProblemShape = cute::Shape<int, int, int, int>;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<ProblemShape, CollectiveMainloop, CollectiveEpilogue,
                                                      TileScheduler>;
  static_assert(Kernel::IsSchedDynamicPersistent == (kScheduler == NVFP4_SCHEDULER_CLC));
  static_assert(Kernel::SharedStorageSize <= NVFP4_SM100_SMEM_BYTES, "more shared memory than a CTA may have");
  static_assert(Kernel::SharedStorageSize + kStageBytes > NVFP4_SM100_SMEM_BYTES, "a further stage would fit");

  static ProblemShape problem_shape(nvfp4_shape const& shape) {
    return {shape.m, Weights::kProblemNScale * shape.n, shape.k, shape.batch};
  }
};

// Body of the __global__ function of an instance.
template <class Kernel>
CUTLASS_DEVICE void run_kernel(typename Kernel::Params const& params) {
#if defined(__CUDA_ARCH__)
  static_assert(Kernel::IsGdcEnabled,
                "compile with CUTLASS_ENABLE_GDC_FOR_SM100: without griddepcontrol.wait a kernel that is launched "
                "early reads operands before they are written");
#endif
  extern __shared__ __align__(1024) char smem[];
  Kernel{}(params, smem);
}

}  // namespace nvfp4::sm100
