#pragma once

#include <cstddef>

#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace nvfp4::detail {

// Throws Error unless every rule of the kernels holds for the addresses and the alphas; the problem is valid.
void validate_operands(Config const& config, Operands const& operands);

// Throws Error unless the workspace is fit for `bytes` of it, away from the operands.
void validate_workspace(Config const& config, Operands const& operands, std::size_t bytes);

}  // namespace nvfp4::detail
