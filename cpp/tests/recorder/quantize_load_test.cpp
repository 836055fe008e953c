#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "nvfp4_dual_gemm/quantize.hpp"
#include "recorder.hpp"

using namespace nvfp4;

TEST_CASE("the quantizer's kernels can be loaded ahead, all of them") {
  recorder::reset();
  load_quantizer();
  auto names = recorder::loaded_functions();
  std::sort(names.begin(), names.end());
  CHECK(std::unique(names.begin(), names.end()) == names.end());
  // For three types of values, converted to two; and scale factors in vectors or in bytes, both ways.
  for (auto const& [kernel, expected] :
       {std::pair{"quantize_kernel", 3}, {"amax_kernel", 3}, {"swizzle_kernel", 4}, {"convert_kernel", 6}}) {
    std::string const wanted = kernel;
    CHECK(std::count_if(names.begin(), names.end(), [&](std::string const& name) {
            return name.find(wanted) != std::string::npos;
          }) == expected);
  }
  CHECK(names.size() == 16);
  recorder::fail("cudaFuncGetAttributes", cudaErrorNoKernelImageForDevice);
  CHECK_THROWS_AS(load_quantizer(), Error);
  recorder::fail("cudaFuncGetAttributes", 0);
}
