// The GLU in fp32, one formula for host and device: C = x1' * sigmoid(t(x1')) * x2', one exponential and one
// reciprocal for an element. What rounds differently on the two sides comes from a `Math` type, so that the tests run
// this arithmetic on the host with the errors that the PTX ISA allows the device.
//
// At the ends of the range as the epilogue of the CPU, but for one: an infinite x1 counts as the largest finite number, NaN
// is NaN, a closed gate is 0 where x2 has overflowed; in the tail (kTail) C is infinite then, on the CPU it is not.
#pragma once

#include <cfloat>

#include "nvfp4_dual_gemm/error.hpp"
#include "nvfp4_dual_gemm/types.h"

#ifdef __CUDACC__
#define NVFP4_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define NVFP4_HOST_DEVICE inline
#endif

namespace nvfp4::detail {

// A GLU with everything folded that does not depend on the element.
struct GluConstants {
  nvfp4_glu_kind kind;
  float gate_limit;  // upper bound of x1
  float up_limit;    // bound of |x2|, of the clamped SwiGLU only
  float offset;      // added to x2, of the clamped SwiGLU only
  float slope;       // t(g) * -log2(e) = g * slope, or g * (slope + cubic * g^2) for GeGLU
};

inline constexpr double kLog2E = 1.4426950408889634;
inline constexpr double kGeluSlope = 1.5957691216057308;  // 2 * sqrt(2 / pi): 1 + tanh(y) = 2 * sigmoid(2 * y)
inline constexpr float kGeluCubic = static_cast<float>(-kLog2E * kGeluSlope * 0.044715);

constexpr GluConstants glu_constants(nvfp4_glu const& glu) {
  switch (glu.kind) {
    case NVFP4_GLU_SWIGLU:
      return {glu.kind, FLT_MAX, FLT_MAX, 0.0f, static_cast<float>(-kLog2E)};
    case NVFP4_GLU_CLAMPED_SWIGLU:
      return {glu.kind, glu.limit, glu.limit, glu.offset, static_cast<float>(-kLog2E * glu.slope)};
    case NVFP4_GLU_GEGLU_TANH:
      return {glu.kind, FLT_MAX, FLT_MAX, 0.0f, static_cast<float>(-kLog2E * kGeluSlope)};
  }
  throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0, "glu.kind is none of the library's");
}

// Of a GEMM the GLU is not looked at.
constexpr GluConstants glu_constants(nvfp4_spec const& spec) {
  return glu_constants(spec.operation == NVFP4_OPERATION_DUAL_GEMM ? spec.glu : nvfp4_glu{});
}

// In the tail, sigmoid = 2^-exponent is too small for the reciprocal, which flushes subnormal results to 0, although the
// product with a large x2 is not. It is computed as 2^kTailShift times as large; the two halves of that are taken off x2
// and the product, so that neither overflows, and neither is subnormal unless the result is 0 in any case. Good up to an
// exponent of 262, beyond which no finite x2 makes SiLU or GELU a normal number.
inline constexpr float kTail = 124.0f;
inline constexpr float kTailShift = 136.0f;
inline constexpr float kHalfOfTailShift = 0x1p-68f;

// Of the products' scaled sums x1 and x2. `Math` has exp2, reciprocal, fma, and min and max that let NaN through.
template <nvfp4_glu_kind kKind, class Math>
NVFP4_HOST_DEVICE float apply_glu(GluConstants const& glu, float x1, float x2) {
  // -inf * sigmoid(-inf) would be NaN.
  float const g = Math::max(Math::min(x1, glu.gate_limit), -FLT_MAX);
  float exponent = g * glu.slope;
  if constexpr (kKind == NVFP4_GLU_GEGLU_TANH) {
    exponent = g * Math::fma(g * g, kGeluCubic, glu.slope);
  }
  // NaN is not in the tail. There, 1 is nothing beside 2^kTail, and the difference is exact. exp2 saturates to infinity,
  // whose reciprocal closes the gate.
  bool const tail = exponent > kTail;
  float const power = Math::exp2(tail ? exponent - kTailShift : exponent);
  float const opened = g * Math::reciprocal(tail ? power : 1.0f + power);
  float up = x2;
  if constexpr (kKind == NVFP4_GLU_CLAMPED_SWIGLU) {
    up = Math::max(Math::min(x2, glu.up_limit), -glu.up_limit) + glu.offset;
  }
  float joined = opened * (tail ? up * kHalfOfTailShift : up);
  joined = tail ? joined * kHalfOfTailShift : joined;
  if constexpr (kKind == NVFP4_GLU_CLAMPED_SWIGLU) {
    return joined;
  }
  return opened == 0.0f ? opened : joined;  // 0 * inf would be NaN
}

#ifdef __CUDACC__
// ex2.approx.ftz and rcp.approx.ftz: at most 2 and 1 ulp off (PTX ISA 9.2, 9.7.3), one operation of the special
// function unit each. tanh.approx.f32 would be a single one, but its 2^-11 is an error of several fp16 ulp.
struct DeviceMath {
  static __device__ __forceinline__ float exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static __device__ __forceinline__ float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
  static __device__ __forceinline__ float min(float a, float b) {
    float y;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
  }
  static __device__ __forceinline__ float max(float a, float b) {
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
  }
};
#endif

}  // namespace nvfp4::detail
