// The GLU in f32 of IEEE 754's operations alone, none of them fused: what src/cpu/epilogue.rs computes, bit for bit, on
// the host and on every device. For C in NVFP4, where the last bit of a value may decide a code. Nothing branches by the
// values.
#pragma once

#include <cfloat>
#include <cstdint>

#include "nvfp4_dual_gemm/types.h"
#include "quantize/arithmetic.hpp"

namespace nvfp4::detail {

NVFP4_QUANTIZE_FUNCTION float clamped(float x, float least, float most) {  // NaN stays
  float const low = x < least ? least : x;
  return low > most ? most : low;
}

struct StrictExp {
  float value;
  bool far;
};

// e^x within 2 ulp; beyond 2^124.5 divided by 2^136, which `far` says.
NVFP4_QUANTIZE_FUNCTION StrictExp strict_exp(float x) {
  // x = n * ln 2 + r with |r| <= ln 2 / 2; the high part of ln 2 has few bits, so that n * kHigh is exact (Cody and
  // Waite). Adding and subtracting kRound rounds to an integer.
  constexpr float kHigh = 0.693359375f, kLow = -2.12194440e-4f, kRound = 12582912.0f, kLog2E = 1.44269504088896340736f;
  x = clamped(x, -88.0f, 183.0f);
  float shifted = add(multiply(x, kLog2E), kRound);
  float const n = subtract(shifted, kRound);
  float const r = subtract(subtract(x, multiply(n, kHigh)), multiply(n, kLow));
  float p = 1.0f / 5040.0f;
  p = add(multiply(p, r), 1.0f / 720.0f);
  p = add(multiply(p, r), 1.0f / 120.0f);
  p = add(multiply(p, r), 1.0f / 24.0f);
  p = add(multiply(p, r), 1.0f / 6.0f);
  p = add(multiply(p, r), 0.5f);
  p = add(add(multiply(multiply(p, r), r), r), 1.0f);
  bool const far = n > 124.0f;
  shifted = far ? subtract(shifted, 136.0f) : shifted;
  // The low bits of `shifted` are n; exponent fields 0 and 255 are 0 and infinity.
  return {multiply(p, float_of((bits_of(shifted) + 127) << 23)), far};
}

// What a GLU has before its sigmoid: g * sigmoid(t) * up.
struct StrictGates {
  float g, t, up;
};

NVFP4_QUANTIZE_FUNCTION StrictGates strict_gates(nvfp4_glu const& glu, float x1, float x2) {
  float const finite = clamped(x1, -FLT_MAX, FLT_MAX);
  if (glu.kind == NVFP4_GLU_CLAMPED_SWIGLU) {
    float const g = finite > glu.limit ? glu.limit : finite;
    return {g, multiply(glu.slope, g), add(clamped(x2, -glu.limit, glu.limit), glu.offset)};
  }
  if (glu.kind == NVFP4_GLU_GEGLU_TANH) {
    // 1 + tanh(y) = 2 * sigmoid(2y); 2 * sqrt(2 / pi) = 1.5957691...
    float const cubic = multiply(multiply(multiply(0.044715f, finite), finite), finite);
    return {finite, multiply(1.595769f, add(finite, cubic)), x2};
  }
  return {finite, finite, x2};
}

NVFP4_QUANTIZE_FUNCTION float strict_glu(nvfp4_glu const& glu, float x1, float x2) {
  constexpr float kHalfOfTail = 0x1p-68f;  // twice that is taken off a sigmoid far down its tail
  StrictGates const gates = strict_gates(glu, x1, x2);
  StrictExp const exp = strict_exp(-gates.t);
  float const sigmoid = divide(1.0f, add(exp.far ? 0.0f : 1.0f, exp.value));
  float const opened = multiply(gates.g, sigmoid);
  // What has overflowed counts as the largest number there, and does not open the gate.
  float const up = exp.far ? multiply(clamped(gates.up, -FLT_MAX, FLT_MAX), kHalfOfTail) : gates.up;
  float const product = multiply(opened, up);
  // A closed gate stays closed where `up` is infinite: 0 * inf would be NaN.
  bool const closed = opened == 0.0f && glu.kind != NVFP4_GLU_CLAMPED_SWIGLU;
  return multiply(closed ? opened : product, exp.far ? kHalfOfTail : 1.0f);
}

}  // namespace nvfp4::detail
