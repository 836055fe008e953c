// Collective epilogue for CUTLASS's SM100 kernel layer: C = glu(x1, x2) or [x1, x2], from tensor memory
// through registers to global memory. It implements the layer's contract itself: no stock SM100 epilogue reads two
// accumulators.
#pragma once

#include <cstdint>

#include "common/convert.hpp"
#include "common/glu.hpp"
#include "common/grid_dependency.hpp"
#include "common/output.hpp"
#include "cute/tensor.hpp"
#include "cutlass/arch/barrier.h"
#include "cutlass/cutlass.h"
#include "cutlass/epilogue/dispatch_policy.hpp"
#include "cutlass/pipeline/pipeline.hpp"
#include "nvfp4_dual_gemm/types.h"
#include "sm100/drain_order.hpp"
#include "sm100/row_store.hpp"

namespace nvfp4::sm100 {

// kTileN: columns of C in a tile of one CTA.
// kOverlapN: columns of tensor memory that the two accumulator buffers share, where the kernel overlaps them.
// kProblemNScale: the kernel's problem is this many times as wide as C.
// kAccumulators: 1 where gate and up are halves of one accumulator, 2 where each has its own.
// Sink: how elements of C leave their thread (row_store.hpp).
template <int kTileN, int kOverlapN, int kProblemNScale, int kAccumulators, class Sink = RowStore>
class GluEpilogue {
  // Two buffers of this many columns of gate and up: the next one is on its way from tensor memory while the special
  // function unit works on this one. There is one warp in each quarter of the SM, so nothing else hides that latency.
  static constexpr int kStepColumns = 16;
  static constexpr int kSteps = kTileN / kStepColumns;
  static constexpr int kRows = 128;

  static_assert(kTileN % (2 * kStepColumns) == 0, "the loop below takes steps in pairs");
  static_assert(kOverlapN % (2 * kStepColumns) == 0 && kOverlapN <= kTileN,
                "the overlap is released at the end of a pair of steps and lies within one projection");
  static_assert(kAccumulators == 1 || kAccumulators == 2, "gate and up are in one accumulator or in two");
  static_assert(kProblemNScale * kAccumulators == 2,
                "one accumulator holds both projections, so that the problem is 2N wide; two have N each");

 public:
  using EpilogueTile = cute::Shape<cute::Int<kRows>, cute::Int<kOverlapN>>;  // the layer reads the overlap from it
  using ElementC = void;
  using StrideC = cute::Stride<std::int64_t, cute::_1, std::int64_t>;
  using ElementD = cutlass::half_t;  // nominal: `Arguments::type` is what is written
  using StrideD = StrideC;
  using GmemTiledCopyC = void;
  using GmemTiledCopyD = void;
  struct ThreadEpilogueOp {
    using ElementOutput = ElementD;
    using ElementAccumulator = float;
    using ElementCompute = float;
    using ElementScalar = float;
    static constexpr int kCount = kStepColumns;
  };
  using CopyOpT2R = cute::SM100_TMEM_LOAD_32dp32b16x;
  static constexpr int ThreadCount = kRows;  // thread = lane of tensor memory = row of the tile
  static constexpr int NumAccumulatorMtxs = kAccumulators;
  static constexpr std::uint32_t TmaTransactionBytes = 0;

  using LoadPipeline = cutlass::PipelineTransactionAsync<0>;
  using LoadPipelineState = cutlass::PipelineState<0>;
  using StorePipeline = cutlass::PipelineTmaStore<1>;
  using StorePipelineState = cutlass::PipelineState<1>;
  struct SharedStorage {};
  using TensorStorage = SharedStorage;
  using PipelineStorage = typename LoadPipeline::SharedStorage;

  struct Arguments {
    detail::GluConstants glu;
    detail::Output c;
    float const* bias[2];  // of x1 and x2, or both null
    float alpha1, alpha2;
    float const *factor1, *factor2;  // device scalars that multiply alpha1 and alpha2; may be null
  };

  struct Params {
    detail::GluConstants glu;
    detail::Output c;
    typename Sink::Mode mode;
    bool whole_bias;  // biases of four columns at a time
    float const* bias[2];
    float alpha1, alpha2;
    float const *factor1, *factor2;
  };

