// The C++ half of src/backend/cuda/bridge.rs: what cxx cannot express, and how errors cross.
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

std::int32_t select_kernel(nvfp4_problem const& problem, std::uint32_t weights, std::int32_t compute_capability,
                           std::int32_t sm_count) noexcept;

std::unique_ptr<DualGemm> prepare(nvfp4_config const& config, nvfp4_operands const& operands);

void interleave_weights(nvfp4_problem const& problem, rust::Slice<std::uint8_t const> b1_codes,
                        rust::Slice<std::uint8_t const> b1_scales, rust::Slice<std::uint8_t const> b2_codes,
                        rust::Slice<std::uint8_t const> b2_scales, rust::Slice<std::uint8_t> codes,
                        rust::Slice<std::uint8_t> scales);

DeviceProperties device_properties(std::int32_t device);

}  // namespace nvfp4::bridge
