// Launches of a plan, bound or not: which calls are made, and with what.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fake_cuda.hpp"
#include "fake_instances.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "plan_fixture.hpp"

using fake::cuda;
using nvfp4::BoundPlan;
using nvfp4::Plan;
using namespace plan_fixture;

TEST_CASE_FIXTURE(Fresh, "parameters begin at multiples of 64 bytes, as tensor maps must") {
  CHECK(alignof(nvfp4::detail::ParamsBytes) == 64);
  CHECK(alignof(nvfp4::detail::Launches) == 64);
  // Many at once: a block of malloc's is there by chance now and then.
  Plan const plan = Plan::prepare(spec(), weights());
  std::vector<BoundPlan> plans;
  for (int i = 0; i < 16; ++i) {
    plans.push_back(plan.bind(io()));
    plans.back().launch(nullptr);
    CHECK(cuda().launches.back().params_address % 64 == 0);
    plan.launch(io(), nullptr);
    CHECK(cuda().launches.back().params_address % 64 == 0);
  }
}

TEST_CASE_FIXTURE(Fresh, "launch is one call with the shape, the cluster and the parameter") {
  Plan const plan = Plan::prepare(spec(), weights());
  auto const stream = at<CUstream_st>(0x1230);
  BoundPlan const bound = plan.bind(io());
  CHECK(fake::encoded().launches == 1);
  for (bool const is_bound : {false, true}) {
    CAPTURE(is_bound);
    cuda().launches.clear();
    std::size_t const calls = cuda().calls.size();
    if (is_bound) {
      bound.launch(stream);
    } else {
      plan.launch(io(), stream);
    }
    REQUIRE(cuda().launches.size() == 1);
    fake::Launch const& launch = cuda().launches[0];
    CHECK(launch.function == fake::function(kTwoAccumulators));
    CHECK(launch.grid.x == 8);
    CHECK(launch.grid.y == 2);
    CHECK(launch.grid.z == 1);
    CHECK(launch.block.x == 256);
    CHECK(launch.cluster.x == 2);
    CHECK(launch.cluster.y == 2);
    CHECK(launch.cluster.z == 1);
    CHECK(launch.smem_bytes == 200000);
    CHECK(launch.stream == stream);
    fake::Params const params = fake::params_of(launch);
    CHECK(params.weights.b2_scales == weights().b2_scales);
    CHECK(params.io.a_codes == io().a_codes);
    CHECK(params.io.c.data == io().c.data);
    CHECK_FALSE(launch.programmatic);
    CHECK(launch.loaded);
    // The launch and the question which device is current.
    CHECK(cuda().calls.size() == calls + 2);
  }
  CHECK(fake::encoded().launches == 2);
  CHECK(fake::encoded().weights == 7);
  nvfp4::LaunchShape const of_plan = plan.launch_shape(256), of_bound = bound.launch_shape();
  for (nvfp4::LaunchShape const& shape : {of_plan, of_bound}) {
    CHECK(shape.grid[0] == 8);
    CHECK(shape.grid[1] == 2);
    CHECK(shape.cluster[1] == 2);
    CHECK(shape.smem_bytes == 200000);
  }
  CHECK(std::string(bound.kernel().name) == kTwoAccumulators);
  CHECK(bound.device() == plan.device());
}

TEST_CASE_FIXTURE(Fresh, "programmatic launch is an attribute") {
  nvfp4::Spec programmatic = spec();
  programmatic.programmatic_launch = 1;
  Plan::prepare(programmatic, weights()).launch(io(), nullptr);
  REQUIRE(cuda().launches.size() == 1);
  CHECK(cuda().launches[0].programmatic);
  CHECK(cuda().launches[0].cluster.x == 2);
}

TEST_CASE_FIXTURE(Fresh, "a launch takes what it is given, and a refusal changes nothing") {
  Plan const plan = Plan::prepare(spec(), weights());
  nvfp4::Io other = io();
  other.c.data = at<void>(9 * kGiB);
  BoundPlan const bound = plan.bind(other);
  CHECK(fake::encoded().launches == 1);
  bound.launch(nullptr);
  CHECK(fake::params_of(cuda().launches.back()).io.c.data == other.c.data);
  plan.launch(io(), nullptr);
  CHECK(fake::params_of(cuda().launches.back()).io.c.data == io().c.data);

  fake::encoded().refuse_io = true;
  CHECK_THROWS_WITH_AS(plan.launch(io(), nullptr), "refused", nvfp4::Error);
  CHECK_THROWS_WITH_AS(plan.bind(io()), "refused", nvfp4::Error);
  nvfp4::Io odd = io();
  odd.a_codes = at<void>(17);
  CHECK_THROWS_AS(plan.launch(odd, nullptr), nvfp4::Error);
  CHECK_THROWS_AS(plan.bind(odd), nvfp4::Error);
  CHECK(cuda().launches.size() == 2);
  bound.launch(nullptr);
  CHECK(fake::params_of(cuda().launches.back()).io.c.data == other.c.data);
  fake::encoded().refuse_weights = true;
  CHECK_THROWS_WITH_AS(Plan::prepare(spec(), weights()), "refused", nvfp4::Error);
}

