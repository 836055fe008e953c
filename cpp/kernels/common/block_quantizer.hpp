// 16 neighboring columns of a row of C in NVFP4: codes and a scale factor, one text for host and device. Nothing
// branches by the values.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "nvfp4_dual_gemm/types.h"
#include "quantize/arithmetic.hpp"

#ifdef __CUDACC__
#define NVFP4_UNROLL _Pragma("unroll")
#else
#define NVFP4_UNROLL
#endif

namespace nvfp4::detail {

struct QuantizedBlock {
  std::uint32_t codes[2];  // of eight columns each, the first lowest
  std::uint32_t scale;     // UE4M3
};

// scale = ue4m3(amax / 6 / global), code = e2m1(value / (scale * global)), each operation rounded once. Of values that
// are not all 0 the scale is the smallest number at least. What is infinite or NaN counts as beyond all numbers: the
// largest scale, and the largest code; no scale is NaN.
NVFP4_QUANTIZE_FUNCTION QuantizedBlock quantize_block(float const (&values)[NVFP4_SCALE_BLOCK], float global,
                                                      nvfp4_round_first round_first) {
  std::uint32_t bits[NVFP4_SCALE_BLOCK];
  std::uint32_t largest = 0;
  NVFP4_UNROLL
  for (int i = 0; i < NVFP4_SCALE_BLOCK; ++i) {
    float const value = round_first == NVFP4_ROUND_FIRST_F16    ? __half2float(__float2half_rn(values[i]))
                        : round_first == NVFP4_ROUND_FIRST_BF16 ? __bfloat162float(__float2bfloat16_rn(values[i]))
                                                                : values[i];
    bits[i] = bits_of(value);
    // Without the sign, the order of the bits is that of the magnitudes, with infinity and then NaN above all numbers.
    std::uint32_t const magnitude = bits[i] & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  BlockScale const scale = block_scale(float_of(largest), global);
  float const unit = scale.unit == 0.0f ? 1.0f : scale.unit;  // of zeros; every other is a number > 0
  QuantizedBlock block{{0, 0}, scale.byte};
  NVFP4_UNROLL
  for (int i = 0; i < NVFP4_SCALE_BLOCK; ++i) {
    std::uint32_t const code = e2m1_code(divide(float_of(bits[i] & 0x7fffffffu), unit)) | (bits[i] >> 28 & 8);
    block.codes[i / 8] |= code << (4 * (i % 8));
  }
  return block;
}

}  // namespace nvfp4::detail
