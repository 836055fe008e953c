// Which kernel a shape gets, with what the device holds of each kernel at once. Pure.
#pragma once

#include <array>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "registry/instance.hpp"
#include "registry/table.hpp"

namespace nvfp4::detail {

// By kernel. One that the device runs no cluster of is never selected.
using Residencies = std::array<Residency, kKernelCount>;

// As devices of this compute capability with so many SMs usually hold the kernels that run on them.
Residencies usual_residencies(int compute_capability, int sm_count) noexcept;

// What a kernel must take.
struct Operands {
  nvfp4_data_type activations;
  nvfp4_weight_format weights;

  constexpr bool taken_by(KernelRow const& kernel) const {
    return kernel.activations == activations && kernel.weights() == weights;
  }
};

// Of the products' shape: n counts the columns of each. kNoKernel where no kernel of this major architecture runs.
// `within_sms`: the launch has to stay within Residency::sm_count.
int select_kernel(GemmShape const& products, Operands const& operands, int compute_capability,
                  Residencies const& residencies, bool within_sms) noexcept;

}  // namespace nvfp4::detail
