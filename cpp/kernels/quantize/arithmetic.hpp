// The two-level quantizer's arithmetic, one block at a time, one text for host and device: what
// src/format/quantize.rs computes, bit for bit. Every operation rounds once, to nearest even, and subnormal numbers
// are kept: the intrinsics say so on the device, whatever the flags.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define NVFP4_QUANTIZE_FUNCTION __host__ __device__ __forceinline__
#else
#define NVFP4_QUANTIZE_FUNCTION inline
#endif

namespace nvfp4::detail {

#ifdef __CUDA_ARCH__
NVFP4_QUANTIZE_FUNCTION float add(float a, float b) { return __fadd_rn(a, b); }
NVFP4_QUANTIZE_FUNCTION float subtract(float a, float b) { return __fsub_rn(a, b); }
NVFP4_QUANTIZE_FUNCTION float multiply(float a, float b) { return __fmul_rn(a, b); }
NVFP4_QUANTIZE_FUNCTION float divide(float a, float b) { return __fdiv_rn(a, b); }
NVFP4_QUANTIZE_FUNCTION float reciprocal(float a) { return __frcp_rn(a); }
NVFP4_QUANTIZE_FUNCTION float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
NVFP4_QUANTIZE_FUNCTION std::uint32_t bits_of(float value) { return __float_as_uint(value); }
NVFP4_QUANTIZE_FUNCTION float float_of(std::uint32_t bits) { return __uint_as_float(bits); }
#else
NVFP4_QUANTIZE_FUNCTION float add(float a, float b) { return a + b; }
NVFP4_QUANTIZE_FUNCTION float subtract(float a, float b) { return a - b; }
NVFP4_QUANTIZE_FUNCTION float multiply(float a, float b) { return a * b; }
NVFP4_QUANTIZE_FUNCTION float divide(float a, float b) { return a / b; }
NVFP4_QUANTIZE_FUNCTION float reciprocal(float a) { return 1.0f / a; }
NVFP4_QUANTIZE_FUNCTION float fused(float a, float b, float c) { return std::fma(a, b, c); }
NVFP4_QUANTIZE_FUNCTION std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }
NVFP4_QUANTIZE_FUNCTION float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }
#endif

inline constexpr float kE2m1Max = 6.0f;
inline constexpr float kUe4m3Max = 448.0f;
inline constexpr std::uint32_t kInfinityBits = 0x7f800000u;

// The global scale of a tensor with this largest magnitude: 1 for zeros, never 0.
NVFP4_QUANTIZE_FUNCTION float global_of_amax(float amax) {
  if (amax == 0.0f) {
    return 1.0f;
  }
  float const global = divide(amax, kE2m1Max * kUe4m3Max);
  return global == 0.0f ? float_of(1) : global;
}

// What the values of one block have in common.
struct BlockScale {
  std::uint32_t byte;  // UE4M3
  float unit;          // f32(byte) * global: a value of 1 unit is the code of 1.0
  float reciprocal;    // of unit
  bool plain;          // quotient<true>() holds for the block
};

// Magnitudes become multiples of a power of two by adding one that is so large that f32 has no finer ones there: the
// addition rounds to nearest even, and the low bits of the sum count the multiples.
NVFP4_QUANTIZE_FUNCTION BlockScale block_scale(float amax, float global) {
  float const wanted = divide(divide(amax, kE2m1Max), global);
  float const value = wanted < kUe4m3Max ? wanted : kUe4m3Max;
  // E4M3 has 3 bits after the point from 2^-6 on, and the same steps below that.
  constexpr std::uint32_t kSmallest = 127 - 6;
  std::uint32_t const own = bits_of(value) >> 23;
  std::uint32_t const exponent = own > kSmallest ? own : kSmallest;
  float const anchor = float_of((exponent + 23 - 3) << 23);
  float const sum = add(value, anchor);
  std::uint32_t byte = bits_of(sum) - bits_of(anchor) + ((exponent - kSmallest) << 3);
  float scale = subtract(sum, anchor);
  if (byte == 0 && amax > 0.0f) {
    byte = 1;
    scale = 0x1p-9f;
  }
  float const unit = multiply(scale, global);
  return {byte, unit, reciprocal(unit), unit >= 0x1p-100f && unit <= 0x1p100f && amax <= multiply(unit, 0x1p20f)};
}

// magnitude / unit, as far as the code depends on it.
//
// Plain blocks: one step of Newton's iteration. Where the quotient is near one of the ties below, the result is the
// quotient correctly rounded; quantize_math_test.cpp has tried all significands. Farther away an error of its last bits
// changes no code. The bounds on the unit keep the remainder from underflow, and that on amax the quotient from
// overflow.
template <bool kPlain>
NVFP4_QUANTIZE_FUNCTION float quotient(float magnitude, BlockScale const& scale) {
  if constexpr (kPlain) {
    float const rough = multiply(magnitude, scale.reciprocal);
    float const remainder = fused(-rough, scale.unit, magnitude);
    return fused(remainder, scale.reciprocal, rough);
  } else {
    // The unit of a block of zeros is 0.
    return magnitude == 0.0f ? 0.0f : divide(magnitude, scale.unit);
  }
}

// The code of a quotient >= 0, without sign: to nearest, ties to the even code, at most 7. Steps are 1/2 up to 2, 1 up
// to 4, 2 up to 6; of the three roundings the least is that of the quotient's own range.
NVFP4_QUANTIZE_FUNCTION std::uint32_t e2m1_code(float quotient) {
  auto const rounded = [quotient](float anchor, int offset) {
    return static_cast<std::int32_t>(bits_of(add(quotient, anchor)) - bits_of(anchor)) + offset;
  };
  std::int32_t const halves = rounded(0x1p22f, 0);
  std::int32_t const ones = rounded(0x1p23f, 2);
  std::int32_t const twos = rounded(0x1p24f, 4);
  std::int32_t code = twos < 7 ? twos : 7;
  code = ones < code ? ones : code;
  return static_cast<std::uint32_t>(halves < code ? halves : code);
}

}  // namespace nvfp4::detail
