// Writes neighboring columns of one row of C, as wide as its addresses allow.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/convert.hpp"
#include "cutlass/array.h"
#include "nvfp4_dual_gemm/types.h"

namespace nvfp4::sm100 {

// Bytes of one store. The same for a whole launch: rows begin at multiples of the pitch.
enum class StoreWidth : int { kElement = 0, kBytes16 = 16, kBytes32 = 32 };

// A row of C as one thread writes it.
struct RowOfC {
  char* row;
  int columns;  // 0 where the row is outside of C, so that nothing is written
  nvfp4_data_type type;
  StoreWidth width;

  // values[i] to column `column` + i, where that is a column of C. Words are packed by hand: a cast of an array of
  // halves would put it into local memory.
  template <int kColumns>
  CUTLASS_DEVICE void store(int column, cutlass::Array<float, kColumns> const& values) const {
    if (type == NVFP4_DATA_TYPE_F32) {
      cutlass::Array<std::uint32_t, kColumns> words;
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kColumns; ++i) {
        words[i] = __float_as_uint(values[i]);
      }
      store_words<4>(column, words);
    } else {
      cutlass::Array<std::uint32_t, kColumns / 2> words;
      if (type == NVFP4_DATA_TYPE_BF16) {
        CUTLASS_PRAGMA_UNROLL
        for (int i = 0; i < kColumns; i += 2) {
          words[i / 2] = detail::to_bf16x2(values[i], values[i + 1]);
        }
      } else {
        CUTLASS_PRAGMA_UNROLL
        for (int i = 0; i < kColumns; i += 2) {
          words[i / 2] = detail::to_f16x2(values[i], values[i + 1]);
        }
      }
      store_words<2>(column, words);
    }
  }

 private:
  template <int kElementBytes, int kWords>
  CUTLASS_DEVICE void store_words(int column, cutlass::Array<std::uint32_t, kWords> const& words) const {
    static_assert(kWords % 8 == 0, "the columns of a step must be whole 32-byte stores");
    constexpr int kPerWord = 4 / kElementBytes;
    char* const target = row + std::ptrdiff_t{column} * kElementBytes;
    int const valid = columns - column;
    if (width == StoreWidth::kBytes32) {
      CUTLASS_PRAGMA_UNROLL
      for (int w = 0; w < kWords; w += 8) {
        if (w * kPerWord < valid) {
          asm volatile("st.global.v8.b32 [%0], {%1, %2, %3, %4, %5, %6, %7, %8};" ::"l"(target + w * 4), "r"(words[w]),
                       "r"(words[w + 1]), "r"(words[w + 2]), "r"(words[w + 3]), "r"(words[w + 4]), "r"(words[w + 5]),
                       "r"(words[w + 6]), "r"(words[w + 7])
                       : "memory");
        }
      }
    } else if (width == StoreWidth::kBytes16) {
      CUTLASS_PRAGMA_UNROLL
      for (int w = 0; w < kWords; w += 4) {
        if (w * kPerWord < valid) {
          asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(target + w * 4), "r"(words[w]),
                       "r"(words[w + 1]), "r"(words[w + 2]), "r"(words[w + 3])
                       : "memory");
        }
      }
    } else {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kWords * kPerWord; ++i) {
        if (i < valid) {
          char* const element = target + i * kElementBytes;
          std::uint32_t const bits = words[i / kPerWord] >> (i % kPerWord * 16);
          if constexpr (kElementBytes == 4) {
            asm volatile("st.global.b32 [%0], %1;" ::"l"(element), "r"(bits) : "memory");
          } else {
            asm volatile("st.global.b16 [%0], %1;" ::"l"(element), "h"(static_cast<std::uint16_t>(bits)) : "memory");
          }
        }
      }
    }
  }
};

// The epilogue's sink where C is a row-major matrix of floats. A sink has
//   Mode, mode()  what a launch decides once, from C's address, columns and type
//   Row           a row of C as one thread has it: {address, columns, type, mode}, and store()
struct RowStore {
  using Mode = StoreWidth;
  using Row = RowOfC;

  // The widest store for which every row, and with it every store's address, is aligned; then a store that begins left
  // of column n also ends there.
  static constexpr Mode mode(std::uintptr_t c, std::int64_t n, nvfp4_data_type type) {
    std::uint64_t const bits = c | static_cast<std::uint64_t>(n * detail::element_bytes(type));
    return bits % 32 == 0 ? StoreWidth::kBytes32 : bits % 16 == 0 ? StoreWidth::kBytes16 : StoreWidth::kElement;
  }
};

}  // namespace nvfp4::sm100
