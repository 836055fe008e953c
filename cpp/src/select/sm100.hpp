// Which kernel a shape gets on a B200.
#pragma once

#include "registry/table.hpp"
#include "select/select.hpp"

namespace nvfp4::sm100 {

// kNoKernel where there is none. `within_sms`: the launch has to stay within Residency::sm_count.
int select_kernel(GemmShape const& shape, detail::Operands const& operands, detail::Residencies const& residencies,
                  bool within_sms) noexcept;

detail::Residency usual_residency(detail::KernelRow const& kernel, int sm_count) noexcept;

}  // namespace nvfp4::sm100
