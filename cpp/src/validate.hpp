#pragma once

#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace nvfp4::detail {

// Throws Error unless every rule of the kernels holds for the addresses and the alphas; the problem is valid.
void validate_operands(Config const& config, Operands const& operands);

}  // namespace nvfp4::detail
