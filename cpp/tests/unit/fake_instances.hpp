#pragma once

#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace fake {

struct Encoded {
  nvfp4::Config config;
  int sm_count, max_clusters;
  void const* params;
  int count = 0;
  bool refuse = false;
};

// Of the last encoding.
Encoded& encoded();

// What stands for the kernel's host stub.
void const* function(int kernel);

}  // namespace fake
