// Writes neighboring columns of one row of C.
#pragma once

#include <cstdint>

#include "common/convert.hpp"
#include "cutlass/cutlass.h"
#include "sm90/params.hpp"

namespace nvfp4::sm90 {

// The epilogue's sink where C is a row-major matrix of floats. What takes its place (Tile::Sink) stores the eight elements
// at `from`, in shared memory, of which `valid` or more lie in C, `at` elements from its beginning.
struct RowStore {
  static CUTLASS_DEVICE void store(Params const& params, float const* from, std::int64_t at, int valid) {
    float4 const low = reinterpret_cast<float4 const*>(from)[0];
    float4 const high = reinterpret_cast<float4 const*>(from)[1];
    if (params.type == NVFP4_DATA_TYPE_F32) {
      auto* const target = reinterpret_cast<float*>(params.c) + at;
      if (params.whole_rows) {
        reinterpret_cast<float4*>(target)[0] = low;
        if (valid > 4) {
          reinterpret_cast<float4*>(target)[1] = high;
        }
      } else {
        for (int i = 0; i < valid && i < 8; ++i) {
          target[i] = from[i];
        }
      }
      return;
    }
    uint4 const words =
        params.type == NVFP4_DATA_TYPE_F16
            ? make_uint4(detail::to_f16x2(low.x, low.y), detail::to_f16x2(low.z, low.w),
                         detail::to_f16x2(high.x, high.y), detail::to_f16x2(high.z, high.w))
            : make_uint4(detail::to_bf16x2(low.x, low.y), detail::to_bf16x2(low.z, low.w),
                         detail::to_bf16x2(high.x, high.y), detail::to_bf16x2(high.z, high.w));
    auto* const target = reinterpret_cast<std::uint16_t*>(params.c) + at;
    if (params.whole_rows) {
      *reinterpret_cast<uint4*>(target) = words;
    } else {
      std::uint32_t const halves[] = {words.x, words.y, words.z, words.w};
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < 8; ++i) {
        if (i < valid) {
          target[i] = static_cast<std::uint16_t>(halves[i / 2] >> (i % 2 * 16));
        }
      }
    }
  }
};

}  // namespace nvfp4::sm90
