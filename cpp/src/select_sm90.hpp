// Which kernel a shape gets on Hopper.
#pragma once

#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace nvfp4::sm90 {

nvfp4_kernel select_kernel(Problem const& problem, int sm_count) noexcept;

}  // namespace nvfp4::sm90
