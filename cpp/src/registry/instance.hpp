// What the host code knows of one compiled kernel. Every instance is a translation unit of its own that defines a
// function with one `KernelInstance`; nothing outside of it sees CUTLASS.
#pragma once

#include <cstddef>

#include "nvfp4_dual_gemm/abi.h"

namespace nvfp4::detail {

// Portable clusters have at most eight CTAs (CUDA programming guide, thread block clusters).
inline constexpr int kMaxCluster = 8;

// How much of a kernel a device holds at once.
struct Residency {
  int sm_count;
  // Clusters by their CTAs. 0: none, or a size that the kernel never has.
  int max_clusters[kMaxCluster + 1];
};

// Where a plan's parameters are, info.params_bytes and prologue_params_bytes of them, aligned to 64, and its launches.
struct EncodedPlan {
  void* params;
  nvfp4_launch_shape shape;
  void* prologue_params;
  nvfp4_launch_shape prologue_shape;
};

struct KernelInstance {
  nvfp4_kernel_info info;

  // Addresses of host stubs, for cudaLaunchKernelExC and cudaFuncSetAttribute. The prologue is a kernel to launch right
  // ahead; null: none.
  void const* function;
  void const* prologue;
  std::size_t prologue_params_bytes;

  // Device memory that prologue and kernel share; null: none.
  std::size_t (*workspace_bytes)(nvfp4_problem const& problem);

  // Writes parameters for these operands, tensor maps included, and launch shapes. M is not 0. Host only: calls nothing of CUDA but
  // cuTensorMapEncodeTiled. Throws nvfp4::Error.
  void (*encode)(nvfp4_config const& config, nvfp4_operands const& operands, Residency const& residency,
                 EncodedPlan& plan);
};

// In the order of nvfp4_kernel. Each is made when it is first asked for, so that initialisers of static variables may
// ask, whichever translation unit comes first.
KernelInstance const* const* instances() noexcept;

}  // namespace nvfp4::detail
