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

void const* prologue(int kernel) {
  static std::array<char, NVFP4_KERNEL_COUNT> functions;
  return &functions[static_cast<std::size_t>(kernel)];
}

}  // namespace fake

namespace nvfp4::detail {

namespace {

void encode(nvfp4_config const& config, nvfp4_operands const& operands, Residency const& residency, EncodedPlan& plan) {
  fake::last.config = config;
  fake::last.residency = residency;
  fake::last.params = plan.params;
  fake::last.prologue_params = plan.prologue_params;
  fake::last.count += 1;
  if (fake::last.refuse) {
    throw Error(NVFP4_STATUS_CUTLASS, 0, "refused");
  }
  KernelRow const& row = kKernelTable[static_cast<std::size_t>(config.kernel)];
  std::memcpy(plan.params, &operands, sizeof operands);
  // What the plan chooses for kernels without a cluster of their own.
  auto const cluster = [](int extent, std::uint32_t chosen) {
    return extent == 0 ? chosen : static_cast<std::uint32_t>(extent);
  };
  plan.shape = {{8, 2, 1}, {256, 1, 1}, {cluster(row.cluster_m, 4), cluster(row.cluster_n, 1), 1}, 200000};
  if (row.compute_capability == 90) {
    std::memcpy(plan.prologue_params, &operands.workspace, sizeof operands.workspace);
    plan.prologue_shape = {{77, 1, 1}, {128, 1, 1}, {1, 1, 1}, 0};
  }
}

KernelInstance make(int kernel) {
  KernelRow const& row = kKernelTable[static_cast<std::size_t>(kernel)];
  nvfp4_kernel_info const info{kKernelNames[static_cast<std::size_t>(kernel)],
                               row.mainloop,
                               row.scheduler,
                               row.weights(),
                               row.compute_capability,
                               row.sms,
                               row.tile_m,
                               row.tile_n,
                               row.tile_k,
                               row.cluster_m,
                               row.cluster_n,
                               256,
                               5,
                               1,
                               200000,
                               496,
                               1024};
  if (row.compute_capability != 90) {
    return {info, fake::function(kernel), nullptr, 0, nullptr, &encode};
  }
  auto const workspace = [](nvfp4_problem const&) { return fake::kWorkspaceBytes; };
  return {info, fake::function(kernel), fake::prologue(kernel), sizeof(void*), workspace, &encode};
}

}  // namespace

KernelInstance const* const* instances() noexcept {
  static std::array<KernelInstance, NVFP4_KERNEL_COUNT> const all = [] {
    std::array<KernelInstance, NVFP4_KERNEL_COUNT> made{};
    for (int i = 0; i < NVFP4_KERNEL_COUNT; ++i) made[static_cast<std::size_t>(i)] = make(i);
    return made;
  }();
  static std::array<KernelInstance const*, NVFP4_KERNEL_COUNT> const table = [] {
    std::array<KernelInstance const*, NVFP4_KERNEL_COUNT> pointers{};
    for (std::size_t i = 0; i < pointers.size(); ++i) pointers[i] = &all[i];
    return pointers;
  }();
  return table.data();
}

}  // namespace nvfp4::detail
