// Which kernel a shape gets on Hopper.
#pragma once

#include "select.hpp"

namespace nvfp4::sm90 {

// Of `splits` > 0 for its tile and its residency, as its plan will ask for.
nvfp4_kernel select_kernel(Problem const& problem, detail::Residencies const& residencies) noexcept;

detail::Residency usual_residency(int sm_count) noexcept;

}  // namespace nvfp4::sm90
