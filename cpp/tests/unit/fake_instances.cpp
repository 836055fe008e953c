// Kernels that cannot run: they record what they are asked to encode.
#include "fake_instances.hpp"

#include <array>
#include <cstdint>
#include <cstring>

#include "instance.hpp"
#include "table.hpp"

namespace fake {

namespace {

Encoded last;

}  // namespace

Encoded& encoded() { return last; }

void const* function(int kernel) {
  static std::array<char, NVFP4_KERNEL_COUNT> functions;
  return &functions[static_cast<std::size_t>(kernel)];
}

}  // namespace fake

namespace nvfp4::detail {

namespace {

void encode(nvfp4_config const& config, nvfp4_operands const& operands, int sm_count, int max_clusters, void* params,
            nvfp4_launch_shape& shape) {
  fake::last.config = config;
  fake::last.sm_count = sm_count;
  fake::last.max_clusters = max_clusters;
  fake::last.params = params;
  fake::last.count += 1;
  if (fake::last.refuse) {
    throw Error(NVFP4_STATUS_CUTLASS, 0, "refused");
  }
  KernelRow const& row = kKernelTable[static_cast<std::size_t>(config.kernel)];
  std::memcpy(params, &operands, sizeof operands);
  shape = {{8, 2, 1},
           {256, 1, 1},
           {static_cast<std::uint32_t>(row.cluster_m), static_cast<std::uint32_t>(row.cluster_n), 1},
           200000};
}

KernelInstance make(int kernel) {
  KernelRow const& row = kKernelTable[static_cast<std::size_t>(kernel)];
  nvfp4_kernel_info const info{kKernelNames[static_cast<std::size_t>(kernel)],
                               row.mainloop,
                               row.scheduler,
                               row.weights(),
                               100,
                               row.sms,
                               row.tile_m,
                               row.tile_n,
                               NVFP4_TILE_K,
                               row.cluster_m,
                               row.cluster_n,
                               256,
                               5,
                               1,
                               200000,
                               496,
                               1024};
  return {info, fake::function(kernel), &encode};
}

}  // namespace

KernelInstance const* const* sm100_instances() noexcept {
  static std::array<KernelInstance, NVFP4_KERNEL_COUNT> const instances = [] {
    std::array<KernelInstance, NVFP4_KERNEL_COUNT> made{};
    for (int i = 0; i < NVFP4_KERNEL_COUNT; ++i) made[static_cast<std::size_t>(i)] = make(i);
    return made;
  }();
  static std::array<KernelInstance const*, NVFP4_KERNEL_COUNT> const table = [] {
    std::array<KernelInstance const*, NVFP4_KERNEL_COUNT> pointers{};
    for (std::size_t i = 0; i < pointers.size(); ++i) pointers[i] = &instances[i];
    return pointers;
  }();
  return table.data();
}

}  // namespace nvfp4::detail
