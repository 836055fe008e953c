// What keeps long sums exact enough where activations, and with them the sums, may be of any size: the ways of
// PromotedAccumulator with the range of fp32.
#pragma once

#include <cstdint>

#include "cutlass/cutlass.h"
#include "sm90/promoted_accumulator.hpp"

namespace nvfp4::sm90 {

// The upper half of each sum, a bf16 by truncation, is promoted.
template <int kSums>
class WidePromotedAccumulator {
  static_assert(kSums % 2 == 0, "two sums to a word");

 public:
  CUTLASS_DEVICE WidePromotedAccumulator() {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kSums / 2; ++i) {
      words_[i] = 0;
    }
  }

  // Promotes the leading bits of what is already here and in `sums` together, and leaves the rest there.
  CUTLASS_DEVICE void promote(float (&sums)[kSums]) {
    add_to(sums);
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kSums / 2; ++i) {
      words_[i] = upper_halves(sums[2 * i], sums[2 * i + 1]);
      sums[2 * i] = rest(sums[2 * i], low(words_[i]));
      sums[2 * i + 1] = rest(sums[2 * i + 1], high(words_[i]));
    }
  }

  CUTLASS_DEVICE void add_to(float (&sums)[kSums]) const {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kSums / 2; ++i) {
      sums[2 * i] = __fadd_rn(sums[2 * i], low(words_[i]));
      sums[2 * i + 1] = __fadd_rn(sums[2 * i + 1], high(words_[i]));
    }
  }

 private:
  // Not by way of __float_as_uint: the compiler then keeps the sums in integer registers, and copies them around each
  // wgmma, which cannot run asynchronously any more.
  static CUTLASS_DEVICE std::uint32_t upper_halves(float low, float high) {
    std::uint32_t word;
    asm("prmt.b32 %0, %1, %2, 0x7632;" : "=r"(word) : "f"(low), "f"(high));
    return word;
  }
  static CUTLASS_DEVICE float low(std::uint32_t word) { return __uint_as_float(word << 16); }
  static CUTLASS_DEVICE float high(std::uint32_t word) { return __uint_as_float(word & 0xffff0000); }
  // Exact. Of an infinity nothing is left; NaN stays.
  static CUTLASS_DEVICE float rest(float sum, float promoted) { return sum == promoted ? 0.0f : sum - promoted; }

  std::uint32_t words_[kSums / 2];
};

// Where registers are scarce: a byte of each sum, E5M2 in a unit of this thread that is found anew each time. The sum of
// all magnitudes lies at its upper end, and sums down to 2^-30 of that are promoted. What is not, smaller sums and all of a
// thread with one that is not finite, stays where it is.
template <int kSums>
class ScaledPromotedAccumulator {
  static_assert(kSums % 4 == 0, "four sums to a word");

 public:
  CUTLASS_DEVICE ScaledPromotedAccumulator() : unit_(0.0f) {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kSums / 4; ++i) {
      words_[i] = 0;
    }
  }

  CUTLASS_DEVICE void promote(float (&sums)[kSums]) {
    add_to(sums);
    float bound = 0.0f;  // not less than any sum
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kSums; ++i) {
      bound = __fadd_rn(bound, fabsf(sums[i]));
    }
    // 2^e <= bound < 2^(e+1), and sums become at most 2^15: the unit is 2^(e-14). Of what is not finite it is 2^113.
    constexpr std::uint32_t kExponent = 0x7f800000, kLeast = 15u << 23, kMost = 254u << 23;
    std::uint32_t const exponent = __float_as_uint(bound) & kExponent;
    std::uint32_t const clamped = exponent < kLeast ? kLeast : exponent > kMost ? kMost : exponent;
    unit_ = __uint_as_float(clamped - (14u << 23));
    float const inverse = __uint_as_float((254u << 23) + (14u << 23) - clamped);
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kSums / 4; ++i) {
      float* const sum = &sums[4 * i];
      words_[i] = pack_e5m2(sum[0] * inverse, sum[1] * inverse) |
                  pack_e5m2(sum[2] * inverse, sum[3] * inverse) << 16;
      add_e5m2(sum, words_[i], -unit_);
    }
  }

  CUTLASS_DEVICE void add_to(float (&sums)[kSums]) const {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kSums / 4; ++i) {
      add_e5m2(&sums[4 * i], words_[i], unit_);
    }
  }

 private:
  std::uint32_t words_[kSums / 4];
  float unit_;
};

}  // namespace nvfp4::sm90