  template <class ProblemShape>
  static Params to_underlying_arguments(ProblemShape const&, Arguments const& args, void*) {
    auto const address = [&](int i) { return reinterpret_cast<std::uintptr_t>(args.bias[i]); };
    bool const whole_bias =
        (address(0) | address(1)) % 16 == 0 && args.c.columns[0] % 4 == 0 && args.c.columns[1] % 4 == 0;
    return {args.glu,
            args.c,
            Sink::mode(args.c),
            whole_bias,
            {args.bias[0], args.bias[1]},
            args.alpha1,
            args.alpha2,
            args.factor1,
            args.factor2};
  }

  template <class ProblemShape>
  static std::size_t get_workspace_size(ProblemShape const&, Arguments const&) {
    return 0;
  }

  template <class ProblemShape>
  static cutlass::Status initialize_workspace(ProblemShape const&, Arguments const&, void*, cudaStream_t,
                                              cutlass::CudaHostAdapter* = nullptr) {
    return cutlass::Status::kSuccess;
  }

  // Any m and n; elements must be where elements can be.
  template <class ProblemShape>
  static bool can_implement(ProblemShape const& problem, Arguments const& args) {
    return static_cast<int>(cute::size<1>(problem)) % kProblemNScale == 0 &&
           reinterpret_cast<std::uintptr_t>(args.c.data) % detail::element_bytes(args.c.type) == 0;
  }

  template <class CtaTile>
  CUTLASS_HOST_DEVICE static constexpr int get_load_pipe_increment(CtaTile) {
    return 1;
  }
  template <class CtaTile>
  CUTLASS_HOST_DEVICE static constexpr int get_store_pipe_increment(CtaTile) {
    return 1;
  }
  CUTLASS_DEVICE static void prefetch_tma_descriptors(Params const&) {}
  CUTLASS_DEVICE bool is_producer_load_needed() const { return false; }

  CUTLASS_DEVICE GluEpilogue(Params const& params, TensorStorage&) : params_(params) {}

  template <bool kReuseTmem = false, class... Args>
  CUTLASS_DEVICE auto load(LoadPipeline, LoadPipelineState state, Args&&...) {
    return state;
  }
  template <class... Args>
  CUTLASS_DEVICE void load_tail(Args&&...) {}
  template <class... Args>
  CUTLASS_DEVICE void store_tail(Args&&...) {}

  // One tile. kReuseTmem: the accumulator has one stage and two places, which share kOverlapN columns.
  template <bool kReuseTmem = false, class AccumulatorPipeline, class AccumulatorState, class ProblemShape,
            class CtaTile, class CtaCoord, class MmaTile, class TiledMma, class Engine, class Layout>
  CUTLASS_DEVICE auto store(LoadPipeline, LoadPipelineState load_state, StorePipeline, StorePipelineState store_state,
                            AccumulatorPipeline accumulator_pipeline, AccumulatorState accumulator_state,
                            ProblemShape problem, CtaTile, CtaCoord coord, MmaTile, TiledMma,
                            cute::Tensor<Engine, Layout> accumulator, TensorStorage&) {
    using namespace cute;
    static_assert(is_tmem<Engine>::value, "accumulators live in tensor memory");
    static_assert(rank_v<Layout> == (kAccumulators == 2 ? 4 : 3), "the mainloop has another number of accumulators");
    static_assert(!kReuseTmem || kAccumulators == 1, "the order of the steps is that of stacked halves");
    static_assert(decltype(size<0>(CtaTile{}) == Int<kRows>{})::value, "a thread must own one row of the tile");

    auto const [gate_columns, up_columns] = projections(accumulator);
    CUTE_STATIC_ASSERT_V(size<1>(gate_columns) == Int<kTileN>{}, "kTileN is not the mainloop's");
    Tensor gate_steps = flat_divide(gate_columns, Shape<Int<kRows>, Int<kStepColumns>>{});  // (rows, columns, 1, steps)
    Tensor up_steps = flat_divide(up_columns, Shape<Int<kRows>, Int<kStepColumns>>{});
    auto const tiled_copy = make_tmem_copy(CopyOpT2R{}, gate_steps(_, _, _0{}, _0{}));
    int const thread = static_cast<int>(threadIdx.x) % ThreadCount;
    auto const thread_copy = tiled_copy.get_slice(thread);
    Tensor gate_source = thread_copy.partition_S(gate_steps);
    Tensor up_source = thread_copy.partition_S(up_steps);
    Tensor place = thread_copy.partition_D(make_identity_tensor(Shape<Int<kRows>, Int<kStepColumns>>{}));
    CUTE_STATIC_ASSERT_V(size(place) == Int<kStepColumns>{}, "a thread must get a whole row of the step");

    // Of a single stage, the phase says which of its two places it has.
    DrainOrder<kSteps, kReuseTmem ? kOverlapN / kStepColumns : 0> const order{
        static_cast<int>(accumulator_state.phase())};
    static_assert(order.kReleaseStep % 2 == 1, "the second step of a pair releases");

    struct Step {
      cutlass::Array<float, kStepColumns> gate, up;
    };
    auto const fetch = [&](int step, Step& to) {
      Tensor gate = make_tensor(make_rmem_ptr(to.gate.data()), shape(place));
      Tensor up = make_tensor(make_rmem_ptr(to.up.data()), shape(place));
      copy(tiled_copy, gate_source(_, _, _, _0{}, order(step)), gate);
      copy(tiled_copy, up_source(_, _, _, _0{}, order(step)), up);
    };
    auto const arrived = [&](Step& fetched) {
      cutlass::arch::fence_view_async_tmem_load();
      // Ties the values to this place: without it the compiler may use a register before the wait.
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kStepColumns; ++i) {
        asm volatile("" : "+f"(fetched.gate[i]), "+f"(fetched.up[i]));
      }
    };

