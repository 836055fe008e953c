// tcgen05.mma for NVFP4 with the use of the collector said, which CUTLASS's atoms leave to the hardware's default.
#pragma once

#include <cstdint>

#include "cutlass/cutlass.h"

namespace nvfp4::sm100 {

// What becomes of the A tile that the tensor core has read.
enum class Collector {
  kDiscard,  // read anew by the next MMA
  kFill,     // kept for the next MMA, which has the same A
  kLastUse,  // taken from the MMA before, then dropped
};

// One instruction of K = 64. One lane of the MMA warp issues it.
template <int kSms, Collector kCollector>
CUTLASS_DEVICE void issue_mma(std::uint32_t accumulator, std::uint64_t a, std::uint64_t b, std::uint32_t instruction,
                              std::uint32_t accumulate, std::uint32_t a_scales, std::uint32_t b_scales) {
#define NVFP4_TCGEN05_MMA(group, collector)                                                                       \
  asm volatile(                                                                                                   \
      "{\n\t.reg .pred accumulate;\n\tsetp.ne.b32 accumulate, %4, 0;\n\ttcgen05.mma.cta_group::" group            \
      ".kind::mxf4nvf4.block_scale.block16" collector " [%0], %1, %2, %3, [%5], [%6], accumulate;\n\t}\n" ::"r"(  \
          accumulator),                                                                                           \
      "l"(a), "l"(b), "r"(instruction), "r"(accumulate), "r"(a_scales), "r"(b_scales))
  if constexpr (kSms == 1) {
    if constexpr (kCollector == Collector::kFill) {
      NVFP4_TCGEN05_MMA("1", ".collector::a::fill");
    } else if constexpr (kCollector == Collector::kLastUse) {
      NVFP4_TCGEN05_MMA("1", ".collector::a::lastuse");
    } else {
      NVFP4_TCGEN05_MMA("1", "");
    }
  } else {
    if constexpr (kCollector == Collector::kFill) {
      NVFP4_TCGEN05_MMA("2", ".collector::a::fill");
    } else if constexpr (kCollector == Collector::kLastUse) {
      NVFP4_TCGEN05_MMA("2", ".collector::a::lastuse");
    } else {
      NVFP4_TCGEN05_MMA("2", "");
    }
  }
#undef NVFP4_TCGEN05_MMA
}

}  // namespace nvfp4::sm100
