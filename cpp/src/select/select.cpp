#include "select/select.hpp"

#include <algorithm>

#include "select/sm100.hpp"
#include "select/sm90.hpp"

namespace nvfp4 {

namespace detail {

Residencies usual_residencies(int compute_capability, int sm_count) noexcept {
  Residencies residencies{};
  for (int i = 0; i < kKernelCount; ++i) {
    KernelRow const& kernel = kKernelTable[i];
    if (!runs_on(instances()[i]->info, compute_capability)) continue;
    residencies[static_cast<std::size_t>(i)] = kernel.compute_capability == 90 ? sm90::usual_residency(sm_count)
                                                                               : sm100::usual_residency(kernel, sm_count);
  }
  return residencies;
}

int select_kernel(GemmShape const& shape, nvfp4_weight_format weights, int compute_capability,
                  Residencies const& residencies, bool within_sms) noexcept {
  GemmShape const rows{std::max(shape.m, 1), shape.n, shape.k, shape.batch};  // no row is planned like one
  switch (compute_capability / 10) {
    case 9:
      // One cluster for each tile, on any SM.
      return weights == NVFP4_WEIGHTS_SEPARATE && !within_sms ? sm90::select_kernel(rows, residencies) : kNoKernel;
    case 10:
      return sm100::select_kernel(rows, weights, residencies, within_sms);
    default:
      return kNoKernel;
  }
}

}  // namespace detail

char const* select_kernel(GemmShape const& shape, nvfp4_weight_format weights, int compute_capability,
                          int sm_count) noexcept {
  int const kernel = detail::select_kernel(shape, weights, compute_capability,
                                           detail::usual_residencies(compute_capability, sm_count), false);
  return kernel == detail::kNoKernel ? nullptr : detail::kKernelTable[kernel].name;
}

}  // namespace nvfp4
