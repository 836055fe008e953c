// Writes neighboring columns of one row of C, as wide as its addresses allow.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/convert.hpp"
#include "common/output.hpp"
#include "cutlass/array.h"
#include "nvfp4_dual_gemm/types.h"

namespace nvfp4::sm100 {

// Bytes of one store. The same for a whole launch: rows begin at multiples of the pitch.
enum class StoreWidth : int { kElement = 0, kBytes16 = 16, kBytes32 = 32 };

// How a launch writes and reads rows.
struct RowMode {
  StoreWidth width;
  bool whole_residual;
};

// A row of C as one thread writes it.
class RowOfC {
 public:
  // `row` of `rows` of a batch, or one that pads the tile.
  CUTLASS_DEVICE RowOfC(detail::Output const& c, RowMode mode, int batch, int rows, int row)
      : c_(c), mode_(mode), batch_(batch), rows_(rows), row_(row) {
    std::int64_t const offset = (std::int64_t{batch} * rows + row) * c.row_stride;
    address_ = c.data + offset * detail::element_bytes(c.type);
  }

  // values[i] to column `column` + i of a part, where that is a column of it.
  template <int kColumns>
  CUTLASS_DEVICE void store(int part, int column, cutlass::Array<float, kColumns>& values) const {
    int const valid = c_.columns[part] - column;
    if (c_.type == NVFP4_DATA_TYPE_NVFP4) {
      static_assert(kColumns == NVFP4_SCALE_BLOCK, "a step is a block");
      if (valid > 0) {
        store_block(part, column, reinterpret_cast<float const(&)[kColumns]>(*values.data()));
      }
      return;
    }
    if (row_ < rows_) {
      int const first = c_.first_column(part) + column;
      if (c_.residual != nullptr) {
        detail::add_residual(c_, mode_.whole_residual, std::int64_t{batch_} * rows_ + row_, first, valid,
                             reinterpret_cast<float(&)[kColumns]>(*values.data()));
      }
      store_floats(address_ + std::ptrdiff_t{first} * detail::element_bytes(c_.type), valid, values);
    }
  }

 private:
  // Rows that pad the last atom get scale factors of 0; of the CTAs, the one that has them in its tile writes them.
  CUTLASS_DEVICE void store_block(int part, int column, float const (&values)[NVFP4_SCALE_BLOCK]) const {
    if (row_ < rows_) {
      detail::store_block(c_, batch_, rows_, row_, part, column, values);
    } else if (row_ / NVFP4_SCALE_ATOM_ROWS == (rows_ - 1) / NVFP4_SCALE_ATOM_ROWS) {
      detail::store_scale(c_, batch_, rows_, row_, (c_.first_column(part) + column) / NVFP4_SCALE_BLOCK, 0);
    }
  }

  // Words are packed by hand: a cast of an array of halves would put it into local memory.
  template <int kColumns>
  CUTLASS_DEVICE void store_floats(char* target, int valid, cutlass::Array<float, kColumns> const& values) const {
    if (c_.type == NVFP4_DATA_TYPE_F32) {
      cutlass::Array<std::uint32_t, kColumns> words;
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kColumns; ++i) {
        words[i] = __float_as_uint(values[i]);
      }
      store_words<4>(target, valid, words);
    } else {
      cutlass::Array<std::uint32_t, kColumns / 2> words;
      if (c_.type == NVFP4_DATA_TYPE_BF16) {
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
      store_words<2>(target, valid, words);
    }
  }

  template <int kElementBytes, int kWords>
  CUTLASS_DEVICE void store_words(char* target, int valid, cutlass::Array<std::uint32_t, kWords> const& words) const {
    static_assert(kWords % 8 == 0, "the columns of a step must be whole 32-byte stores");
    constexpr int kPerWord = 4 / kElementBytes;
    StoreWidth const width = mode_.width;
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

  detail::Output const& c_;
  RowMode mode_;
  int batch_, rows_, row_;
  char* address_;
};

// The epilogue's sink where C is a row-major matrix. A sink has
//   Mode, mode()  what a launch decides once
//   Row           a row of C as one thread has it: {output, mode, batch, rows, row}, and store()
struct RowStore {
  using Mode = RowMode;
  using Row = RowOfC;

  // The widest store for which every row of a part, and with it every store's address, is aligned; then a store that
  // begins left of the end of a part also ends there.
  static Mode mode(detail::Output const& c) {
    std::uint64_t const bits = detail::alignment_bits(c);
    StoreWidth const width =
        bits % 32 == 0 ? StoreWidth::kBytes32 : bits % 16 == 0 ? StoreWidth::kBytes16 : StoreWidth::kElement;
    return {width, detail::whole_residual(c)};
  }
};

}  // namespace nvfp4::sm100
