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

int select_kernel(GemmShape const& products, Operands const& operands, int compute_capability,
                  Residencies const& residencies, bool within_sms) noexcept {
  // No row is planned like one.
  GemmShape const rows{std::max(products.m, 1), products.n, products.k, products.batch};
  switch (compute_capability / 10) {
    case 9:
      // One cluster for each tile, on any SM.
      return within_sms ? kNoKernel : sm90::select_kernel(rows, operands, residencies);
    case 10:
      return sm100::select_kernel(rows, operands, residencies, within_sms);
    default:
      return kNoKernel;
  }
}

}  // namespace detail

char const* select_kernel(GemmShape const& shape, nvfp4_operation operation, nvfp4_data_type activations,
                          nvfp4_weight_format weights, int compute_capability, int sm_count) noexcept {
  GemmShape const products{shape.m, weight_rows(operation, shape.n), shape.k, shape.batch};
  int const kernel = detail::select_kernel(products, {activations, weights}, compute_capability,
                                           detail::usual_residencies(compute_capability, sm_count), false);
  return kernel == detail::kNoKernel ? nullptr : detail::kKernelTable[kernel].name;
}

}  // namespace nvfp4
