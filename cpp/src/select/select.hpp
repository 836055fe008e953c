// Which kernel a shape gets, with what the device holds of each kernel at once. Pure.
#pragma once

#include <array>

#include "instance.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "table.hpp"

namespace nvfp4::detail {

// By kernel. One that the device runs no cluster of is never selected.
using Residencies = std::array<Residency, NVFP4_KERNEL_COUNT>;

// As devices with so many SMs usually hold the kernels.
Residencies usual_residencies(int sm_count) noexcept;

// NVFP4_KERNEL_AUTO where no kernel runs. `within_sms`: the launch has to stay within Residency::sm_count.
nvfp4_kernel select_kernel(Problem const& problem, nvfp4_weight_format weights, int compute_capability,
                           Residencies const& residencies, bool within_sms) noexcept;

}  // namespace nvfp4::detail
