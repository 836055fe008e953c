#pragma once

#include <cstddef>
#include <string>

#include "fake_cuda.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "registry/instance.hpp"

namespace fake {

struct Encoded {
  // Of the last launch that was encoded.
  std::string kernel;
  nvfp4::Spec spec;
  nvfp4::detail::Residency residency;

  int weights = 0, launches = 0;  // how often
  bool refuse_weights = false, refuse_io = false;
};
Encoded& encoded();

// What the parameter of a launch has: what its encoders were given.
struct Params {
  nvfp4::Weights weights;
  nvfp4::Io io;
};
Params params_of(Launch const& launch);

// What stands for the host stubs of the kernel and of its prologue, which those of SM90 have.
void const* function(std::string const& kernel);
void const* prologue(std::string const& kernel);

// Whether the SM100 kernels' code is for later minor versions, too.
void set_family(bool family);

// Bytes of the workspace of a kernel that has one, as real ones have: by the rows.
inline constexpr std::size_t kWorkspaceBytesPerRow = 256;

}  // namespace fake
