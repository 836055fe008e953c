#include "instance.hpp"

namespace nvfp4::detail {

#define NVFP4_KERNEL_DECLARATION(symbol, ...) KernelInstance const& symbol##_instance() noexcept;
NVFP4_SM100_KERNELS(NVFP4_KERNEL_DECLARATION)
NVFP4_SM90_KERNELS(NVFP4_KERNEL_DECLARATION)
#undef NVFP4_KERNEL_DECLARATION

KernelInstance const* const* instances() noexcept {
  static KernelInstance const* const kInstances[] = {
#define NVFP4_KERNEL_ADDRESS(symbol, ...) &symbol##_instance(),
      NVFP4_SM100_KERNELS(NVFP4_KERNEL_ADDRESS)
      NVFP4_SM90_KERNELS(NVFP4_KERNEL_ADDRESS)
#undef NVFP4_KERNEL_ADDRESS
  };
  return kInstances;
}

}  // namespace nvfp4::detail
