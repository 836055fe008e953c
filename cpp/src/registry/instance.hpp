// What the host code knows of one compiled kernel. Every instance is a translation unit of its own that defines a
// function with one `KernelInstance`; nothing outside of it sees CUTLASS.
#pragma once

#include <cstddef>

#include "device/tensor_map.hpp"
#include "nvfp4_dual_gemm/types.h"
#include "nvfp4_dual_gemm/weights.hpp"

namespace nvfp4::detail {

// Portable clusters have at most eight CTAs (CUDA programming guide, thread block clusters).
inline constexpr int kMaxCluster = 8;

// The products of a launch with so many rows: n counts the columns of each.
constexpr nvfp4_shape products(nvfp4_spec const& spec, int rows) {
  return {rows, weight_rows(spec), spec.k, spec.batch};
}

// How much of a kernel a device holds at once.
struct Residency {
  int sm_count;
  // Clusters by their CTAs. 0: none, or a size that the kernel never has.
  int max_clusters[kMaxCluster + 1];
};

// Room for any kernel's parameter. A tensor map, and with it the parameter, begins at a multiple of 64 bytes
// (cuTensorMapEncodeTiled).
struct alignas(64) ParamsBytes {
  std::byte bytes[1280];
};

// One kernel launch.
struct Launch {
  void const* function;
  char const* role;   // what it is to the kernel of the plan, for messages: before its name
  bool programmatic;  // may begin under what is before it on the stream
  nvfp4_launch_shape shape;
  ParamsBytes params;
};

// What a plan launches, in this order; the kernel itself comes last.
inline constexpr int kMaxLaunches = 2;
struct Launches {
  int count;
  Launch list[kMaxLaunches];
};

struct KernelInstance {
  nvfp4_kernel_info info;

  // Addresses of host stubs, for cudaLaunchKernelExC and cudaFuncSetAttribute: of the kernel, and of another that may be
  // launched ahead of it, or null.
  void const* function;
  void const* prologue;

  // Device memory that the launches share; null: none.
  std::size_t (*workspace_bytes)(nvfp4_shape const& shape);

  // The following are host only and call nothing of CUDA but the encoder. They throw nvfp4::Error.
  //
  // Writes what launches of the same weights have in common: tensor maps of the weights, and what follows from `spec`.
  // The format is the kernel's own.
  void (*encode_weights)(TensorMapEncoder const& encoder, nvfp4_spec const& spec, nvfp4_weights const& weights,
                         ParamsBytes& encoded);
  // The kernel's launch for so many rows, at least one.
  nvfp4_launch_shape (*launch_shape)(nvfp4_spec const& spec, int rows, Residency const& residency);
  // Completes `encoded`, from encode_weights(), to the launches of `kernel`, this instance, for io.rows, which is not 0.
  void (*encode_io)(KernelInstance const& kernel, TensorMapEncoder const& encoder, nvfp4_spec const& spec,
                    nvfp4_io const& io, Residency const& residency, ParamsBytes const& encoded, Launches& launches);
};

// In the order of kKernelTable. Each is made when it is first asked for, so that initializers of static variables may
// ask, whichever translation unit comes first.
KernelInstance const* const* instances() noexcept;

}  // namespace nvfp4::detail
