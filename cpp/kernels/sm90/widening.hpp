// E2M1 codes times their scale factor, exactly, as fp16; and the orders of K in which that leaves them.
//
// A word holds the codes n0..n7 of consecutive k, n0 lowest. Sign and magnitude of a code go to bits 15 and 11..9 of
// an fp16: the number is then code * 2^-14, its subnormal included. That is within one byte, so that masks work on four
// codes at a time; the bytes of n_j and n_{j+4} become the high ones of pair j. A scale factor's bits go to 14..7
// likewise: scale * 2^-8. It is multiplied by 2^15, for products not to leave fp16: code * scale * 2^-7 is a multiple of
// 2^-17 up to 21, with at most six significant bits.
//
// K order of owners. Of each 64 consecutive k, thread c = 0..3 of a fragment's row owns 16c..16c+15: one scale block, two
// words. Instruction i = 0..3 of K = 16 takes pairs 2(i%2) and 2(i%2)+1 of word i/2, so that its k position
//   2c + e      is k = 16c + 8(i/2) + 2(i%2) + 4e,
//   2c + e + 8  is k = 16c + 8(i/2) + 2(i%2) + 1 + 4e.
// Tokens are written in this order by `widen_tokens`, `ResidentTokens` and `ResidentValues`; weights are in it as they
// are.
//
// Natural K order: position p of instruction i is k = 16i + p. Thread c has byte c of every word: codes 2c and 2c + 1 of
// 8 consecutive k. Tokens are in it as they are.
#pragma once

#include <cstdint>

#include <cuda_fp16.h>

#include "cutlass/cutlass.h"

namespace nvfp4::sm90 {

// Widened values are this much too small.
inline constexpr float kWidenedUnit = 0.0078125f;

struct Pairs {
  std::uint32_t pair[4];  // fp16x2: codes j (low) and j + 4 (high)
};

CUTLASS_DEVICE std::uint32_t multiply(std::uint32_t pair, __half2 scale) {
  __half2 const product = __hmul2(reinterpret_cast<__half2 const&>(pair), scale);
  return reinterpret_cast<std::uint32_t const&>(product);
}

// Eight codes times `scale`, which comes from `widen_scales`.
CUTLASS_DEVICE Pairs widen(std::uint32_t codes, __half2 scale) {
  constexpr std::uint32_t kSign = 0x80808080, kMagnitude = 0x0e0e0e0e, kHigh = 0xff00ff00;
  std::uint32_t const odd = ((codes >> 3) & kMagnitude) | (codes & kSign);
  std::uint32_t const even = ((codes << 1) & kMagnitude) | ((codes << 4) & kSign);
  return {{multiply(__byte_perm(even, 0, 0x2404), scale), multiply(__byte_perm(odd, 0, 0x2404), scale),
           multiply(even & kHigh, scale), multiply(odd & kHigh, scale)}};
}

// Pairs of natural K order: the codes in a byte of one word (the low nibble first), and of the next.
struct BytePairs {
  std::uint32_t pair[2];
};

// Bits of `ones` where `mask` has ones, those of `zeros` elsewhere: one instruction, which the compiler does not see where
// it knows more of the bits.
CUTLASS_DEVICE std::uint32_t select_bits(std::uint32_t mask, std::uint32_t ones, std::uint32_t zeros) {
#ifdef __CUDA_ARCH__
  std::uint32_t selected;
  asm("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(selected) : "r"(mask), "r"(ones), "r"(zeros));
  return selected;
#else
  return (mask & ones) | (~mask & zeros);
#endif
}

// Byte c of each word, where `selector` comes from `byte_selector(c)`. The upper half of each byte of the result is a code:
// the lower nibbles of the first and the second word, then the upper ones. The lower halves may be any.
CUTLASS_DEVICE std::uint32_t byte_selector(int c) { return 0x4040 + static_cast<std::uint32_t>(c) * 0x1111; }
CUTLASS_DEVICE std::uint32_t spread_bytes(std::uint32_t first, std::uint32_t second, std::uint32_t selector) {
  std::uint32_t const bytes = __byte_perm(first, second, selector);  // first, second, first, second
  return __byte_perm(bytes << 4, bytes, 0x7610);
}

CUTLASS_DEVICE BytePairs widen_bytes(std::uint32_t first, std::uint32_t second, std::uint32_t selector, __half2 scale) {
  constexpr std::uint32_t kSign = 0x80808080, kBits = 0x8e008e00;
  std::uint32_t const codes = spread_bytes(first, second, selector);
  std::uint32_t const bytes = select_bits(kSign, codes, codes >> 3);
  return {{multiply(bytes << 8 & kBits, scale), multiply(bytes & kBits, scale)}};
}

// Two UE4M3 bytes, in bits 7..0 and 23..16, as scale * 2^7. Finite for every byte, as what pads K may be any and is
// multiplied by 0: bit 7 is none of the scale factor's, and NaN (0x7f) becomes 480.
CUTLASS_DEVICE __half2 widen_scales(std::uint32_t scales) {
  std::uint32_t const bits = scales << 7 & 0x3f803f80;
  return __hmul2(reinterpret_cast<__half2 const&>(bits), __half2half2(__ushort_as_half(0x7800)));
}

// Half a group of a token in K order, a row's 16-byte pieces 4 * half and the following: word `half` of each of the
// four owners, and their scale factors.
struct HalfGroup {
  uint4 piece[4];
};
CUTLASS_DEVICE HalfGroup widen_half_group(std::uint32_t const (&words)[4], std::uint32_t scales) {
  // [instruction of this half][k position / 2], of which owner c has c and c + 4.
  std::uint32_t widened[2][8];
  CUTLASS_PRAGMA_UNROLL
  for (int c = 0; c < 4; ++c) {
    std::uint32_t const scale = scales >> (8 * c) & 0xff;
    Pairs const pairs = widen(words[c], widen_scales(scale | scale << 16));
    widened[0][c] = pairs.pair[0];
    widened[0][c + 4] = pairs.pair[1];
    widened[1][c] = pairs.pair[2];
    widened[1][c + 4] = pairs.pair[3];
  }
  HalfGroup half;
  CUTLASS_PRAGMA_UNROLL
  for (int i = 0; i < 4; ++i) {
    std::uint32_t const* const from = &widened[i / 2][i % 2 * 4];
    half.piece[i] = make_uint4(from[0], from[1], from[2], from[3]);
  }
  return half;
}

// The same of values of 16 bits: eight consecutive k of each of the four owners.
CUTLASS_DEVICE HalfGroup order_half_group(uint4 const& owner0, uint4 const& owner1, uint4 const& owner2,
                                          uint4 const& owner3) {
  // Values j and j + 4.
  constexpr std::uint32_t kLow = 0x5410, kHigh = 0x7632;
  auto const piece = [&](auto const& pair) {
    return make_uint4(pair(owner0), pair(owner1), pair(owner2), pair(owner3));
  };
  return {{piece([](uint4 const& v) { return __byte_perm(v.x, v.z, kLow); }),
           piece([](uint4 const& v) { return __byte_perm(v.x, v.z, kHigh); }),
           piece([](uint4 const& v) { return __byte_perm(v.y, v.w, kLow); }),
           piece([](uint4 const& v) { return __byte_perm(v.y, v.w, kHigh); })}};
}

}  // namespace nvfp4::sm90
