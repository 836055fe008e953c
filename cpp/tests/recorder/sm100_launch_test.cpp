// launch() and the shape of what it launches.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>

#include "expectation.hpp"

using namespace nvfp4;
using namespace nvfp4::test;

namespace {

constexpr Problem kProblems[] = {{1, 128, 256, 1}, {256, 4096, 7168, 1}, {2048, 4096, 512, 3}, {300, 1000, 992, 2}};

recorder::Launch launch_of(DualGemm const& plan) {
  recorder::reset();
  recorder::parameter_bytes() = static_cast<std::size_t>(plan.kernel().params_bytes);
  plan.launch(nullptr);
  REQUIRE(recorder::launches().size() == 1);
  return recorder::launches().front();
}

// Asked for before main() begins, and before the kernels' own translation units are initialised.
long const named_at_start = std::count_if(kernels().begin(), kernels().end(), [](KernelInfo const& info) {
  return info.name != nullptr && info.threads > 0 && info.params_bytes > 0;
});

std::uint64_t volume(dim3 const& d) { return std::uint64_t{d.x} * d.y * d.z; }

}  // namespace

TEST_CASE("the table of kernels is whole before main() begins") { CHECK(named_at_start == NVFP4_KERNEL_COUNT); }

TEST_CASE("without rows nothing is encoded and nothing launched") {
  for (int kernel = 0; kernel < kAllKernels; ++kernel) {
    KernelInfo const& info = kernels()[static_cast<std::size_t>(kernel)];
    INFO(std::string(info.name));
    recorder::reset();
    auto const plan = DualGemm::prepare(config_for(kernel, {0, 1000, 992, 2}), symbolic_operands(info.weights));
    plan.launch(nullptr);
    CHECK(recorder::tensor_maps().empty());
    CHECK(recorder::launches().empty());
  }
}

TEST_CASE("launch() makes one launch and touches nothing else") {
  for (int kernel = 0; kernel < kAllKernels; ++kernel) {
    KernelInfo const& info = kernels()[static_cast<std::size_t>(kernel)];
    INFO(std::string(info.name));
    auto const plan = DualGemm::prepare(config_for(kernel, {300, 1000, 992, 2}), symbolic_operands(info.weights));
    recorder::reset();
    plan.launch(nullptr);
    plan.launch(nullptr);
    std::map<std::string, int> counts;
    for (std::string const& call : recorder::calls()) {
      ++counts[call];
    }
    CHECK(counts["cudaLaunchKernelExC"] == 2);
    // To be on the plan's device, which it is already.
    CHECK(counts["cudaGetDevice"] <= 2);
    counts.erase("cudaLaunchKernelExC");
    counts.erase("cudaGetDevice");
    for (auto const& [name, count] : counts) {
      FAIL_CHECK("launch() calls " << name);
    }
  }
}

TEST_CASE("prepare() sets the kernel's shared memory and launches nothing") {
  for (int kernel = 0; kernel < kAllKernels; ++kernel) {
    KernelInfo const& info = kernels()[static_cast<std::size_t>(kernel)];
    INFO(std::string(info.name));
    recorder::reset();
    auto const plan = DualGemm::prepare(config_for(kernel, {256, 512, 512, 1}), symbolic_operands(info.weights));
    CHECK(recorder::launches().empty());
    for (recorder::FunctionAttribute const& set : recorder::function_attributes()) {
      CHECK(set.function == std::string("nvfp4_") + info.name);
      CHECK(set.attribute == cudaFuncAttributeMaxDynamicSharedMemorySize);
      CHECK(set.value == info.smem_bytes);
    }
  }
}

TEST_CASE("the launch is the kernel's, in whole clusters") {
  for (int kernel = 0; kernel < kAllKernels; ++kernel) {
    KernelInfo const& info = kernels()[static_cast<std::size_t>(kernel)];
    for (Problem const& problem : kProblems) {
      INFO(std::string(info.name));
      CAPTURE(problem.m);
      CAPTURE(problem.n);
      auto const plan = DualGemm::prepare(config_for(kernel, problem), symbolic_operands(info.weights));
      auto const launch = launch_of(plan);
      CHECK(launch.function == std::string("nvfp4_") + info.name);
      CHECK(launch.smem_bytes == static_cast<std::size_t>(info.smem_bytes));
      CHECK(volume(launch.block) == static_cast<std::uint64_t>(info.threads));
      auto const* const cluster = launch.attribute(cudaLaunchAttributeClusterDimension);
      REQUIRE(cluster != nullptr);
      CHECK(cluster->val.clusterDim.x == static_cast<unsigned>(info.cluster_m));
      CHECK(cluster->val.clusterDim.y == static_cast<unsigned>(info.cluster_n));
      CHECK(cluster->val.clusterDim.z == 1);
      CHECK(launch.grid.x % cluster->val.clusterDim.x == 0);
      CHECK(launch.grid.y % cluster->val.clusterDim.y == 0);
      CHECK(launch.grid.x > 0);
      LaunchShape const& shape = plan.launch_shape();
      CHECK(shape.grid[0] == launch.grid.x);
      CHECK(shape.grid[1] == launch.grid.y);
      CHECK(shape.grid[2] == launch.grid.z);

      // CTAs that the tiles need, in whole clusters.
      auto const count = [](int value) { return static_cast<std::uint64_t>(value); };
      auto const up = [](std::uint64_t value, std::uint64_t unit) { return ceil_div(value, unit) * unit; };
      std::uint64_t const tiles_m = ceil_div(count(problem.m), count(info.tile_m));
      std::uint64_t const tiles_n = ceil_div(count(problem.n), count(info.tile_n));
      std::uint64_t const ctas = up(tiles_m * count(info.sms), count(info.cluster_m)) *
                                 up(tiles_n, count(info.cluster_n)) * count(problem.batch);
      if (info.scheduler == NVFP4_SCHEDULER_CLC) {
        CHECK(volume(launch.grid) == ctas);  // the hardware hands out what does not fit
      } else {
        CHECK(volume(launch.grid) <= std::min<std::uint64_t>(ctas, 148));
      }
    }
  }
}