TEST_CASE_FIXTURE(Fresh, "a plan launches on its device and leaves the caller's") {
  int const device = cuda().current;
  Plan const plan = Plan::prepare(spec(), weights());
  cuda().current = 3;
  plan.launch(io(), nullptr);
  BoundPlan const bound = plan.bind(io());
  bound.launch(nullptr);
  CHECK(cuda().launches[0].device == device);
  CHECK(cuda().launches[1].device == device);
  CHECK(cuda().launches[1].loaded);
  CHECK(cuda().current == 3);
  cuda().failures["cudaLaunchKernelExC"] = cudaErrorInvalidValue;
  CHECK_THROWS_AS(plan.launch(io(), nullptr), nvfp4::Error);
  CHECK(cuda().current == 3);
  CHECK_THROWS_AS(bound.launch(nullptr), nvfp4::Error);
  CHECK(cuda().current == 3);
}

TEST_CASE_FIXTURE(Fresh, "a moved plan launches") {
  Plan first = Plan::prepare(spec(), weights());
  Plan second = std::move(first);
  second.launch(io(), nullptr);
  first = std::move(second);
  BoundPlan bound = first.bind(io());
  BoundPlan other = std::move(bound);
  other.launch(nullptr);
  CHECK(cuda().launches.size() == 2);
  // NOLINTBEGIN(bugprone-use-after-move): refused by name.
  CHECK_THROWS_WITH_AS(second.launch(io(), nullptr), "the plan was moved from", nvfp4::Error);
  CHECK_THROWS_WITH_AS(second.bind(io()), "the plan was moved from", nvfp4::Error);
  CHECK_THROWS_WITH_AS(second.workspace_size(1), "the plan was moved from", nvfp4::Error);
  CHECK_THROWS_WITH_AS(second.kernel(1), "the plan was moved from", nvfp4::Error);
  CHECK_THROWS_WITH_AS(second.launch_shape(1), "the plan was moved from", nvfp4::Error);
  CHECK_THROWS_WITH_AS(bound.launch(nullptr), "the plan was moved from", nvfp4::Error);
  // NOLINTEND(bugprone-use-after-move)
  CHECK(cuda().launches.size() == 2);
}

TEST_CASE_FIXTURE(Fresh, "several threads launch one plan, each its own rows") {
  Plan const plan = Plan::prepare(spec(), weights());
  BoundPlan const bound = plan.bind(io(7));
  std::vector<std::thread> threads;
  for (std::uintptr_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int repeat = 0; repeat < 100; ++repeat) bound.launch(at<CUstream_st>(16 * (i + 1)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(cuda().launches.size() == 400);
  for (fake::Launch const& launch : cuda().launches) {
    CHECK(fake::params_of(launch).io.rows == 7);
    CHECK(launch.cluster.x == 1);
  }
}

TEST_CASE_FIXTURE(Fresh, "without rows a plan launches nothing") {
  nvfp4::Io none = io(0);
  none.a_codes = none.a_scales = none.c.data = nullptr;
  std::vector<char const*> kernels{nullptr};
  for (nvfp4::KernelInfo const& info : nvfp4::kernels()) kernels.push_back(info.name);
  for (char const* const kernel : kernels) {
    CAPTURE(std::string(kernel == nullptr ? "any" : kernel));
    nvfp4::KernelInfo const* const info = kernel == nullptr ? nullptr : nvfp4::find_kernel(kernel);
    nvfp4::Spec here = spec(kernel);
    here.weights = info == nullptr ? NVFP4_WEIGHTS_SEPARATE : info->weights;
    here.activations = info == nullptr ? NVFP4_DATA_TYPE_NVFP4 : info->activations;
    cuda().major = info == nullptr ? 10 : info->compute_capability / 10;
    Plan const plan = Plan::prepare(here, weights(here.weights));
    CHECK(plan.workspace_size(0) == 0);
    CHECK(plan.launch_shape(0).grid[0] == 0);
    // Planned like one row.
    CHECK(&plan.kernel(0) == &plan.kernel(1));
    plan.launch(none, nullptr);
    BoundPlan const bound = plan.bind(none);
    CHECK(bound.launch_shape().grid[0] == 0);
    bound.launch(nullptr);
    // Weights have to be there all the same.
    nvfp4::Weights missing = weights(here.weights);
    missing.b1_codes = nullptr;
    CHECK_THROWS_WITH_AS(Plan::prepare(here, missing), "b1.codes: the address is null", nvfp4::Error);
  }
  CHECK(fake::encoded().launches == 0);
  CHECK(cuda().launches.empty());
}
