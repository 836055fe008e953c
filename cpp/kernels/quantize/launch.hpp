// Checks and launches that quantizer and swizzle have in common.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "nvfp4_dual_gemm/weights.hpp"
#include "support/error.hpp"
#include "support/integer.hpp"
#include "support/regions.hpp"

namespace nvfp4::detail {

// What one batch of scale factors is made of.
struct Tiling {
  unsigned blocks;        // scale factors of a row
  unsigned atom_columns;  // atoms of a row
  unsigned row_tiles;     // atoms of a column
};

inline Tiling tiling(int rows, int k, int batch) {
  if (rows < 0) {
    fail_argument("rows = ", rows, " is negative");
  }
  if (k < NVFP4_SCALE_BLOCK || k % NVFP4_SCALE_BLOCK != 0) {
    fail_argument("K = ", k, " is not a positive multiple of ", NVFP4_SCALE_BLOCK);
  }
  if (batch < 1 || batch > NVFP4_MAX_BATCH) {
    fail_argument("batch = ", batch, " is not in 1..=", NVFP4_MAX_BATCH);
  }
  unsigned const blocks = static_cast<unsigned>(k) / NVFP4_SCALE_BLOCK;
  unsigned const atom_columns = ceil_div(blocks, NVFP4_SCALE_ATOM_BLOCKS);
  unsigned const row_tiles = ceil_div(static_cast<unsigned>(rows), NVFP4_SCALE_ATOM_ROWS);
  return {blocks, atom_columns, row_tiles};
}

inline unsigned grid_size(std::uint64_t thread_blocks, int rows, int k) {
  if (thread_blocks > INT32_MAX) {
    fail_argument("rows = ", rows, ", K = ", k, " need ", thread_blocks, " thread blocks, at most ", INT32_MAX,
                  " can be launched");
  }
  return static_cast<unsigned>(thread_blocks);
}

// Has the runtime load a kernel.
template <class Parameters>
void load(void (*kernel)(Parameters)) {
  cudaFuncAttributes attributes{};
  check_cuda(cudaFuncGetAttributes(&attributes, reinterpret_cast<void const*>(kernel)), "cudaFuncGetAttributes");
}

// Those of swizzle_scales() and unswizzle_scales().
void load_layout_kernels();
// Those of convert().
void load_conversions();

template <class Parameters>
void launch(void (*kernel)(Parameters), char const* name, dim3 grid, unsigned threads, Parameters parameters,
            cudaStream_t stream) {
  void* arguments[] = {&parameters};
  check_cuda(cudaLaunchKernel(reinterpret_cast<void const*>(kernel), grid, dim3(threads), arguments, 0, stream), name);
}

}  // namespace nvfp4::detail
