#pragma once

#include <cstddef>

#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace nvfp4::detail {

// "F16" and the like.
char const* name_of(nvfp4_data_type type) noexcept;

// Throw Error unless every rule of the kernels holds for the addresses of a valid specification's weights, and for what a
// launch brings, its rows included.
void validate_weights(Spec const& spec, Weights const& weights);
void validate_io(Spec const& spec, Weights const& weights, Io const& io);

// Throws Error unless the workspace has `bytes`, away from the operands. `io` is valid.
void validate_workspace(Spec const& spec, Weights const& weights, Io const& io, std::size_t bytes);

}  // namespace nvfp4::detail
