#include "select_sm90.hpp"

#include <algorithm>

#include "table.hpp"

namespace nvfp4::sm90 {

// The smallest tile that holds all rows; the largest there is for more rows than any holds.
nvfp4_kernel select_kernel(Problem const& problem, int) noexcept {
  int best = NVFP4_KERNEL_AUTO;
  for (int i = 0; i < NVFP4_KERNEL_COUNT; ++i) {
    detail::KernelRow const& row = detail::kKernelTable[i];
    if (row.compute_capability != 90 || row.tile_m < std::min(problem.m, 256)) continue;
    if (best == NVFP4_KERNEL_AUTO || row.tile_m < detail::kKernelTable[best].tile_m) best = i;
  }
  return static_cast<nvfp4_kernel>(best);
}

}  // namespace nvfp4::sm90
