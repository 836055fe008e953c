// What the type of A decides in a kernel.
#pragma once

#include <cstdint>

#include "cutlass/cutlass.h"
#include "cutlass/numeric_types.h"
#include "nvfp4_dual_gemm/types.h"
#include "sm90/widening.hpp"
#include "sm90/widening_bf16.hpp"

namespace nvfp4::sm90 {

struct InFp16 {
  using Element = cutlass::half_t;
  using Scales = __half2;
  static CUTLASS_DEVICE Scales widen_scales(std::uint32_t scales) { return sm90::widen_scales(scales); }
  static CUTLASS_DEVICE Scales first(Scales scales) { return __low2half2(scales); }
  static CUTLASS_DEVICE Scales second(Scales scales) { return __high2half2(scales); }
};

struct InBf16 {
  using Element = cutlass::bfloat16_t;
  using Scales = __nv_bfloat162;
  static CUTLASS_DEVICE Scales widen_scales(std::uint32_t scales) { return widen_scales_bf16(scales); }
  static CUTLASS_DEVICE Scales first(Scales scales) { return __low2bfloat162(scales); }
  static CUTLASS_DEVICE Scales second(Scales scales) { return __high2bfloat162(scales); }
};

// Element: of tokens in shared memory, and of widened weights. Scales: two widened scale factors; `first` and `second` are
// one of them twice, which `widen` multiplies by. kSumUnit: sums are this much too small, a power of two.
template <nvfp4_data_type kType>
struct Activations;

// Both operands are widened.
template <>
struct Activations<NVFP4_DATA_TYPE_NVFP4> : InFp16 {
  static constexpr float kSumUnit = kWidenedUnit * kWidenedUnit;
};

// Values of A are as they are. Whatever they are, no sum leaves fp32, and no product of theirs is a subnormal number.
template <>
struct Activations<NVFP4_DATA_TYPE_F16> : InFp16 {
  static constexpr float kSumUnit = kWidenedUnit;
};

template <>
struct Activations<NVFP4_DATA_TYPE_BF16> : InBf16 {
  static constexpr float kSumUnit = kWidenedUnitBf16;
};

}  // namespace nvfp4::sm90
