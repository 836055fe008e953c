// Plans on a Hopper: prologues, workspaces and clusters of up to 8.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "fake_cuda.hpp"
#include "fake_instances.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "plan_fixture.hpp"
#include "registry/table.hpp"
#include "select/sm90_tile.hpp"

using fake::cuda;
using nvfp4::Plan;
using namespace plan_fixture;

namespace {

// Of a Hopper.
struct Hopper : Fresh {
  Hopper() {
    cuda().major = 9;
    cuda().sm_count = 132;
  }
};

}  // namespace

TEST_CASE_FIXTURE(Hopper, "a kernel whose single CTA the device refuses is passed over") {
  std::string const refused = Plan::prepare(spec(), weights()).kernel(256).name;
  cuda().current = fresh_device();
  cuda().refused = fake::function(refused);
  Plan const plan = Plan::prepare(spec(), weights());
  CHECK(plan.kernel(256).name != refused);
  CHECK(plan.kernel(256).compute_capability == 90);
  CHECK(cuda().last_error == cudaSuccess);
  nvfp4::Error const named = failure(spec(refused.c_str()));
  CHECK(named.status() == NVFP4_STATUS_CUDA);
  CHECK(named.cuda_error() == cudaErrorInvalidValue);
}

TEST_CASE_FIXTURE(Hopper, "a prologue is launched first, and the kernel may begin under it") {
  for (int const programmatic : {0, 1}) {
    cuda().launches.clear();
    nvfp4::Spec with = spec();
    with.programmatic_launch = programmatic;
    Plan const plan = Plan::prepare(with, weights());
    CHECK(plan.kernel(256).compute_capability == 90);
    CHECK(plan.workspace_size(256) == 256 * fake::kWorkspaceBytesPerRow);
    auto const stream = at<CUstream_st>(0x1230);
    plan.launch(with_workspace(), stream);
    std::string const kernel = fake::encoded().kernel;
    REQUIRE(cuda().launches.size() == 2);
    fake::Launch const& first = cuda().launches[0];
    CHECK(first.function == fake::prologue(kernel));
    CHECK(first.grid.x == 77);
    CHECK(first.block.x == 128);
    CHECK(first.cluster.x == 1);
    CHECK(first.smem_bytes == 0);
    CHECK(first.stream == stream);
    CHECK(first.programmatic == (programmatic == 1));
    CHECK(fake::params_of(first).io.workspace == at<void>(kWorkspace));
    fake::Launch const& second = cuda().launches[1];
    CHECK(second.function == fake::function(kernel));
    CHECK(second.grid.x == 8);
    CHECK(second.cluster.x == 4);
    CHECK(second.smem_bytes == 200000);
    CHECK(second.stream == stream);
    CHECK(second.programmatic);
    CHECK(fake::params_of(second).io.workspace == at<void>(kWorkspace));
    CHECK(plan.launch_shape(256).block[0] == 256);
    CHECK(plan.bind(with_workspace()).launch_shape().block[0] == 256);
  }
}

TEST_CASE_FIXTURE(Hopper, "without its prologue a kernel is not launched") {
  Plan const plan = Plan::prepare(spec(), weights());
  cuda().failures["cudaLaunchKernelExC"] = cudaErrorInvalidValue;
  std::string const name = plan.kernel(256).name;
  CHECK_THROWS_WITH_AS(
      plan.launch(with_workspace(), nullptr),
      ("cudaLaunchKernelExC(prologue of " + name + "): cudaErrorInvalidValue: invalid argument").c_str(),
      nvfp4::Error);
  CHECK(cuda().count("cudaLaunchKernelExC") == 1);
}

