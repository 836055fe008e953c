// C as the kernels write it: one matrix of floats or of NVFP4, whose columns come from one product or from two, and what
// is added to it.
#pragma once

#include <cstdint>

#include "common/block_quantizer.hpp"
#include "common/convert.hpp"
#include "common/strict_glu.hpp"
#include "cutlass/cutlass.h"
#include "nvfp4_dual_gemm/types.h"
#include "nvfp4_dual_gemm/weights.hpp"

namespace nvfp4::detail {

// The part of C that comes from x1 alone or from both products, and that from x2.
inline constexpr int kMostParts = 2;

struct Output {
  nvfp4_operation operation;
  nvfp4_data_type type;
  nvfp4_round_first round_first;  // of NVFP4
  float global_scale;             // of NVFP4
  nvfp4_glu glu;                  // of a dual GEMM
  int columns[2];                 // of x1 and of x2
  char* data;
  std::uint8_t* scales;           // of NVFP4
  std::int64_t row_stride;        // elements
  char const* residual;           // of the type of C, added to it; may be null, or C itself
  std::int64_t residual_stride;   // elements

  CUTLASS_HOST_DEVICE constexpr bool dual() const { return operation == NVFP4_OPERATION_DUAL_GEMM; }
  // C in NVFP4 is the same on every device: of this GLU, not of GluConstants.
  CUTLASS_HOST_DEVICE constexpr bool strict() const { return dual() && type == NVFP4_DATA_TYPE_NVFP4; }
  // A dual GEMM joins x1 and x2 to one, a GEMM writes both.
  CUTLASS_HOST_DEVICE constexpr int parts() const { return dual() ? 1 : kMostParts; }
  CUTLASS_HOST_DEVICE constexpr int first_column(int part) const { return part == 0 ? 0 : columns[0]; }
  CUTLASS_HOST_DEVICE constexpr int all_columns() const { return columns[0] + (dual() ? 0 : columns[1]); }
};

// Of a launch that has been checked.
inline Output output_of(nvfp4_spec const& spec, nvfp4_io const& io) {
  int const first = weight_rows(spec);
  bool const dual = spec.operation == NVFP4_OPERATION_DUAL_GEMM;
  auto const stride = [&](std::int64_t given) { return given == 0 ? std::int64_t{spec.n} : given; };
  return {spec.operation,
          io.c.type,
          io.c.round_first,
          io.c.global_scale,
          dual ? spec.glu : nvfp4_glu{},
          {first, dual ? first : spec.n - first},
          static_cast<char*>(io.c.data),
          static_cast<std::uint8_t*>(io.c.scales),
          stride(io.c.row_stride),
          static_cast<char const*>(io.residual),
          stride(io.residual_row_stride)};
}

// What all addresses of a matrix of floats have in common at which a row of a part begins or ends: low bits that are 0.
// Vectors of so many bytes that begin left of the end of a part also end there.
inline std::uint64_t alignment_bits(Output const& c, void const* data, std::int64_t stride) {
  std::uint64_t const elements = static_cast<std::uint64_t>(stride) | static_cast<std::uint64_t>(c.columns[0]) |
                                 static_cast<std::uint64_t>(c.columns[1]);
  return reinterpret_cast<std::uintptr_t>(data) | elements * static_cast<std::uint64_t>(element_bytes(c.type));
}
inline std::uint64_t alignment_bits(Output const& c) { return alignment_bits(c, c.data, c.row_stride); }

// Whether rows of the residual may be read 16 bytes at a time.
inline bool whole_residual(Output const& c) {
  return c.residual != nullptr && alignment_bits(c, c.residual, c.residual_stride) % 16 == 0;
}

// Memory that a kernel before this one or this thread itself may have written: not ld.global.nc.
CUTLASS_DEVICE uint4 load_16_bytes(void const* address) {
  uint4 value;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address)
               : "memory");
  return value;
}
CUTLASS_DEVICE float load_float(void const* address) {
  float value;
  asm volatile("ld.global.f32 %0, [%1];" : "=f"(value) : "l"(address) : "memory");
  return value;
}
CUTLASS_DEVICE std::uint32_t load_half(void const* address) {
  std::uint16_t value;
  asm volatile("ld.global.u16 %0, [%1];" : "=h"(value) : "l"(address) : "memory");
  return value;
}

