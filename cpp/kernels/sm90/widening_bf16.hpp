// E2M1 codes times their scale factor, exactly, as bf16: what widening.hpp does with fp16, in the same orders of K.
//
// Sign and magnitude of a code go to bits 15 and 8..6 of a bf16: the number is then code * 2^-126, its subnormal included
// (PTX ISA: mul.bf16x2 supports subnormal numbers). A scale factor's bits go to 10..4: scale * 2^-120. It is multiplied
// by 2^214, in two steps, as no bf16 is that large. Products are code * scale * 2^-32, with at most six significant bits
// of eight.
//
// The unit is small because bf16 reaches as far as fp32: sums over 2^20 of K stay finite whatever the activations are, and
// products of activations of 2^-100 and more keep all their bits.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "cutlass/cutlass.h"
#include "sm90/widening.hpp"

namespace nvfp4::sm90 {

inline constexpr float kWidenedUnitBf16 = 0x1p-32f;

CUTLASS_DEVICE std::uint32_t multiply(std::uint32_t pair, __nv_bfloat162 scale) {
  __nv_bfloat162 const product = __hmul2(reinterpret_cast<__nv_bfloat162 const&>(pair), scale);
  return reinterpret_cast<std::uint32_t const&>(product);
}

// Two codes times `scale`: their magnitudes are bits 8..6 of the halves of `magnitudes`, their signs bits 15 of those of
// `signs`; other bits may be any.
CUTLASS_DEVICE std::uint32_t widen_pair(std::uint32_t magnitudes, std::uint32_t signs, __nv_bfloat162 scale) {
  return multiply((magnitudes & 0x01c001c0) | (signs & 0x80008000), scale);
}

CUTLASS_DEVICE Pairs widen(std::uint32_t codes, __nv_bfloat162 scale) {
  return {{widen_pair(codes << 6, codes << 12, scale), widen_pair(codes << 2, codes << 8, scale),
           widen_pair(codes >> 2, codes << 4, scale), widen_pair(codes >> 6, codes, scale)}};
}

CUTLASS_DEVICE BytePairs widen_bytes(std::uint32_t first, std::uint32_t second, std::uint32_t selector,
                                     __nv_bfloat162 scale) {
  std::uint32_t const codes = spread_bytes(first, second, selector);
  return {{widen_pair(codes << 2, codes << 8, scale), widen_pair(codes >> 6, codes, scale)}};
}

// As `widen_scales`: scale * 2^94, NaN becomes 480.
CUTLASS_DEVICE __nv_bfloat162 widen_scales_bf16(std::uint32_t scales) {
  std::uint32_t bits = scales << 4 & 0x07f007f0;
  bits = multiply(bits, __bfloat162bfloat162(__ushort_as_bfloat16(0x7f00)));  // 2^127
  bits = multiply(bits, __bfloat162bfloat162(__ushort_as_bfloat16(0x6b00)));  // 2^87
  return reinterpret_cast<__nv_bfloat162 const&>(bits);
}

}  // namespace nvfp4::sm90
