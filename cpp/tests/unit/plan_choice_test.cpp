// Which kernels a plan takes, by rows, SMs and the clusters that a device has.
#include <doctest/doctest.h>

#include <random>
#include <set>
#include <string>
#include <utility>

#include "fake_cuda.hpp"
#include "fake_instances.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "plan_fixture.hpp"

using fake::cuda;
using nvfp4::Plan;
using namespace plan_fixture;

TEST_CASE_FIXTURE(Fresh, "a plan takes for any number of rows what such a device's selection says") {
  for (bool const hopper : {false, true}) {
    cuda().current = fresh_device();
    cuda().major = hopper ? 9 : 10;
    cuda().sm_count = hopper ? 132 : 148;
    cuda().calls.clear();
    cuda().clusters_of = [](int ctas) {
      // As such devices hold them usually: clusters that do not divide the GPCs leave some SMs out.
      int const sms = cuda().sm_count;
      return static_cast<int>((sms == 132 ? ctas > 2 ? 0.89 : 1.0 : ctas == 4 ? 0.9 : 1.0) * sms / ctas);
    };
    Plan const plan = Plan::prepare(spec(), weights());
    int const loads = cuda().count("cudaFuncGetAttributes");
    int const capability = hopper ? 90 : 100;
    std::mt19937 random(3);
    std::set<std::string> seen;
    for (int i = 0; i < 400; ++i) {
      int const rows = i < 300 ? i : 1 + static_cast<int>(random() % (1u << (random() % 17)));
      CAPTURE(rows);
      char const* const expected =
          nvfp4::select_kernel({rows, 4096, 7168, 1}, NVFP4_OPERATION_DUAL_GEMM, NVFP4_DATA_TYPE_NVFP4,
                               NVFP4_WEIGHTS_SEPARATE, capability, cuda().sm_count);
      REQUIRE(expected != nullptr);
      CHECK(std::string(plan.kernel(rows).name) == expected);
      cuda().launches.clear();
      plan.launch(with_workspace(kWorkspace, rows), nullptr);
      if (rows == 0) {
        CHECK(cuda().launches.empty());
        continue;
      }
      CHECK(cuda().launches.back().function == fake::function(expected));
      // Nothing is left for a launch to load, which may stand in a capture.
      for (fake::Launch const& launch : cuda().launches) CHECK(launch.loaded);
      seen.insert(expected);
    }
    CHECK(seen.size() >= 4);
    CHECK(cuda().count("cudaFuncGetAttributes") == loads);
    CHECK(cuda().count("cudaOccupancyMaxActiveClusters") == (hopper ? 7 * 8 : 7));
  }
}

TEST_CASE_FIXTURE(Fresh, "a device that refuses clusters gets the kernels without") {
  for (unsigned const largest : {1u, 2u, 3u}) {
    cuda().current = fresh_device();
    cuda().largest_cluster = largest;
    for (int const n : {64, 4096, 18432}) {
      nvfp4::Spec any = spec();
      any.n = n;
      Plan const plan = Plan::prepare(any, weights());
      for (int const m : {1, 128, 129, 256, 512, 4096, 100000}) {
        CAPTURE(largest);
        CAPTURE(m);
        CAPTURE(n);
        nvfp4::KernelInfo const& kernel = plan.kernel(m);
        CHECK(kernel.cluster_m * kernel.cluster_n <= static_cast<int>(largest));
        // Pairs are still taken where they may be.
        if (largest >= 2 && m >= 256) CHECK(kernel.sms == 2);
      }
    }
    CHECK(cuda().last_error == cudaSuccess);
    // One that is asked for by name has no other to give way to.
    CHECK(failure(spec(kTwoAccumulators)).cuda_error() == cudaErrorInvalidValue);
  }
}

TEST_CASE_FIXTURE(Fresh, "a device without room for one cluster") {
  cuda().max_clusters = 0;
  nvfp4::Error const error = failure(spec(kTwoAccumulators));
  CHECK(error.status() == NVFP4_STATUS_CUDA);
  CHECK(std::string(error.what()).find("cannot run one cluster of 2x2 blocks") != std::string::npos);
  nvfp4::Error const any = failure(spec());
  CHECK(any.status() == NVFP4_STATUS_CUDA);
  CHECK(std::string(any.what()).find("cannot run one cluster of 2x1 blocks") != std::string::npos);
}

TEST_CASE_FIXTURE(Fresh, "SMs that a launch may occupy") {
  nvfp4::Spec some = spec();
  some.sm_count = 40;
  Plan::prepare(some, weights()).launch(io(), nullptr);
  CHECK(fake::encoded().residency.sm_count == 40);

  // Many waves, for which cluster launch control is picked: its grid has every tile, on whatever SM is free.
  cuda().current = fresh_device();
  cuda().clusters_of = [](int ctas) { return ctas == 4 ? 33 : 148 / ctas; };
  some.n = 18432;
  auto const scheduler = [&] { return Plan::prepare(some, weights()).kernel(4096).scheduler; };
  some.sm_count = 0;
  CHECK(scheduler() == NVFP4_SCHEDULER_CLC);
  some.sm_count = 148;
  CHECK(scheduler() == NVFP4_SCHEDULER_CLC);
  for (int const sms : {147, 40, 1}) {
    some.sm_count = sms;
    Plan const plan = Plan::prepare(some, weights());
    CHECK(plan.kernel(4096).scheduler == NVFP4_SCHEDULER_STATIC);
    nvfp4::Io far = io(4096);
    far.c.data = at<void>(20 * kGiB);
    plan.launch(far, nullptr);
    CHECK(fake::encoded().residency.sm_count == sms);
  }
  some.kernel = "sm100_stacked_2sm_256x128_c2x1_clc";
  some.sm_count = 148;
  CHECK_NOTHROW(Plan::prepare(some, weights()));
  some.sm_count = 147;
  nvfp4::Error const clc = failure(some);
  CHECK(clc.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(std::string(clc.what()) ==
        "sm_count = 147: kernel sm100_stacked_2sm_256x128_c2x1_clc runs on any of the 148 SMs of device " +
            std::to_string(cuda().current) + ", only kernels of the static scheduler stay within fewer");

  some.kernel = nullptr;
  some.sm_count = 149;
  nvfp4::Error const error = failure(some);
  CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(std::string(error.what()).find("sm_count = 149") == 0);
}

TEST_CASE_FIXTURE(Fresh, "activations that no kernel of the device takes are refused by name") {
  for (auto const& [type, name] : {std::pair{NVFP4_DATA_TYPE_F16, "F16"}, {NVFP4_DATA_TYPE_BF16, "BF16"}}) {
    nvfp4::Spec values = spec();
    values.activations = type;
    nvfp4::Error const error = failure(values);
    CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
    CHECK(std::string(error.what()) == "no kernel of this build takes activations in " + std::string(name) +
                                           " on device " + std::to_string(cuda().current) +
                                           " of compute capability 10.0");
    values.kernel = kTwoAccumulators;
    CHECK(std::string(failure(values).what()) == "kernel " + std::string(kTwoAccumulators) +
                                                     " takes activations in NVFP4, those of the plan are in " + name);
  }
  CHECK(cuda().launches.empty());
}