TEST_CASE_FIXTURE(Hopper, "a workspace that does not fit is refused by name") {
  Plan const plan = Plan::prepare(spec(), weights());
  std::size_t const bytes = 256 * fake::kWorkspaceBytesPerRow;
  auto const refusal = [&](nvfp4::Io const& io) { return refusal_of([&] { plan.bind(io); }); };
  CHECK(refusal(with_workspace(0)) == "workspace: the address is null, and 256 rows take 65536 bytes");
  CHECK(refusal(io()) == "workspace: the address is null, and 256 rows take 65536 bytes");
  CHECK(refusal(with_workspace(kWorkspace + 64)) == "workspace: address 0x280000040 is not a multiple of 128");
  nvfp4::Io small = with_workspace();
  small.workspace_bytes = 65535;
  CHECK(refusal(small) == "workspace: 65535 bytes, and 256 rows take 65536");
  small.workspace_bytes = 0;
  CHECK(refusal(small) == "workspace: 0 bytes, and 256 rows take 65536");
  small.rows = 0;
  CHECK(refusal(small) == "");
  // What C in NVFP4, a residual and biases add to the operands.
  nvfp4::Spec gemm = spec();
  gemm.operation = NVFP4_OPERATION_GEMM;
  nvfp4::Weights with_bias = weights();
  with_bias.bias1 = at<float>(11 * kGiB);
  with_bias.bias2 = at<float>(12 * kGiB);
  Plan const of_gemm = Plan::prepare(gemm, with_bias);
  auto const gemm_refusal = [&](std::uintptr_t workspace, bool nvfp4) {
    nvfp4::Io all = with_workspace(workspace);
    if (nvfp4) {
      all.c.type = NVFP4_DATA_TYPE_NVFP4;
      all.c.scales = at<void>(13 * kGiB);
      all.c.global_scale = 1.0f;
    } else {
      all.residual = at<void>(14 * kGiB);
    }
    return refusal_of([&] { of_gemm.bind(all); });
  };
  CHECK(gemm_refusal(kWorkspace, false) == "");
  CHECK(gemm_refusal(11 * kGiB, false) == "workspace overlaps bias1");
  CHECK(gemm_refusal(12 * kGiB, false) == "workspace overlaps bias2");
  CHECK(gemm_refusal(13 * kGiB, false) == "");
  CHECK(gemm_refusal(13 * kGiB, true) == "workspace overlaps c.scales");
  CHECK(gemm_refusal(14 * kGiB, true) == "");
  CHECK(gemm_refusal(14 * kGiB, false) == "workspace overlaps residual");
  char const* const operands[] = {"a.codes", "a.scales", "b1.codes", "b1.scales", "b2.codes", "b2.scales", "c"};
  for (std::uintptr_t i = 0; i < 7; ++i) {
    CHECK(refusal(with_workspace((i + 1) * kGiB)) == std::string("workspace overlaps ") + operands[i]);
    // Its last byte is before the operand, or the operand's first.
    CHECK(refusal(with_workspace((i + 1) * kGiB - bytes)) == "");
    CHECK(refusal(with_workspace((i + 1) * kGiB - bytes + 128)) == std::string("workspace overlaps ") + operands[i]);
    // What is beyond those that are needed is not looked at.
    nvfp4::Io wide = with_workspace((i + 1) * kGiB - bytes);
    wide.workspace_bytes = 2 * kGiB;
    CHECK(refusal(wide) == "");
  }
  CHECK(refusal_of([&] { plan.launch(io(), nullptr); }) ==
        "workspace: the address is null, and 256 rows take 65536 bytes");
  plan.launch(with_workspace(), nullptr);
  CHECK(fake::params_of(cuda().launches.back()).io.workspace == at<void>(kWorkspace));
}

TEST_CASE_FIXTURE(Fresh, "one workspace serves two plans") {
  cuda().major = 9;
  cuda().sm_count = 132;
  nvfp4::Spec other_spec = spec();
  other_spec.n = 1024;
  Plan const one = Plan::prepare(spec(), weights());
  Plan const two = Plan::prepare(other_spec, weights());
  nvfp4::Io here = with_workspace(kWorkspace, 256);
  CHECK(here.workspace_bytes >= two.workspace_size(100));
  for (int repeat = 0; repeat < 2; ++repeat) {
    one.launch(here, nullptr);
    nvfp4::Io fewer = here;
    fewer.rows = 100;
    two.launch(fewer, nullptr);
  }
  REQUIRE(cuda().launches.size() == 8);
  for (fake::Launch const& launch : cuda().launches) {
    CHECK(fake::params_of(launch).io.workspace == at<void>(kWorkspace));
  }
}

TEST_CASE_FIXTURE(Hopper, "every size of cluster is asked for; what the device refuses is none") {
  cuda().largest_cluster = 5;
  Plan const plan = Plan::prepare(spec("sm90_widened_128x64_k64_s1"), weights());
  plan.launch(with_workspace(), nullptr);
  CHECK(cuda().count("cudaOccupancyMaxActiveClusters") == 8);
  nvfp4::detail::Residency const& residency = fake::encoded().residency;
  CHECK(residency.sm_count == 132);
  for (int size = 0; size <= 8; ++size) {
    CAPTURE(size);
    CHECK(residency.max_clusters[size] == (size >= 1 && size <= 5 ? 64 : 0));
  }
  CHECK(cuda().last_error == cudaSuccess);
}

