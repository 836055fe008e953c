#include "bridge.hpp"

#include <span>
#include <utility>

// Made by cxx from bridge.rs.
#include "nvfp4-dual-gemm/src/cuda/ffi/bridge.rs.h"

namespace nvfp4::bridge {

namespace {

template <class T>
std::span<T> span(rust::Slice<T> slice) {
  return {slice.data(), slice.size()};
}

}  // namespace

rust::Slice<nvfp4_kernel_info const> kernels() noexcept {
  auto const table = nvfp4::kernels();
  return {table.data(), table.size()};
}

char const* select_kernel(nvfp4_shape const& shape, std::uint32_t operation, std::uint32_t activations,
                          std::uint32_t weights, std::int32_t compute_capability, std::int32_t sm_count) noexcept {
  return nvfp4::select_kernel(shape, static_cast<nvfp4_operation>(operation), static_cast<nvfp4_data_type>(activations),
                              static_cast<nvfp4_weight_format>(weights), compute_capability, sm_count);
}

std::unique_ptr<Plan> prepare(nvfp4_spec const& spec, nvfp4_weights const& weights) {
  return std::make_unique<Plan>(Plan::prepare(spec, weights));
}

std::unique_ptr<BoundPlan> bind(Plan const& plan, nvfp4_io const& io) {
  return std::make_unique<BoundPlan>(plan.bind(io));
}

void interleave_weights(nvfp4_shape const& shape, rust::Slice<std::uint8_t const> b1_codes,
                        rust::Slice<std::uint8_t const> b1_scales, rust::Slice<std::uint8_t const> b2_codes,
                        rust::Slice<std::uint8_t const> b2_scales, rust::Slice<std::uint8_t> codes,
                        rust::Slice<std::uint8_t> scales) {
  nvfp4::interleave_weights(shape.n, shape.k, shape.batch, span(b1_codes), span(b1_scales), span(b2_codes),
                            span(b2_scales), span(codes), span(scales));
}

// Here, because cudaDeviceProp and the symbol of the call differ from one release of CUDA to the next.
DeviceProperties device_properties(std::int32_t device) {
  cudaDeviceProp properties{};
  cudaError_t const error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    throw Error(NVFP4_STATUS_CUDA, static_cast<int>(error), "cudaGetDeviceProperties");
  }
  DeviceProperties result;
  result.name = rust::String::lossy(properties.name);
  result.memory = properties.totalGlobalMem;
  result.major = static_cast<std::uint32_t>(properties.major);
  result.minor = static_cast<std::uint32_t>(properties.minor);
  result.sm_count = static_cast<std::uint32_t>(properties.multiProcessorCount);
  return result;
}

}  // namespace nvfp4::bridge
