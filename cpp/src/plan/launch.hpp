#pragma once

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "registry/instance.hpp"

namespace nvfp4::detail {

// Queues all launches, on the current device. Throws Error, in which the kernel is named.
void launch(Launches const& launches, KernelInfo const& kernel, cudaStream_t stream);

}  // namespace nvfp4::detail
