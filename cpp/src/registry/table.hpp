// The rows of sm100.def and sm90.def that this build has, as values, for what must know the kernels without linking them.
// CMake says which: NVFP4_SM100 and NVFP4_SM90 are 1 or 0.
#pragma once

#include <cstddef>
#include <iterator>
#include <string_view>

#include "nvfp4_dual_gemm/types.h"

namespace nvfp4::detail {

struct KernelRow {
  char const* name;
  int compute_capability;
  nvfp4_mainloop mainloop;
  int sms, tile_m, tile_n, tile_k, cluster_m, cluster_n;
  nvfp4_scheduler scheduler;
  nvfp4_data_type activations;

  constexpr nvfp4_weight_format weights() const {
    return mainloop == NVFP4_MAINLOOP_INTERLEAVED ? NVFP4_WEIGHTS_INTERLEAVED : NVFP4_WEIGHTS_SEPARATE;
  }
  constexpr int cluster_size() const { return cluster_m * cluster_n; }
  constexpr int tiles_m_per_cluster() const { return cluster_m / sms; }
};

inline constexpr KernelRow kKernelTable[] = {
#if NVFP4_SM100
#define X(symbol, mainloop, sms, tile_m, tile_n, cluster_m, cluster_n, scheduler)                            \
  {#symbol, 100,       NVFP4_MAINLOOP_##mainloop, sms, tile_m, tile_n, NVFP4_TILE_K,                         \
   cluster_m, cluster_n, NVFP4_SCHEDULER_##scheduler, NVFP4_DATA_TYPE_NVFP4},
#include "registry/sm100.def"
#endif
#if NVFP4_SM90
#define X(symbol, tile_m, tile_n, tile_k, slices, activations)                                     \
  {#symbol, 90, NVFP4_MAINLOOP_WIDENED, 1, tile_m, tile_n, tile_k, 0, 0, NVFP4_SCHEDULER_GRID, \
   NVFP4_DATA_TYPE_##activations},
#include "registry/sm90.def"
#endif
};

// Kernels are numbered within the library only: by their place in the table of this build.
inline constexpr int kKernelCount = static_cast<int>(std::size(kKernelTable));
inline constexpr int kNoKernel = -1;

constexpr int kernel_index(std::string_view name) {
  for (int i = 0; i < kKernelCount; ++i) {
    if (name == kKernelTable[i].name) {
      return i;
    }
  }
  return kNoKernel;
}

}  // namespace nvfp4::detail
