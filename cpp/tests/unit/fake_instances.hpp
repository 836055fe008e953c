#pragma once

#include <cstddef>

#include "instance.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace fake {

struct Encoded {
  nvfp4::Config config;
  nvfp4::detail::Residency residency;
  void const *params, *prologue_params;
  int count = 0;
  bool refuse = false;
};

// Of the last encoding.
Encoded& encoded();

// What stands for the host stubs of the kernel and of its prologue, which those of SM90 have.
void const* function(int kernel);
void const* prologue(int kernel);

// Bytes of the workspace of a kernel that has one.
inline constexpr std::size_t kWorkspaceBytes = 4096;

}  // namespace fake
