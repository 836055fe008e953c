// The rows of NVFP4_SM100_KERNELS and NVFP4_SM90_KERNELS as values, for what must know the kernels without linking
// them.
#pragma once

#include <array>

#include "nvfp4_dual_gemm/abi.h"

namespace nvfp4::detail {

struct KernelRow {
  int compute_capability;
  nvfp4_mainloop mainloop;
  int sms, tile_m, tile_n, tile_k, cluster_m, cluster_n;
  nvfp4_scheduler scheduler;

  constexpr nvfp4_weight_format weights() const {
    return mainloop == NVFP4_MAINLOOP_INTERLEAVED ? NVFP4_WEIGHTS_INTERLEAVED : NVFP4_WEIGHTS_SEPARATE;
  }
  constexpr int cluster_size() const { return cluster_m * cluster_n; }
  constexpr int tiles_m_per_cluster() const { return cluster_m / sms; }
};

inline constexpr std::array<KernelRow, NVFP4_KERNEL_COUNT> kKernelTable{{
#define NVFP4_KERNEL_ROW(symbol, mainloop, sms, tile_m, tile_n, cluster_m, cluster_n, scheduler) \
  {100, NVFP4_MAINLOOP_##mainloop, sms, tile_m, tile_n, NVFP4_TILE_K, cluster_m, cluster_n, \
   NVFP4_SCHEDULER_##scheduler},
    NVFP4_SM100_KERNELS(NVFP4_KERNEL_ROW)
#undef NVFP4_KERNEL_ROW
#define NVFP4_KERNEL_ROW(symbol, tile_m, tile_n, tile_k, slices) \
  {90, NVFP4_MAINLOOP_WIDENED, 1, tile_m, tile_n, tile_k, 0, 0, NVFP4_SCHEDULER_GRID},
    NVFP4_SM90_KERNELS(NVFP4_KERNEL_ROW)
#undef NVFP4_KERNEL_ROW
}};

inline constexpr std::array<char const*, NVFP4_KERNEL_COUNT> kKernelNames{{
#define NVFP4_KERNEL_NAME(symbol, ...) #symbol,
    NVFP4_SM100_KERNELS(NVFP4_KERNEL_NAME)
    NVFP4_SM90_KERNELS(NVFP4_KERNEL_NAME)
#undef NVFP4_KERNEL_NAME
}};

}  // namespace nvfp4::detail
