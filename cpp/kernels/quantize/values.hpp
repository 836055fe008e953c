// Blocks of 16 values as 32-bit words, for each type: magnitudes, signs, and which values are no finite numbers.
#pragma once

#include <cstdint>

#include <cuda_fp16.h>

#include "nvfp4_dual_gemm/quantize.hpp"
#include "quantize/arithmetic.hpp"

namespace nvfp4::detail {

// Notes that value `index`, of these bits as f32, is no finite number, or has none for a result. Each bad value competes
// for the least place: the largest complement wins, and 0 is no complement of any.
__device__ __forceinline__ void note_non_finite(QuantizeState* state, std::size_t index, std::uint32_t bits) {
  unsigned const kind = (bits & 0x7fffffffu) > kInfinityBits ? 0 : 1 + (bits >> 31);
  atomicMax(reinterpret_cast<unsigned long long*>(&state->place), ~(static_cast<unsigned long long>(index) << 2 | kind));
}

// Without the sign bit, the order of the bits (as integers) is the order of the magnitudes, with infinity and then NaN
// above all numbers.
template <int kWords>
struct Block {
  std::uint32_t words[kWords];
};

// Bytes a0 a1 b0 b1 of the selected bytes of two pairs of words.
template <unsigned kFirst>
__device__ __forceinline__ std::uint32_t gather_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t c,
                                                      std::uint32_t d) {
  constexpr unsigned kSelector = kFirst | (kFirst + 4) << 4;
  return __byte_perm(__byte_perm(a, b, kSelector), __byte_perm(c, d, kSelector), 0x5410);
}

// Bit 4 * i + 3 is the sign of value i, from the highest bytes of even and of odd values.
__device__ __forceinline__ std::uint32_t sign_bits(std::uint32_t even, std::uint32_t odd) {
  return (even & 0x80808080u) >> 4 | (odd & 0x80808080u);
}

// Two values in a word.
template <class Traits>
struct Halves {
  static constexpr int kWords = 8;
  static constexpr std::uint32_t kMagnitudes = 0x7fff7fffu;

  static __device__ __forceinline__ std::uint32_t larger(std::uint32_t a, std::uint32_t b) { return __vmaxu2(a, b); }

  // The larger magnitude of a word, as the bits of an f32.
  static __device__ __forceinline__ std::uint32_t magnitude_bits(std::uint32_t word) {
    std::uint32_t const low = word & 0xffffu;
    std::uint32_t const high = word >> 16;
    return bits_of(Traits::widen(low > high ? low : high));
  }

  template <int kIndex>
  static __device__ __forceinline__ float magnitude(Block<kWords> const& magnitudes) {
    std::uint32_t const word = magnitudes.words[kIndex / 2];
    return Traits::widen(kIndex % 2 == 0 ? word & 0xffffu : word >> 16);
  }

  // Of values 8 * kHalf to 8 * kHalf + 7.
  template <int kHalf>
  static __device__ __forceinline__ std::uint32_t signs(Block<kWords> const& values) {
    std::uint32_t const* const w = values.words + 4 * kHalf;
    return sign_bits(gather_bytes<1>(w[0], w[1], w[2], w[3]), gather_bytes<3>(w[0], w[1], w[2], w[3]));
  }

  // As the bits of an f32.
  static __device__ __forceinline__ std::uint32_t value_bits(std::uint32_t const* words, int index) {
    std::uint32_t const half = words[index / 2] >> (index % 2 * 16) & 0xffffu;
    return (half & 0x8000u) << 16 | bits_of(Traits::widen(half & 0x7fffu));
  }
};

struct F16 : Halves<F16> {
  static __device__ __forceinline__ float widen(std::uint32_t magnitude) {
    return __half2float(__ushort_as_half(static_cast<unsigned short>(magnitude)));
  }
};

struct Bf16 : Halves<Bf16> {
  static __device__ __forceinline__ float widen(std::uint32_t magnitude) { return float_of(magnitude << 16); }
};

struct F32 {
  static constexpr int kWords = 16;
  static constexpr std::uint32_t kMagnitudes = 0x7fffffffu;

  static __device__ __forceinline__ std::uint32_t larger(std::uint32_t a, std::uint32_t b) { return a > b ? a : b; }

  static __device__ __forceinline__ std::uint32_t magnitude_bits(std::uint32_t word) { return word; }

  template <int kIndex>
  static __device__ __forceinline__ float magnitude(Block<kWords> const& magnitudes) {
    return float_of(magnitudes.words[kIndex]);
  }

  template <int kHalf>
  static __device__ __forceinline__ std::uint32_t signs(Block<kWords> const& values) {
    std::uint32_t const* const w = values.words + 8 * kHalf;
    return sign_bits(gather_bytes<3>(w[0], w[2], w[4], w[6]), gather_bytes<3>(w[1], w[3], w[5], w[7]));
  }

  static __device__ __forceinline__ std::uint32_t value_bits(std::uint32_t const* words, int index) {
    return words[index];
  }
};

}  // namespace nvfp4::detail
