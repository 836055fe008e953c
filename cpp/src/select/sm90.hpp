// Which kernel a shape gets on Hopper.
#pragma once

#include "select/select.hpp"

namespace nvfp4::sm90 {

// Of `splits` > 0 for its tile and its residency, as its launch will ask for; kNoKernel where there is none.
int select_kernel(GemmShape const& shape, detail::Operands const& operands,
                  detail::Residencies const& residencies) noexcept;

detail::Residency usual_residency(int sm_count) noexcept;

}  // namespace nvfp4::sm90