    auto const [alpha1, alpha2] = alphas();
    typename Sink::Row const row = row_of_c(problem, coord, static_cast<int>(get<0>(place(_0{}))));
    int const first_column = static_cast<int>(get<1>(coord)) * kTileN;
    auto const finish = [&](int step, Step& sums) {
      int const column = first_column + order(step) * kStepColumns;
      weigh(alpha1, alpha2, static_cast<int>(get<3>(coord)), column, sums.gate, sums.up);
      if (params_.c.dual()) {
        join(sums.gate, sums.up);
      }
      int const parts = params_.c.parts();
      CUTLASS_PRAGMA_NO_UNROLL
      for (int part = 0; part < parts; ++part) {
        if (part != 0) {
          sums.gate = sums.up;
        }
        row.store(part, column, sums.gate);
      }
    };

    accumulator_pipeline.consumer_wait(accumulator_state);
    asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory");
    Step even, odd;
    fetch(0, even);
    arrived(even);
    CUTLASS_PRAGMA_NO_UNROLL
    for (int step = 0; step < kSteps; step += 2) {
      bool const more = step + 2 < kSteps;
      fetch(step + 1, odd);
      finish(step, even);
      arrived(odd);
      if (step + 1 == order.kReleaseStep) {
        asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory");
        accumulator_pipeline.consumer_release(accumulator_state);
      }
      if (more) {
        fetch(step + 2, even);
      }
      finish(step + 1, odd);
      if (more) {
        arrived(even);
      }
    }
    // Loads after an early release have no fence before the barrier at which tensor memory is freed, as in CUTLASS's
    // epilogues: their values have arrived.
    ++accumulator_state;
    ++store_state;
    return cute::make_tuple(load_state, store_state, accumulator_state);
  }

 private:
  // The gate's and the up projection's columns of the accumulator, each (rows, kTileN).
  template <class Engine, class Layout>
  CUTLASS_DEVICE static auto projections(cute::Tensor<Engine, Layout> const& accumulator) {
    using namespace cute;
    if constexpr (kAccumulators == 2) {
      return cute::make_tuple(accumulator(make_coord(_, _), _0{}, _0{}, _0{}),
                              accumulator(make_coord(_, _), _0{}, _0{}, _1{}));
    } else {
      Tensor halves = flat_divide(accumulator(make_coord(_, _), _0{}, _0{}), Shape<Int<kRows>, Int<kTileN>>{});
      static_assert(decltype(size<3>(halves) == _2{})::value, "the accumulator must be 2 * kTileN wide");
      return cute::make_tuple(halves(_, _, _0{}, _0{}), halves(_, _, _0{}, _1{}));
    }
  }