TEST_CASE("a launch stays within the SMs that it may occupy, or is refused") {
  recorder::Device const saved = recorder::device();
  for (int kernel = 0; kernel < kAllKernels; ++kernel) {
    KernelInfo const& info = kernels()[static_cast<std::size_t>(kernel)];
    INFO(std::string(info.name));
    if (info.scheduler != NVFP4_SCHEDULER_STATIC) {
      Config config = config_for(kernel, {2048, 4096, 512, 3});
      config.sm_count = 148;
      CHECK_NOTHROW(DualGemm::prepare(config, symbolic_operands(info.weights)));
      config.sm_count = 147;
      CHECK_THROWS_AS(DualGemm::prepare(config, symbolic_operands(info.weights)), Error);
      continue;
    }
    int const cluster = info.cluster_m * info.cluster_n;
    for (int const sms : {cluster, 20, 37, 148}) {
      Config config = config_for(kernel, {2048, 4096, 512, 3});
      config.sm_count = sms;
      auto const launch = launch_of(DualGemm::prepare(config, symbolic_operands(info.weights)));
      CHECK(volume(launch.grid) <= static_cast<std::uint64_t>(sms));
      // Nothing idle where there is work for all.
      CHECK(volume(launch.grid) > static_cast<std::uint64_t>(sms - cluster));
    }
  }
  recorder::device() = saved;
}

TEST_CASE("programmatic launch only where asked for") {
  for (int const programmatic : {0, 1}) {
    for (int kernel = 0; kernel < kAllKernels; ++kernel) {
      KernelInfo const& info = kernels()[static_cast<std::size_t>(kernel)];
      INFO(std::string(info.name));
      Config config = config_for(kernel, {256, 512, 512, 1});
      config.programmatic_launch = programmatic;
      auto const launch = launch_of(DualGemm::prepare(config, symbolic_operands(info.weights)));
      auto const* const attribute = launch.attribute(cudaLaunchAttributeProgrammaticStreamSerialization);
      bool const allowed = attribute != nullptr && attribute->val.programmaticStreamSerializationAllowed == 1;
      CHECK(allowed == (programmatic == 1));
      CHECK(launch.attributes.size() == (programmatic == 1 ? 2u : 1u));
    }
  }
}

TEST_CASE("a failing call becomes an error with its name") {
  struct Failing {
    char const* call;
    nvfp4_status status;
  };
  constexpr Failing kFailing[] = {{"cudaGetDeviceCount", NVFP4_STATUS_CUDA},
                                  {"cudaGetDevice", NVFP4_STATUS_CUDA},
                                  {"cudaDeviceGetAttribute", NVFP4_STATUS_CUDA}};
  for (Failing const& failing : kFailing) {
    INFO(std::string(failing.call));
    recorder::fail(failing.call, cudaErrorInvalidValue);
    try {
      DualGemm::prepare(config_for(0, {256, 512, 512, 1}), symbolic_operands(NVFP4_WEIGHTS_SEPARATE));
      FAIL_CHECK("no error");
    } catch (Error const& error) {
      CHECK(error.status() == failing.status);
      CHECK(std::string(error.what()).find(failing.call) != std::string::npos);
    }
    recorder::fail(failing.call, 0);
  }
  auto const plan = DualGemm::prepare(config_for(0, {256, 512, 512, 1}), symbolic_operands(NVFP4_WEIGHTS_SEPARATE));
  recorder::fail("cudaLaunchKernelExC", cudaErrorInvalidValue);
  CHECK_THROWS_AS(plan.launch(nullptr), Error);
  recorder::fail("cudaLaunchKernelExC", 0);
  recorder::fail("cuTensorMapEncodeTiled", CUDA_ERROR_INVALID_VALUE);
  CHECK_THROWS_AS(DualGemm::prepare(config_for(0, {256, 512, 512, 1}), symbolic_operands(NVFP4_WEIGHTS_SEPARATE)),
                  Error);
  recorder::fail("cuTensorMapEncodeTiled", 0);
}

TEST_CASE("no device, and another architecture, are said to be that") {
  recorder::Device const saved = recorder::device();
  auto const status_of = [] {
    try {
      DualGemm::prepare(config_for(0, {256, 512, 512, 1}), symbolic_operands(NVFP4_WEIGHTS_SEPARATE));
    } catch (Error const& error) {
      return static_cast<int>(error.status());
    }
    return 0;
  };
  CHECK(status_of() == 0);
  recorder::device().compute_capability = 90;
  CHECK(status_of() == NVFP4_STATUS_ARCHITECTURE);
  recorder::device().compute_capability = 103;
  CHECK(status_of() == NVFP4_STATUS_ARCHITECTURE);
  recorder::device() = saved;
  recorder::device().count = 0;
  CHECK(status_of() == NVFP4_STATUS_NO_DEVICE);
  recorder::device() = saved;
}
