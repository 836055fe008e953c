// Sizes of NVFP4 operands, and weights repacked for kernels that take them interleaved. Host only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "nvfp4_dual_gemm/types.h"

namespace nvfp4 {

// Rows of each of B1 and B2: N of a dual GEMM, half of it, rounded up, of a GEMM.
constexpr int weight_rows(nvfp4_operation operation, int n) noexcept {
  return operation == NVFP4_OPERATION_GEMM ? n / 2 + n % 2 : n;
}
constexpr int weight_rows(nvfp4_spec const& spec) noexcept { return weight_rows(spec.operation, spec.n); }

// Bytes of the buffers of one operand with `rows` rows, over all batches. 0 for what is not a size.
std::size_t codes_bytes(int rows, int k, int batch) noexcept;
std::size_t scales_bytes(int rows, int k, int batch) noexcept;

// Sizes of interleaved weights, and the repacking itself. `n` is the rows of each of B1 and B2 (weight_rows). The scale factors come and go in the 128x4 layout; rows that
// pad the last tile are zero.
std::size_t interleaved_codes_bytes(int n, int k, int batch) noexcept;
std::size_t interleaved_scales_bytes(int n, int k, int batch) noexcept;
void interleave_weights(int n, int k, int batch, std::span<std::uint8_t const> b1_codes,
                        std::span<std::uint8_t const> b1_scales, std::span<std::uint8_t const> b2_codes,
                        std::span<std::uint8_t const> b2_scales, std::span<std::uint8_t> codes,
                        std::span<std::uint8_t> scales);

}  // namespace nvfp4