  struct Alphas {
    float alpha1, alpha2;
  };

  CUTLASS_DEVICE Alphas alphas() const {
    // The kernel before may still be writing the alphas or reading C, and the layer waits in its load warps only.
    detail::wait_for_prior_grids();
    return {detail::times_scalar(params_.alpha1, params_.factor1),
            detail::times_scalar(params_.alpha2, params_.factor2)};
  }

  template <class ProblemShape, class CtaCoord>
  CUTLASS_DEVICE typename Sink::Row row_of_c(ProblemShape const& problem, CtaCoord const& coord, int row_of_tile) const {
    int const rows = static_cast<int>(cute::size<0>(problem));
    int const row = static_cast<int>(cute::get<0>(coord)) * kRows + row_of_tile;
    return {params_.c, params_.mode, static_cast<int>(cute::get<3>(coord)), rows, row};
  }

  // From the sums of columns `column` and following to x1 and x2.
  CUTLASS_DEVICE void weigh(float alpha1, float alpha2, int batch, int column,
                            cutlass::Array<float, kStepColumns>& gate,
                            cutlass::Array<float, kStepColumns>& up) const {
    if (params_.bias[0] == nullptr) {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kStepColumns; ++i) {
        gate[i] *= alpha1;
        up[i] *= alpha2;
      }
    } else {
      add_bias(alpha1, batch, column, params_.bias[0], params_.c.columns[0], gate);
      add_bias(alpha2, batch, column, params_.bias[1], params_.c.columns[1], up);
    }
  }

  CUTLASS_DEVICE void add_bias(float alpha, int batch, int column, float const* bias, int columns,
                               cutlass::Array<float, kStepColumns>& sums) const {
    float const* const source = bias + static_cast<std::int64_t>(batch) * columns + column;
    int const valid = columns - column;
    if (params_.whole_bias) {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kStepColumns; i += 4) {
        if (i < valid) {
          uint4 const words = detail::load_16_bytes(source + i);
          sums[i] = __fmaf_rn(alpha, sums[i], __uint_as_float(words.x));
          sums[i + 1] = __fmaf_rn(alpha, sums[i + 1], __uint_as_float(words.y));
          sums[i + 2] = __fmaf_rn(alpha, sums[i + 2], __uint_as_float(words.z));
          sums[i + 3] = __fmaf_rn(alpha, sums[i + 3], __uint_as_float(words.w));
        }
      }
    } else {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kStepColumns; ++i) {
        if (i < valid) {
          sums[i] = __fmaf_rn(alpha, sums[i], detail::load_float(source + i));
        }
      }
    }
  }

  // The result is in `gate`. The kind is the same for the whole launch: it is decided outside of the elements.
  CUTLASS_DEVICE void join(cutlass::Array<float, kStepColumns>& gate,
                           cutlass::Array<float, kStepColumns> const& up) const {
    if (params_.c.strict()) {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kStepColumns; ++i) {
        gate[i] = detail::strict_glu(params_.c.glu, gate[i], up[i]);
      }
      return;
    }
    switch (params_.glu.kind) {
      case NVFP4_GLU_SWIGLU:
        join_as<NVFP4_GLU_SWIGLU>(gate, up);
        break;
      case NVFP4_GLU_CLAMPED_SWIGLU:
        join_as<NVFP4_GLU_CLAMPED_SWIGLU>(gate, up);
        break;
      case NVFP4_GLU_GEGLU_TANH:
        join_as<NVFP4_GLU_GEGLU_TANH>(gate, up);
        break;
    }
  }

  template <nvfp4_glu_kind kKind>
  CUTLASS_DEVICE void join_as(cutlass::Array<float, kStepColumns>& gate,
                              cutlass::Array<float, kStepColumns> const& up) const {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kStepColumns; ++i) {
      gate[i] = detail::apply_glu<kKind, detail::DeviceMath>(params_.glu, gate[i], up[i]);
    }
  }

  Params const& params_;
};

}  // namespace nvfp4::sm100
