#include "select_sm90.hpp"

#include <algorithm>

#include "sm90/arrangement.hpp"
#include "table.hpp"

namespace nvfp4::sm90 {

Arrangement arrange(nvfp4_problem const& problem, TileShape const& tile, detail::Residency const&) {
  return {problem.k > tile.k ? 2 : 1, 1};
}

nvfp4_kernel select_kernel(Problem const& problem, int) noexcept {
  int best = NVFP4_KERNEL_AUTO;
  for (int i = 0; i < NVFP4_KERNEL_COUNT; ++i) {
    detail::KernelRow const& row = detail::kKernelTable[i];
    if (row.compute_capability != 90) continue;
    if (best == NVFP4_KERNEL_AUTO || row.tile_m >= std::min(problem.m, 256)) best = i;
  }
  return static_cast<nvfp4_kernel>(best);
}

}  // namespace nvfp4::sm90
