// The kernels of this build by name.
#include <array>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "registry/instance.hpp"
#include "registry/table.hpp"

namespace nvfp4 {

std::span<KernelInfo const> kernels() noexcept {
  static std::array<KernelInfo, detail::kKernelCount> const table = [] {
    std::array<KernelInfo, detail::kKernelCount> infos{};
    for (std::size_t i = 0; i < infos.size(); ++i) {
      infos[i] = detail::instances()[i]->info;
    }
    return infos;
  }();
  return table;
}

KernelInfo const* find_kernel(std::string_view name) noexcept {
  int const index = detail::kernel_index(name);
  return index == detail::kNoKernel ? nullptr : &kernels()[static_cast<std::size_t>(index)];
}

bool runs_on(KernelInfo const& kernel, int compute_capability) noexcept {
  if (kernel.family == 0) {
    return compute_capability == kernel.compute_capability;
  }
  return compute_capability >= kernel.compute_capability && compute_capability / 10 == kernel.compute_capability / 10;
}

}  // namespace nvfp4
