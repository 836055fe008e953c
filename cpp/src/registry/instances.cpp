#include "registry/instance.hpp"
#include "registry/table.hpp"

namespace nvfp4::detail {

#if NVFP4_SM100
#define X(symbol, ...) KernelInstance const& symbol##_instance() noexcept;
#include "registry/sm100.def"
#endif
#if NVFP4_SM90
#define X(symbol, ...) KernelInstance const& symbol##_instance() noexcept;
#include "registry/sm90.def"
#endif

KernelInstance const* const* instances() noexcept {
  static KernelInstance const* const kInstances[kKernelCount] = {
#if NVFP4_SM100
#define X(symbol, ...) &symbol##_instance(),
#include "registry/sm100.def"
#endif
#if NVFP4_SM90
#define X(symbol, ...) &symbol##_instance(),
#include "registry/sm90.def"
#endif
  };
  return kInstances;
}

}  // namespace nvfp4::detail
