// The C++ half of src/cuda/ffi/bridge.rs: what cxx cannot express, and how errors cross.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <string>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "rust/cxx.h"

namespace rust::behavior {

// cxx takes only the words of an exception to Rust. Status and CUDA's code go before them:
// "\x1f<status> <code>\x1f<words>"; bridge.rs reads that back. Used for every call that is declared `-> Result`.
template <typename Try, typename Fail>
static void trycatch(Try&& attempt, Fail&& fail) noexcept {
  try {
    attempt();
  } catch (nvfp4::Error const& error) {
    try {
      fail("\x1f" + std::to_string(static_cast<int>(error.status())) + " " + std::to_string(error.cuda_error()) + "\x1f" +
           error.what());
    } catch (std::exception const&) {
      fail(error.what());
    }
  } catch (std::exception const& error) {
    fail(error.what());
  } catch (...) {
    fail("an exception that is no std::exception");
  }
}

}  // namespace rust::behavior

namespace nvfp4::bridge {

struct DeviceProperties;

rust::Slice<nvfp4_kernel_info const> kernels() noexcept;

using nvfp4::runs_on;

// The name, or null where there is none.
char const* select_kernel(nvfp4_shape const& shape, std::uint32_t operation, std::uint32_t activations,
                          std::uint32_t weights, std::int32_t compute_capability, std::int32_t sm_count) noexcept;

std::unique_ptr<Plan> prepare(nvfp4_spec const& spec, nvfp4_weights const& weights);
std::unique_ptr<BoundPlan> bind(Plan const& plan, nvfp4_io const& io);

// Of `shape` the host code takes n, k and batch.
void interleave_weights(nvfp4_shape const& shape, rust::Slice<std::uint8_t const> b1_codes,
                        rust::Slice<std::uint8_t const> b1_scales, rust::Slice<std::uint8_t const> b2_codes,
                        rust::Slice<std::uint8_t const> b2_scales, rust::Slice<std::uint8_t> codes,
                        rust::Slice<std::uint8_t> scales);

DeviceProperties device_properties(std::int32_t device);

}  // namespace nvfp4::bridge
