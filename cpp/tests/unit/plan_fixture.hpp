// What the tests of plans share: a plan's arguments, and a device that is as new for each case.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fake_cuda.hpp"
#include "fake_instances.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace plan_fixture {

inline constexpr char const* kTwoAccumulators = "sm100_twoacc_2sm_256x64_c2x2_static";

// A device has been used with a kernel before; plans remember that. Each case that looks takes a device of its own.
inline int fresh_device() {
  static int device = 100;
  return device++;
}

inline nvfp4::Spec spec(char const* kernel = nullptr) {
  nvfp4::Spec spec{};
  spec.size = sizeof spec;
  spec.activations = NVFP4_DATA_TYPE_NVFP4;
  spec.n = 4096;
  spec.k = 7168;
  spec.batch = 1;
  spec.kernel = kernel;
  return spec;
}

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

inline constexpr std::uintptr_t kGiB = std::uintptr_t{1} << 30;
inline constexpr std::uintptr_t kWorkspace = 10 * kGiB;

inline nvfp4::Weights weights(nvfp4_weight_format format = NVFP4_WEIGHTS_SEPARATE) {
  nvfp4::Weights weights{};
  weights.size = sizeof weights;
  weights.b1_codes = at<void>(3 * kGiB);
  weights.b1_scales = at<void>(4 * kGiB);
  if (format == NVFP4_WEIGHTS_SEPARATE) {
    weights.b2_codes = at<void>(5 * kGiB);
    weights.b2_scales = at<void>(6 * kGiB);
  }
  return weights;
}

inline nvfp4::Io io(int rows = 256) {
  nvfp4::Io io{};
  io.size = sizeof io;
  io.rows = rows;
  io.a_codes = at<void>(1 * kGiB);
  io.a_scales = at<void>(2 * kGiB);
  io.c.size = sizeof io.c;
  io.c.data = at<void>(7 * kGiB);
  io.alpha1 = io.alpha2 = 1.0f;
  return io;
}

inline nvfp4::Io with_workspace(std::uintptr_t address = kWorkspace, int rows = 256) {
  nvfp4::Io all = io(rows);
  all.workspace = at<void>(address);
  all.workspace_bytes = fake::kWorkspaceBytesPerRow * static_cast<std::size_t>(rows);
  return all;
}

// Names of this build's kernels of one architecture.
inline std::vector<std::string> names(int compute_capability) {
  std::vector<std::string> found;
  for (nvfp4::KernelInfo const& info : nvfp4::kernels()) {
    if (info.compute_capability == compute_capability) found.emplace_back(info.name);
  }
  return found;
}

struct Fresh {
  Fresh() {
    fake::reset();
    fake::encoded() = {};
    fake::set_family(false);
    fake::cuda().current = fresh_device();
  }
};

template <class Call>
nvfp4::Error failure_of(Call const& call) {
  try {
    call();
  } catch (nvfp4::Error const& error) {
    return error;
  }
  return nvfp4::Error(static_cast<nvfp4_status>(0), 0, "nothing failed");
}

inline nvfp4::Error failure(nvfp4::Spec const& spec) {
  return failure_of([&] { nvfp4::Plan::prepare(spec, weights(spec.weights)); });
}

// Of an invalid argument.
template <class Call>
std::string refusal_of(Call const& call) {
  nvfp4::Error const error = failure_of(call);
  if (static_cast<int>(error.status()) == 0) return "";
  CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(error.cuda_error() == 0);
  return error.what();
}

}  // namespace plan_fixture
