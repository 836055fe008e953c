// Writes neighboring columns of one row of C.
#pragma once

#include <cstdint>

#include "common/convert.hpp"
#include "common/output.hpp"
#include "cutlass/cutlass.h"
#include "sm90/params.hpp"

namespace nvfp4::sm90 {

// Which element is the first of those that are stored.
struct Place {
  int batch, token, part, column;  // of a part of C
};

// The epilogue's sink where C is a row-major matrix. What takes its place (Tile::Sink) stores the eight elements at
// `from`, in shared memory, of which `valid` or more lie in the part; and the sixteen of a block of C in NVFP4, of a dual
// GEMM those of the GLU of x1 at `from` and x2.
struct RowStore {
  static CUTLASS_DEVICE void store_block(Params const& params, float const* from, float const* x2, Place const& place) {
    float values[NVFP4_SCALE_BLOCK];
    load(from, values);
    if (params.c.strict()) {
      float up[NVFP4_SCALE_BLOCK];
      load(x2, up);
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < NVFP4_SCALE_BLOCK; ++i) {
        values[i] = detail::strict_glu(params.c.glu, values[i], up[i]);
      }
    }
    detail::store_block(params.c, place.batch, params.m, place.token, place.part, place.column, values);
  }

  static CUTLASS_DEVICE void store(Params const& params, float const* from, Place const& place, int valid) {
    float4 low = reinterpret_cast<float4 const*>(from)[0];
    float4 high = reinterpret_cast<float4 const*>(from)[1];
    std::int64_t const row = std::int64_t{place.batch} * params.m + place.token;
    int const column = params.c.first_column(place.part) + place.column;
    if (params.c.residual != nullptr) {
      float values[] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      detail::add_residual(params.c, params.whole_residual, row, column, valid, values);
      low = make_float4(values[0], values[1], values[2], values[3]);
      high = make_float4(values[4], values[5], values[6], values[7]);
    }
    std::int64_t const at = row * params.c.row_stride + column;
    if (params.c.type == NVFP4_DATA_TYPE_F32) {
      auto* const target = reinterpret_cast<float*>(params.c.data) + at;
      if (params.whole_rows) {
        reinterpret_cast<float4*>(target)[0] = low;
        if (valid > 4) {
          reinterpret_cast<float4*>(target)[1] = high;
        }
      } else {
        float const values[] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
        CUTLASS_PRAGMA_UNROLL
        for (int i = 0; i < 8; ++i) {
          if (i < valid) {
            target[i] = values[i];
          }
        }
      }
      return;
    }
    uint4 const words =
        params.c.type == NVFP4_DATA_TYPE_F16
            ? make_uint4(detail::to_f16x2(low.x, low.y), detail::to_f16x2(low.z, low.w),
                         detail::to_f16x2(high.x, high.y), detail::to_f16x2(high.z, high.w))
            : make_uint4(detail::to_bf16x2(low.x, low.y), detail::to_bf16x2(low.z, low.w),
                         detail::to_bf16x2(high.x, high.y), detail::to_bf16x2(high.z, high.w));
    auto* const target = reinterpret_cast<std::uint16_t*>(params.c.data) + at;
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

 private:
  static CUTLASS_DEVICE void load(float const* from, float (&values)[NVFP4_SCALE_BLOCK]) {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < NVFP4_SCALE_BLOCK; i += 4) {
      float4 const quad = *reinterpret_cast<float4 const*>(from + i);
      values[i] = quad.x;
      values[i + 1] = quad.y;
      values[i + 2] = quad.z;
      values[i + 3] = quad.w;
    }
  }
};

}  // namespace nvfp4::sm90
