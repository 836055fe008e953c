// What preparing a plan asks of the device and keeps.
#include <doctest/doctest.h>

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

TEST_CASE_FIXTURE(Fresh, "prepare loads kernels, encodes the weights of each once and launches nothing") {
  int const device = cuda().current;
  Plan const plan = Plan::prepare(spec(), weights());
  CHECK(std::string(plan.kernel(256).name) == kTwoAccumulators);
  CHECK(plan.device() == device);
  CHECK(plan.workspace_size(256) == 0);
  // All but that of interleaved weights.
  CHECK(fake::encoded().weights == 7);
  CHECK(fake::encoded().launches == 0);
  for (std::string const& name : names(100)) {
    bool const may_run = name.find("interleaved") == std::string::npos;
    CHECK(cuda().loaded.contains({device, fake::function(name)}) == may_run);
    if (may_run) CHECK(cuda().smem.at({device, fake::function(name)}) == 200000);
  }
  for (std::string const& name : names(90)) CHECK_FALSE(cuda().loaded.contains({device, fake::function(name)}));
  CHECK(cuda().launches.empty());
}

TEST_CASE_FIXTURE(Fresh, "a kernel that is asked for by name is the only one that is loaded") {
  int const device = cuda().current;
  Plan const plan = Plan::prepare(spec(kTwoAccumulators), weights());
  CHECK(fake::encoded().weights == 1);
  CHECK(cuda().loaded == std::set<std::pair<int, void const*>>{{device, fake::function(kTwoAccumulators)}});
  CHECK(cuda().occupancy_cluster.x == 2);
  CHECK(cuda().occupancy_cluster.y == 2);
  for (int const rows : {1, 256, 100000}) CHECK(std::string(plan.kernel(rows).name) == kTwoAccumulators);
  plan.launch(io(), nullptr);
  CHECK(fake::encoded().residency.sm_count == 148);
  CHECK(fake::encoded().residency.max_clusters[4] == 64);
}

TEST_CASE_FIXTURE(Fresh, "a device is asked for a kernel's clusters once, the kernel is set up for each plan") {
  Plan::prepare(spec(kTwoAccumulators), weights());
  Plan::prepare(spec(kTwoAccumulators), weights());
  CHECK(cuda().count("cudaFuncSetAttribute") == 2);
  CHECK(cuda().count("cudaFuncGetAttributes") == 2);
  CHECK(cuda().count("cudaOccupancyMaxActiveClusters") == 1);
  cuda().current = fresh_device();
  Plan::prepare(spec(kTwoAccumulators), weights());
  CHECK(cuda().count("cudaFuncSetAttribute") == 3);
  CHECK(cuda().count("cudaOccupancyMaxActiveClusters") == 2);
  char const* const other = "sm100_stacked_1sm_128x128_c1x1_static";
  CHECK(std::string(Plan::prepare(spec(other), weights()).kernel(256).name) == other);
  CHECK(cuda().count("cudaFuncSetAttribute") == 4);
  // Of those that may be chosen, only the new ones.
  Plan::prepare(spec(), weights());
  CHECK(cuda().count("cudaFuncSetAttribute") == 4 + 7);
  CHECK(cuda().count("cudaOccupancyMaxActiveClusters") == 3 + 5);
}

TEST_CASE_FIXTURE(Fresh, "after a reset of the device, as in another context of it, a new plan runs") {
  Plan::prepare(spec(), weights()).launch(io(), nullptr);
  fake::reset_device();
  Plan::prepare(spec(), weights()).launch(io(), nullptr);
  CHECK(cuda().launches.size() == 2);
  CHECK(cuda().launches[1].loaded);
}

TEST_CASE_FIXTURE(Fresh, "a plan does not need the memory of its specification") {
  std::string name = kTwoAccumulators;
  nvfp4::Spec named = spec(name.c_str());
  Plan const plan = Plan::prepare(named, weights());
  name.assign(name.size(), 'x');
  CHECK(std::string(plan.kernel(1).name) == kTwoAccumulators);
  CHECK_NOTHROW(plan.launch(io(), nullptr));
  CHECK(fake::encoded().spec.kernel == nullptr);
}

TEST_CASE_FIXTURE(Fresh, "a GEMM is planned like the dual GEMM over its weights, and gets what it adds") {
  nvfp4::Spec gemm = spec();
  gemm.operation = NVFP4_OPERATION_GEMM;
  gemm.n = 2 * 4096 - 1;
  nvfp4::Weights with_bias = weights();
  with_bias.bias1 = at<float>(11 * kGiB);
  with_bias.bias2 = at<float>(12 * kGiB);
  Plan const plan = Plan::prepare(gemm, with_bias), dual = Plan::prepare(spec(), weights());
  for (int const rows : {1, 100, 256, 4096, 50000}) CHECK(&plan.kernel(rows) == &dual.kernel(rows));
  nvfp4::Io in_place = io();
  in_place.residual = in_place.c.data;
  in_place.c.row_stride = in_place.residual_row_stride = 8200;
  plan.launch(in_place, nullptr);
  REQUIRE(cuda().launches.size() == 1);
  fake::Params const params = fake::params_of(cuda().launches[0]);
  CHECK(params.weights.bias1 == with_bias.bias1);
  CHECK(params.weights.bias2 == with_bias.bias2);
  CHECK(params.io.residual == in_place.c.data);
  CHECK(fake::encoded().spec.operation == NVFP4_OPERATION_GEMM);
  CHECK(fake::encoded().spec.n == 2 * 4096 - 1);
  in_place.c.row_stride = 8191;
  CHECK(refusal_of([&] { plan.launch(in_place, nullptr); }) ==
        "residual is c, and their rows are 8200 and 8191 elements apart");
  CHECK(cuda().launches.size() == 1);
}

TEST_CASE("the table of kernels is that of the instances") {
  auto const table = nvfp4::kernels();
  REQUIRE(table.size() == 25);
  nvfp4::KernelInfo const* const interleaved = nvfp4::find_kernel("sm100_interleaved_2sm_256x96_c2x2_static");
  REQUIRE(interleaved != nullptr);
  CHECK(std::string(interleaved->name) == "sm100_interleaved_2sm_256x96_c2x2_static");
  CHECK(interleaved->weights == NVFP4_WEIGHTS_INTERLEAVED);
  for (nvfp4::KernelInfo const& info : table) {
    bool const hopper = std::string(info.name).find("sm90_") == 0;
    CHECK(info.compute_capability == (hopper ? 90 : 100));
    CHECK((info.cluster_m == 0) == hopper);
    CHECK((info.cluster_n == 0) == hopper);
    CHECK(nvfp4::find_kernel(info.name) == &info);
  }
  for (char const* const unknown : {"", "auto", "sm100_interleaved_2sm_256x96_c2x2", "SM90_widened_8x64_k128_s2"}) {
    CHECK(nvfp4::find_kernel(unknown) == nullptr);
  }
}
