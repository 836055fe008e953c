// Pairs of fp32 to a word of two shorter floats, the first in the lower half.
#pragma once

#include <cstdint>

#include "cutlass/cutlass.h"
#include "nvfp4_dual_gemm/types.h"

namespace nvfp4::detail {

CUTLASS_DEVICE std::uint32_t to_f16x2(float low, float high) {
  std::uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

CUTLASS_DEVICE std::uint32_t to_bf16x2(float low, float high) {
  std::uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// Bytes of an element. The type has been checked.
CUTLASS_HOST_DEVICE constexpr int element_bytes(nvfp4_data_type type) { return type == NVFP4_DATA_TYPE_F32 ? 4 : 2; }

}  // namespace nvfp4::detail
