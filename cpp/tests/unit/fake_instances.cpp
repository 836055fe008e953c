// Kernels that cannot run: they record what they are asked to encode.
#include "fake_instances.hpp"

#include <array>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "registry/table.hpp"

namespace fake {

namespace {

Encoded last;

std::size_t index_of(std::string const& kernel) {
  int const index = nvfp4::detail::kernel_index(kernel);
  if (index == nvfp4::detail::kNoKernel) throw std::logic_error("no kernel " + kernel);
  return static_cast<std::size_t>(index);
}

}  // namespace

Encoded& encoded() { return last; }

Params params_of(Launch const& launch) {
  Params params;
  std::memcpy(&params, launch.params.data(), sizeof params);
  return params;
}

void const* function(std::string const& kernel) {
  static std::array<char, nvfp4::detail::kKernelCount> functions;
  return &functions[index_of(kernel)];
}

void const* prologue(std::string const& kernel) {
  static std::array<char, nvfp4::detail::kKernelCount> functions;
  return &functions[index_of(kernel)];
}

}  // namespace fake

namespace nvfp4::detail {

namespace {

void encode_weights(TensorMapEncoder const&, Spec const&, Weights const& weights, ParamsBytes& encoded) {
  fake::last.weights += 1;
  if (fake::last.refuse_weights) throw Error(NVFP4_STATUS_CUTLASS, 0, "refused");
  fake::Params params{};
  params.weights = weights;
  std::memcpy(encoded.bytes, &params, sizeof params);
}

nvfp4_launch_shape shape_of(KernelRow const& row) {
  // What the plan chooses for kernels without a cluster of their own.
  auto const cluster = [](int extent, std::uint32_t chosen) {
    return extent == 0 ? chosen : static_cast<std::uint32_t>(extent);
  };
  return {{8, 2, 1}, {256, 1, 1}, {cluster(row.cluster_m, 4), cluster(row.cluster_n, 1), 1}, 200000};
}

template <int kKernel>
nvfp4_launch_shape launch_shape(Spec const&, int, Residency const&) {
  return shape_of(kKernelTable[kKernel]);
}

void encode_io(KernelInstance const& kernel, TensorMapEncoder const&, Spec const& spec, Io const& io,
               Residency const& residency, ParamsBytes const& encoded, Launches& launches) {
  fake::last.kernel = kernel.info.name;
  fake::last.spec = spec;
  fake::last.residency = residency;
  fake::last.launches += 1;
  if (fake::last.refuse_io) throw Error(NVFP4_STATUS_CUTLASS, 0, "refused");
  fake::Params params;
  std::memcpy(&params, encoded.bytes, sizeof params);
  params.io = io;
  bool programmatic = spec.programmatic_launch != 0;
  launches.count = 0;
  auto const add = [&](void const* function, char const* role, LaunchShape const& shape) {
    Launch& launch = launches.list[launches.count++];
    launch.function = function;
    launch.role = role;
    launch.programmatic = programmatic;
    launch.shape = shape;
    std::memcpy(launch.params.bytes, &params, sizeof params);
  };
  if (kernel.prologue != nullptr) {
    add(kernel.prologue, "prologue of ", {{77, 1, 1}, {128, 1, 1}, {1, 1, 1}, 0});
    programmatic = true;
  }
  add(kernel.function, "", kernel.launch_shape(spec, io.rows, residency));
}

template <int kKernel>
KernelInstance make() {
  KernelRow const& row = kKernelTable[kKernel];
  nvfp4_kernel_info info{};
  info.name = row.name;
  info.mainloop = row.mainloop;
  info.scheduler = row.scheduler;
  info.weights = row.weights();
  info.activations = row.activations;
  info.compute_capability = row.compute_capability;
  info.sms = row.sms;
  info.tile_m = row.tile_m;
  info.tile_n = row.tile_n;
  info.tile_k = row.tile_k;
  info.cluster_m = row.cluster_m;
  info.cluster_n = row.cluster_n;
  info.threads = 256;
  info.stages = 5;
  info.accumulator_stages = 1;
  info.smem_bytes = 200000;
  info.tmem_columns = 496;
  info.params_bytes = sizeof(fake::Params);
  bool const widened_ahead = row.compute_capability == 90 && row.activations == NVFP4_DATA_TYPE_NVFP4;
  auto const workspace = [](GemmShape const& shape) {
    return fake::kWorkspaceBytesPerRow * static_cast<std::size_t>(shape.m);
  };
  KernelInstance instance{};
  instance.info = info;
  instance.function = fake::function(row.name);
  instance.prologue = widened_ahead ? fake::prologue(row.name) : nullptr;
  if (widened_ahead) instance.workspace_bytes = workspace;
  instance.encode_weights = &encode_weights;
  instance.launch_shape = &launch_shape<kKernel>;
  instance.encode_io = &encode_io;
  return instance;
}

template <int... kKernels>
std::array<KernelInstance, kKernelCount> make_all(std::integer_sequence<int, kKernels...>) {
  return {make<kKernels>()...};
}

std::array<KernelInstance, kKernelCount>& all() {
  static auto made = make_all(std::make_integer_sequence<int, kKernelCount>());
  return made;
}

}  // namespace

KernelInstance const* const* instances() noexcept {
  static std::array<KernelInstance const*, kKernelCount> const table = [] {
    std::array<KernelInstance const*, kKernelCount> pointers{};
    for (std::size_t i = 0; i < pointers.size(); ++i) pointers[i] = &all()[i];
    return pointers;
  }();
  return table.data();
}

}  // namespace nvfp4::detail

void fake::set_family(bool family) {
  for (nvfp4::detail::KernelInstance& instance : nvfp4::detail::all()) {
    if (instance.info.compute_capability == 100) instance.info.family = family;
  }
}
