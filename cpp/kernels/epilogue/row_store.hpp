// Writes neighbouring columns of one row of C, as wide as its addresses allow.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cutlass/array.h"
#include "cutlass/numeric_conversion.h"
#include "nvfp4_dual_gemm/abi.h"

namespace nvfp4::detail {

// Bytes of one store. The same for a whole launch: rows begin at multiples of the pitch.
enum class StoreWidth : int { kElement = 0, kBytes16 = 16, kBytes32 = 32 };

constexpr int output_bytes(nvfp4_output output) { return output == NVFP4_OUTPUT_F32 ? 4 : 2; }

// The widest store for which every row, and with it every store's address, is aligned; then a store that begins left
// of column n also ends there.
constexpr StoreWidth store_width(std::uintptr_t c, std::int64_t n, nvfp4_output output) {
  std::uint64_t const bits = c | static_cast<std::uint64_t>(n * output_bytes(output));
  return bits % 32 == 0 ? StoreWidth::kBytes32 : bits % 16 == 0 ? StoreWidth::kBytes16 : StoreWidth::kElement;
}

// One row of C as one thread writes it. `row` is valid or `columns` is 0.
struct RowOfC {
  char* row;
  int columns;
  nvfp4_output output;
  StoreWidth width;

  // values[i] to column `column` + i, where that is a column of C.
  template <int kColumns>
  CUTLASS_DEVICE void store(int column, cutlass::Array<float, kColumns> const& values) const {
    if (output == NVFP4_OUTPUT_F32) {
      store_as<float>(column, values);
    } else if (output == NVFP4_OUTPUT_BF16) {
      store_as<cutlass::bfloat16_t>(column, values);
    } else {
      store_as<cutlass::half_t>(column, values);
    }
  }

 private:
  template <class Element, int kColumns>
  CUTLASS_DEVICE void store_as(int column, cutlass::Array<float, kColumns> const& values) const {
    constexpr int kElementBytes = static_cast<int>(sizeof(Element));
    constexpr int kWords = kColumns * kElementBytes / 4;
    static_assert(kWords % 8 == 0, "a step must be whole 32-byte stores");
    auto const converted = cutlass::NumericArrayConverter<Element, float, kColumns>{}(values);
    auto const& words = reinterpret_cast<cutlass::Array<std::uint32_t, kWords> const&>(converted);
    char* const target = row + std::ptrdiff_t{column} * kElementBytes;
    int const valid = columns - column;
    if (width == StoreWidth::kBytes32) {
      CUTLASS_PRAGMA_UNROLL
      for (int w = 0; w < kWords; w += 8) {
        if (w * 4 / kElementBytes < valid) {
          asm volatile("st.global.v8.b32 [%0], {%1, %2, %3, %4, %5, %6, %7, %8};" ::"l"(target + w * 4),
                       "r"(words[w]), "r"(words[w + 1]), "r"(words[w + 2]), "r"(words[w + 3]), "r"(words[w + 4]),
                       "r"(words[w + 5]), "r"(words[w + 6]), "r"(words[w + 7])
                       : "memory");
        }
      }
    } else if (width == StoreWidth::kBytes16) {
      CUTLASS_PRAGMA_UNROLL
      for (int w = 0; w < kWords; w += 4) {
        if (w * 4 / kElementBytes < valid) {
          asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(target + w * 4), "r"(words[w]),
                       "r"(words[w + 1]), "r"(words[w + 2]), "r"(words[w + 3])
                       : "memory");
        }
      }
    } else {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kColumns; ++i) {
        if (i < valid) {
          store_element(target + i * kElementBytes, converted[i]);
        }
      }
    }
  }

  template <class Element>
  CUTLASS_DEVICE static void store_element(char* target, Element const& value) {
    if constexpr (sizeof(Element) == 4) {
      asm volatile("st.global.b32 [%0], %1;" ::"l"(target), "r"(reinterpret_cast<std::uint32_t const&>(value)) : "memory");
    } else {
      asm volatile("st.global.b16 [%0], %1;" ::"l"(target), "h"(reinterpret_cast<std::uint16_t const&>(value)) : "memory");
    }
  }
};

}  // namespace nvfp4::detail