TEST_CASE_FIXTURE(Hopper, "the first launch of a plan loads nothing") {
  // Whatever was loaded for other plans.
  for (char const* const kernel : {"sm90_widened_256x64_k64_s1", "sm90_widened_16x64_k128_s2"}) {
    fake::reset_device();
    cuda().launches.clear();
    Plan const plan = Plan::prepare(spec(kernel), weights());
    plan.launch(with_workspace(), nullptr);
    REQUIRE(cuda().launches.size() == 2);
    CHECK(cuda().launches[0].function == fake::prologue(kernel));
    CHECK(cuda().launches[0].loaded);
    CHECK(cuda().launches[1].loaded);
  }
  char const* const kernel = "sm90_widened_128x64_k64_s1";
  cuda().missing = fake::prologue(kernel);
  for (char const* const asked : {kernel, static_cast<char const*>(nullptr)}) {
    nvfp4::Error const error = failure(spec(asked));
    CHECK(error.status() == NVFP4_STATUS_ARCHITECTURE);
    CHECK(std::string(error.what()).find("cudaFuncGetAttributes(the prologue): cudaErrorNoKernelImageForDevice") == 0);
  }
  CHECK(cuda().last_error == cudaSuccess);
}

TEST_CASE_FIXTURE(Hopper, "a plan is made for every shape, whatever clusters the device refuses") {
  for (unsigned largest = 1; largest <= 8; ++largest) {
    cuda().current = fresh_device();
    cuda().largest_cluster = largest;
    for (int const k : {32, 4096, 4128, 7168, 14336, 8 * 4096, 8 * 4096 + 32, 1 << 20}) {
      nvfp4::Spec any = spec();
      any.n = 128;
      any.k = k;
      Plan const plan = Plan::prepare(any, weights());
      for (int const m : {1, 8, 9, 16, 64, 256, 1000}) {
        CAPTURE(largest);
        CAPTURE(m);
        CAPTURE(k);
        nvfp4::Io all = with_workspace(kWorkspace, m);
        REQUIRE_NOTHROW(plan.launch(all, nullptr));
        // As its encoder will ask.
        int const kernel = nvfp4::detail::kernel_index(fake::encoded().kernel);
        nvfp4::detail::KernelRow const& row = nvfp4::detail::kKernelTable[static_cast<std::size_t>(kernel)];
        int const splits = nvfp4::sm90::splits({m, any.n, k, 1}, {row.tile_m, row.tile_n, row.tile_k},
                                               fake::encoded().residency);
        CHECK(splits >= 1);
        CHECK(splits <= static_cast<int>(largest));
      }
    }
  }
}

TEST_CASE_FIXTURE(Hopper, "fewer SMs than the device has are refused") {
  nvfp4::Spec some = spec();
  some.sm_count = 132;
  CHECK_NOTHROW(Plan::prepare(some, weights()));
  some.sm_count = 131;
  nvfp4::Error const any = failure(some);
  CHECK(any.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(std::string(any.what()).find("on 131 of 132 SMs") != std::string::npos);
  some.kernel = "sm90_widened_128x64_k64_s1";
  nvfp4::Error const named = failure(some);
  CHECK(named.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(std::string(named.what()).find("sm_count = 131: kernel sm90_widened_128x64_k64_s1") == 0);
}

TEST_CASE_FIXTURE(Hopper, "interleaved weights have no kernel there, nor has a kernel of another architecture code") {
  nvfp4::Spec interleaved = spec();
  interleaved.weights = NVFP4_WEIGHTS_INTERLEAVED;
  nvfp4::Error const without = failure(interleaved);
  CHECK(without.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(std::string(without.what()).find("9.0 takes interleaved weights") != std::string::npos);
  nvfp4::Error const other = failure(spec("sm100_stacked_1sm_128x128_c1x1_static"));
  CHECK(other.status() == NVFP4_STATUS_ARCHITECTURE);
  CHECK(std::string(other.what()).find("is for compute capability 10.0") != std::string::npos);
}