// The first or the second half of a word as a float.
CUTLASS_DEVICE float widened(nvfp4_data_type type, std::uint32_t word, bool second) {
  std::uint32_t const half = second ? word >> 16 : word & 0xffffu;
  return type == NVFP4_DATA_TYPE_F16 ? __half2float(__ushort_as_half(static_cast<unsigned short>(half)))
                                     : float_of(half << 16);
}

// Adds to `values` the residual's elements of `row` (over all batches) from `column` on, of which `valid` are there.
template <int kColumns>
CUTLASS_DEVICE void add_residual(Output const& c, bool whole, std::int64_t row, int column, int valid,
                                 float (&values)[kColumns]) {
  static_assert(kColumns % 8 == 0);
  char const* const source = c.residual + (row * c.residual_stride + column) * element_bytes(c.type);
  if (c.type == NVFP4_DATA_TYPE_F32) {
    if (whole) {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kColumns; i += 4) {
        if (i < valid) {
          uint4 const word = load_16_bytes(source + i * 4);
          values[i] += float_of(word.x);
          values[i + 1] += float_of(word.y);
          values[i + 2] += float_of(word.z);
          values[i + 3] += float_of(word.w);
        }
      }
    } else {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kColumns; ++i) {
        if (i < valid) {
          values[i] += load_float(source + i * 4);
        }
      }
    }
  } else if (whole) {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kColumns; i += 8) {
      if (i < valid) {
        uint4 const vector = load_16_bytes(source + i * 2);
        std::uint32_t const words[] = {vector.x, vector.y, vector.z, vector.w};
        CUTLASS_PRAGMA_UNROLL
        for (int j = 0; j < 8; ++j) {
          values[i + j] += widened(c.type, words[j / 2], j % 2 != 0);
        }
      }
    }
  } else {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kColumns; ++i) {
      if (i < valid) {
        values[i] += widened(c.type, load_half(source + i * 2), false);
      }
    }
  }
}

// The scale factor of a block of C in NVFP4, of a row that may be one of those that pad the last atom. Who writes that of
// a row's last block also writes 0 to what pads the row: its columns are a multiple of 32, so that two are missing or
// none.
CUTLASS_DEVICE void store_scale(Output const& c, int batch, int rows, int row, int block, std::uint32_t scale) {
  int const blocks = c.all_columns() / NVFP4_SCALE_BLOCK;
  std::int64_t const row_atoms = (std::int64_t{rows} + NVFP4_SCALE_ATOM_ROWS - 1) / NVFP4_SCALE_ATOM_ROWS;
  std::int64_t const atom_columns = (blocks + NVFP4_SCALE_ATOM_BLOCKS - 1) / NVFP4_SCALE_ATOM_BLOCKS;
  std::int64_t const atom =
      (batch * row_atoms + row / NVFP4_SCALE_ATOM_ROWS) * atom_columns + block / NVFP4_SCALE_ATOM_BLOCKS;
  int const row_of_atom = row % NVFP4_SCALE_ATOM_ROWS;
  int const column = block % NVFP4_SCALE_ATOM_BLOCKS;
  std::uint8_t* const target =
      c.scales + atom * NVFP4_SCALE_ATOM_BYTES + row_of_atom % 32 * 16 + row_of_atom / 32 * 4 + column;
  asm volatile("st.global.b8 [%0], %1;" ::"l"(target), "r"(scale) : "memory");
  if (column == 1 && block == blocks - 1) {
    asm volatile("st.global.b16 [%0], %1;" ::"l"(target + 1), "h"(std::uint16_t{0}) : "memory");
  }
}

// Columns `column` to `column` + 15 of a part of C in NVFP4.
CUTLASS_DEVICE void store_block(Output const& c, int batch, int rows, int row, int part, int column,
                                float const (&values)[NVFP4_SCALE_BLOCK]) {
  int const block = (c.first_column(part) + column) / NVFP4_SCALE_BLOCK;
  QuantizedBlock const quantized = quantize_block(values, c.global_scale, c.round_first);
  std::int64_t const blocks = c.all_columns() / NVFP4_SCALE_BLOCK;
  char* const target = c.data + ((std::int64_t{batch} * rows + row) * blocks + block) * (NVFP4_SCALE_BLOCK / 2);
  asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(target), "r"(quantized.codes[0]), "r"(quantized.codes[1])
               : "memory");
  store_scale(c, batch, rows, row, block, quantized.scale);
}

}  // namespace nvfp4::detail
