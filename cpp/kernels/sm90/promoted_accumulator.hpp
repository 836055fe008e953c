// What keeps long sums exact enough.
//
// The tensor cores truncate: each wgmma adds 16 products to the accumulator and drops what is below its 24 bits, always
// towards zero. After thousands of k the sum is too small by hundreds of its last bits, and an element whose projections
// nearly cancel is off by more than one unit of fp16. What is dropped is in proportion to the accumulator. So from time
// to time its leading bits, the three of E5M2, are promoted to a register of their own, and the small rest goes on.
// Subtracting them is exact; what was promoted before is added back first, which rounds to 24 bits. E5M2 reaches from
// 2^-16 to 57344, in units of kWidenedUnit^2; below that a sum stays where it is, and above as much is promoted as there
// is room for.
#pragma once

#include <cstdint>

#include <cuda_fp16.h>

#include "cutlass/cutlass.h"

namespace nvfp4::sm90 {

CUTLASS_DEVICE std::uint32_t pack_e5m2(float low, float high) {
  std::uint16_t bytes;
  asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(bytes) : "f"(high), "f"(low));
  return bytes;
}

// Four bytes of E5M2, each the high byte of an fp16, times `factor`.
CUTLASS_DEVICE void add_e5m2(float* sum, std::uint32_t word, float factor) {
  std::uint32_t const pairs[] = {__byte_perm(word, 0, 0x1404), __byte_perm(word, 0, 0x3424)};
  CUTLASS_PRAGMA_UNROLL
  for (int i = 0; i < 4; ++i) {
    __half2 const pair = reinterpret_cast<__half2 const&>(pairs[i / 2]);
    sum[i] = __fmaf_rn(factor, __half2float(i % 2 == 0 ? __low2half(pair) : __high2half(pair)), sum[i]);
  }
}

template <int kSums>
class PromotedAccumulator {
  static_assert(kSums % 4 == 0, "four sums to a word");

 public:
  CUTLASS_DEVICE PromotedAccumulator() {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kSums / 4; ++i) {
      words_[i] = 0;
    }
  }

  // Promotes the leading bits of what is already here and in `sums` together, and leaves the rest there.
  CUTLASS_DEVICE void promote(float (&sums)[kSums]) {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kSums / 4; ++i) {
      float* const sum = &sums[4 * i];
      add_e5m2(sum, words_[i], 1);
      words_[i] = pack_e5m2(sum[0], sum[1]) | pack_e5m2(sum[2], sum[3]) << 16;
      add_e5m2(sum, words_[i], -1);
    }
  }

  CUTLASS_DEVICE void add_to(float (&sums)[kSums]) const {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kSums / 4; ++i) {
      add_e5m2(&sums[4 * i], words_[i], 1);
    }
  }

 private:
  std::uint32_t words_[kSums / 4];
};

}  // namespace nvfp4::sm90
