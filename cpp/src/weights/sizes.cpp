#include "nvfp4_dual_gemm/weights.hpp"
#include "support/integer.hpp"

namespace nvfp4 {

namespace {

using detail::ceil_div;

// 0 for what is not a size.
std::size_t size(int value) { return value > 0 ? static_cast<std::size_t>(value) : 0; }

std::size_t scale_bytes_of_rows(std::size_t rows, int k) {
  std::size_t const blocks = ceil_div(size(k), NVFP4_SCALE_BLOCK);
  return ceil_div(rows, NVFP4_SCALE_ATOM_ROWS) * ceil_div(blocks, NVFP4_SCALE_ATOM_BLOCKS) * NVFP4_SCALE_ATOM_BYTES;
}

}  // namespace

std::size_t codes_bytes(int rows, int k, int batch) noexcept { return size(rows) * (size(k) / 2) * size(batch); }

std::size_t scales_bytes(int rows, int k, int batch) noexcept {
  return scale_bytes_of_rows(size(rows), k) * size(batch);
}

std::size_t interleaved_codes_bytes(int n, int k, int batch) noexcept {
  return ceil_div(size(n), NVFP4_INTERLEAVE) * (2 * NVFP4_INTERLEAVE) * (size(k) / 2) * size(batch);
}

std::size_t interleaved_scales_bytes(int n, int k, int batch) noexcept {
  std::size_t const rows = ceil_div(size(n), NVFP4_INTERLEAVE) * NVFP4_INTERLEAVED_SCALE_ROWS;
  return scale_bytes_of_rows(rows, k) * size(batch);
}

}  // namespace nvfp4
