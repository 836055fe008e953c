// What the host code knows of one compiled kernel. Every instance is a translation unit of its own that defines one
// `KernelInstance`; nothing outside of it sees CUTLASS.
#pragma once

#include <cstddef>

#include "nvfp4_dual_gemm/abi.h"

namespace nvfp4::detail {

struct KernelInstance {
  nvfp4_kernel_info info;

  // Address of the kernel's host stub, for cudaLaunchKernelExC and cudaFuncSetAttribute.
  void const* function;

  // Writes the kernel's parameter (info.params_bytes, aligned to 64) for these operands, tensor maps included, and the
  // launch shape. Host only: calls nothing of CUDA but cuTensorMapEncodeTiled and attribute queries that `max_clusters`
  // does not answer. `sm_count` and `max_clusters` size a persistent grid. Throws nvfp4::Error.
  void (*encode)(nvfp4_config const& config, nvfp4_operands const& operands, int sm_count, int max_clusters,
                 void* params, nvfp4_launch_shape& shape);
};

// In the order of NVFP4_SM100_KERNELS.
KernelInstance const* const* sm100_instances() noexcept;

}  // namespace nvfp4::detail
