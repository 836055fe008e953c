// Plans, on a fake runtime with fake kernels: which calls are made, in which order of failure, with which words.
#include <doctest/doctest.h>

#include <cstdint>
#include <locale>
#include <string>
#include <thread>
#include <vector>

#include "fake_cuda.hpp"
#include "fake_instances.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "sm90/arrangement.hpp"
#include "table.hpp"

using fake::cuda;
using nvfp4::DualGemm;

namespace {

// A device has been used with a kernel before; plans remember that. Each case that looks takes a device of its own.
int fresh_device() {
  static int device = 100;
  return device++;
}

nvfp4::Config config() {
  nvfp4::Config config{};
  config.problem = {256, 4096, 7168, 1};
  config.kernel = NVFP4_KERNEL_AUTO;
  return config;
}

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

nvfp4::Operands operands() {
  constexpr std::uintptr_t kGiB = std::uintptr_t{1} << 30;
  return {at<void>(1 * kGiB), at<void>(2 * kGiB), at<void>(3 * kGiB), at<void>(4 * kGiB), at<void>(5 * kGiB),
          at<void>(6 * kGiB), at<void>(7 * kGiB), 1.0f,               1.0f,               nullptr,
          nullptr,           nullptr};
}

struct Fresh {
  Fresh() {
    fake::reset();
    fake::encoded() = {};
    cuda().current = fresh_device();
  }
};

nvfp4::Error failure(nvfp4::Config const& config, nvfp4::Operands const& with = operands()) {
  try {
    DualGemm::prepare(config, with);
  } catch (nvfp4::Error const& error) {
    return error;
  }
  return nvfp4::Error(static_cast<nvfp4_status>(0), 0, "nothing failed");
}

}  // namespace

TEST_CASE_FIXTURE(Fresh, "prepare picks a kernel, encodes once and launches nothing") {
  int const device = cuda().current;
  DualGemm const plan = DualGemm::prepare(config(), operands());
  CHECK(std::string(plan.kernel().name) == "sm100_twoacc_2sm_256x64_c2x2_static");
  CHECK(plan.device() == device);
  CHECK(plan.workspace_size() == 0);
  CHECK(fake::encoded().count == 1);
  CHECK(fake::encoded().config.kernel == NVFP4_KERNEL_sm100_twoacc_2sm_256x64_c2x2_static);
  CHECK(fake::encoded().residency.sm_count == 148);
  CHECK(fake::encoded().residency.max_clusters[4] == 64);
  CHECK(cuda().smem.at({device, fake::function(NVFP4_KERNEL_sm100_twoacc_2sm_256x64_c2x2_static)}) == 200000);
  CHECK(cuda().occupancy_cluster.x == 2);
  CHECK(cuda().occupancy_cluster.y == 2);
  CHECK(cuda().launches.empty());
}

TEST_CASE_FIXTURE(Fresh, "parameters begin at multiples of 64 bytes, as tensor maps must") {
  // Many at once: a block of malloc's is there by chance now and then.
  std::vector<DualGemm> plans;
  for (int i = 0; i < 16; ++i) {
    plans.push_back(DualGemm::prepare(config(), operands()));
    CHECK(reinterpret_cast<std::uintptr_t>(fake::encoded().params) % 64 == 0);
  }
}

TEST_CASE_FIXTURE(Fresh, "launch is one call with the shape, the cluster and the parameter") {
  DualGemm const plan = DualGemm::prepare(config(), operands());
  std::size_t const calls = cuda().calls.size();
  auto const stream = at<CUstream_st>(0x1230);
  plan.launch(stream);
  REQUIRE(cuda().launches.size() == 1);
  fake::Launch const& launch = cuda().launches[0];
  CHECK(launch.function == fake::function(NVFP4_KERNEL_sm100_twoacc_2sm_256x64_c2x2_static));
  CHECK(launch.grid.x == 8);
  CHECK(launch.grid.y == 2);
  CHECK(launch.grid.z == 1);
  CHECK(launch.block.x == 256);
  CHECK(launch.cluster.x == 2);
  CHECK(launch.cluster.y == 2);
  CHECK(launch.cluster.z == 1);
  CHECK(launch.smem_bytes == 200000);
  CHECK(launch.stream == stream);
  CHECK(launch.params == fake::encoded().params);
  CHECK_FALSE(launch.programmatic);
  // The launch and the question which device is current.
  CHECK(cuda().calls.size() == calls + 2);
  CHECK(fake::encoded().count == 1);
}

TEST_CASE_FIXTURE(Fresh, "programmatic launch is an attribute") {
  nvfp4::Config programmatic = config();
  programmatic.programmatic_launch = 1;
  DualGemm::prepare(programmatic, operands()).launch(nullptr);
  REQUIRE(cuda().launches.size() == 1);
  CHECK(cuda().launches[0].programmatic);
  CHECK(cuda().launches[0].cluster.x == 2);
}

TEST_CASE_FIXTURE(Fresh, "a device is asked for a kernel's clusters once, the kernel is set up for each plan") {
  DualGemm::prepare(config(), operands());
  DualGemm::prepare(config(), operands());
  CHECK(cuda().count("cudaFuncSetAttribute") == 2);
  CHECK(cuda().count("cudaOccupancyMaxActiveClusters") == 1);
  cuda().current = fresh_device();
  DualGemm::prepare(config(), operands());
  CHECK(cuda().count("cudaFuncSetAttribute") == 3);
  CHECK(cuda().count("cudaOccupancyMaxActiveClusters") == 2);
  nvfp4::Config other = config();
  other.kernel = NVFP4_KERNEL_sm100_stacked_1sm_128x128_c1x1_static;
  CHECK(std::string(DualGemm::prepare(other, operands()).kernel().name) == "sm100_stacked_1sm_128x128_c1x1_static");
  CHECK(cuda().count("cudaFuncSetAttribute") == 4);
}

TEST_CASE_FIXTURE(Fresh, "after a reset of the device, as in another context of it, a new plan runs") {
  DualGemm::prepare(config(), operands()).launch(nullptr);
  fake::reset_device();
  DualGemm::prepare(config(), operands()).launch(nullptr);
  CHECK(cuda().launches.size() == 2);
  CHECK(cuda().launches[1].loaded);
}

TEST_CASE_FIXTURE(Fresh, "rebind encodes again, and a refusal changes nothing") {
  DualGemm plan = DualGemm::prepare(config(), operands());
  nvfp4::Operands other = operands();
  other.c = at<void>(std::uintptr_t{9} << 30);
  plan.rebind(other);
  CHECK(fake::encoded().count == 2);
  plan.launch(nullptr);
  CHECK(static_cast<nvfp4::Operands const*>(cuda().launches.back().params)->c == other.c);

  fake::encoded().refuse = true;
  CHECK_THROWS_WITH_AS(plan.rebind(operands()), "refused", nvfp4::Error);
  nvfp4::Operands odd = operands();
  odd.a_codes = at<void>(17);
  CHECK_THROWS_AS(plan.rebind(odd), nvfp4::Error);
  plan.launch(nullptr);
  CHECK(static_cast<nvfp4::Operands const*>(cuda().launches.back().params)->c == other.c);
}

TEST_CASE_FIXTURE(Fresh, "a plan launches on its device and leaves the caller's") {
  int const device = cuda().current;
  DualGemm plan = DualGemm::prepare(config(), operands());
  cuda().current = 3;
  plan.launch(nullptr);
  CHECK(cuda().launches[0].device == device);
  CHECK(cuda().current == 3);
  plan.rebind(operands());
  CHECK(cuda().current == 3);
  cuda().failures["cudaLaunchKernelExC"] = cudaErrorInvalidValue;
  CHECK_THROWS_AS(plan.launch(nullptr), nvfp4::Error);
  CHECK(cuda().current == 3);
}

TEST_CASE_FIXTURE(Fresh, "a moved plan launches") {
  DualGemm first = DualGemm::prepare(config(), operands());
  DualGemm second = std::move(first);
  second.launch(nullptr);
  first = std::move(second);
  first.launch(nullptr);
  CHECK(cuda().launches.size() == 2);
  // NOLINTNEXTLINE(bugprone-use-after-move): refused by name.
  CHECK_THROWS_WITH_AS(second.launch(nullptr), "the plan was moved from", nvfp4::Error);
  CHECK_THROWS_WITH_AS(second.rebind(operands()), "the plan was moved from", nvfp4::Error);
  CHECK(cuda().launches.size() == 2);
}

TEST_CASE_FIXTURE(Fresh, "several threads launch one plan") {
  DualGemm const plan = DualGemm::prepare(config(), operands());
  std::vector<std::thread> threads;
  for (std::uintptr_t i = 0; i < 4; ++i) {
    threads.emplace_back([&plan, i] {
      for (int repeat = 0; repeat < 100; ++repeat) plan.launch(at<CUstream_st>(16 * (i + 1)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(cuda().launches.size() == 400);
  for (fake::Launch const& launch : cuda().launches) {
    CHECK(launch.params == fake::encoded().params);
    CHECK(launch.cluster.x == 2);
  }
}

TEST_CASE_FIXTURE(Fresh, "no driver, no device") {
  cuda().failures["cudaGetDeviceCount"] = cudaErrorInsufficientDriver;
  nvfp4::Error const driver = failure(config());
  CHECK(driver.status() == NVFP4_STATUS_NO_DEVICE);
  CHECK(driver.cuda_error() == cudaErrorInsufficientDriver);
  CHECK(std::string(driver.what()) ==
        "cudaGetDeviceCount: cudaErrorInsufficientDriver: words for another error");
  CHECK(cuda().last_error == cudaSuccess);

  cuda().failures["cudaGetDeviceCount"] = cudaErrorNoDevice;
  CHECK(failure(config()).status() == NVFP4_STATUS_NO_DEVICE);
  cuda().failures.clear();
  cuda().device_count = 0;
  CHECK(failure(config()).status() == NVFP4_STATUS_NO_DEVICE);
}

TEST_CASE_FIXTURE(Fresh, "another architecture") {
  for (auto const& [major, minor] : {std::pair{8, 0}, {10, 3}, {12, 0}}) {
    cuda().major = major;
    cuda().minor = minor;
    nvfp4::Error const error = failure(config());
    CHECK(error.status() == NVFP4_STATUS_ARCHITECTURE);
    CHECK(std::string(error.what()) ==
          "device " + std::to_string(cuda().current) + " (Fake Device) has compute capability " +
              std::to_string(major) + "." + std::to_string(minor) +
              ", and the kernels of this build are for 9.0 (sm_90a), 10.0 (sm_100a) only");
  }
  CHECK(cuda().count("cudaFuncSetAttribute") == 0);
  cuda().major = 10;
  cuda().minor = 0;
  cuda().failures["cudaFuncSetAttribute"] = cudaErrorNoKernelImageForDevice;
  CHECK(failure(config()).status() == NVFP4_STATUS_ARCHITECTURE);
}

TEST_CASE_FIXTURE(Fresh, "a bad argument is refused before the device is asked") {
  nvfp4::Config bad = config();
  bad.problem.k = 48;
  CHECK(failure(bad).status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(cuda().calls.empty());
}

TEST_CASE_FIXTURE(Fresh, "every call that fails is named, and leaves no error behind") {
  for (char const* const call : {"cudaGetDevice", "cudaDeviceGetAttribute", "cudaFuncSetAttribute",
                                 "cudaOccupancyMaxActiveClusters"}) {
    cuda().failures = {{call, cudaErrorInvalidValue}};
    nvfp4::Error const error = failure(config());
    CHECK(error.status() == NVFP4_STATUS_CUDA);
    CHECK(error.cuda_error() == cudaErrorInvalidValue);
    CHECK(std::string(error.what()).find(call) == 0);
    CHECK(std::string(error.what()).find(": cudaErrorInvalidValue: invalid argument") != std::string::npos);
    CHECK(cuda().last_error == cudaSuccess);
  }
  // A failure is not remembered as a kernel that is set up.
  cuda().failures.clear();
  DualGemm const plan = DualGemm::prepare(config(), operands());
  cuda().failures = {{"cudaLaunchKernelExC", cudaErrorInvalidValue}};
  CHECK_THROWS_WITH_AS(
      plan.launch(nullptr),
      "cudaLaunchKernelExC(sm100_twoacc_2sm_256x64_c2x2_static): cudaErrorInvalidValue: invalid argument",
      nvfp4::Error);
  CHECK(cuda().last_error == cudaSuccess);
}

TEST_CASE_FIXTURE(Fresh, "an error of the caller's stays for the caller") {
  cuda().last_error = cudaErrorInvalidValue;
  DualGemm::prepare(config(), operands()).launch(nullptr);
  CHECK(cuda().last_error == cudaErrorInvalidValue);
}

TEST_CASE_FIXTURE(Fresh, "a device without room for one cluster") {
  cuda().max_clusters = 0;
  nvfp4::Error const error = failure(config());
  CHECK(error.status() == NVFP4_STATUS_CUDA);
  CHECK(std::string(error.what()).find("cannot run one cluster of 2x2 blocks") != std::string::npos);
}

TEST_CASE_FIXTURE(Fresh, "SMs that a launch may occupy") {
  nvfp4::Config some = config();
  some.sm_count = 40;
  DualGemm::prepare(some, operands());
  CHECK(fake::encoded().residency.sm_count == 40);

  // Many waves, for which cluster launch control is picked: its grid has every tile, on whatever SM is free.
  cuda().current = fresh_device();
  cuda().max_clusters = 74;
  some.problem = {4096, 18432, 7168, 1};
  some.sm_count = 0;
  CHECK(DualGemm::prepare(some, operands()).kernel().scheduler == NVFP4_SCHEDULER_CLC);
  some.sm_count = 148;
  CHECK(DualGemm::prepare(some, operands()).kernel().scheduler == NVFP4_SCHEDULER_CLC);
  for (int const sms : {147, 40, 1}) {
    some.sm_count = sms;
    CHECK(DualGemm::prepare(some, operands()).kernel().scheduler == NVFP4_SCHEDULER_STATIC);
    CHECK(fake::encoded().residency.sm_count == sms);
  }
  some.kernel = NVFP4_KERNEL_sm100_stacked_2sm_256x128_c2x1_clc;
  some.sm_count = 148;
  CHECK_NOTHROW(DualGemm::prepare(some, operands()));
  some.sm_count = 147;
  nvfp4::Error const clc = failure(some);
  CHECK(clc.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(std::string(clc.what()) ==
        "sm_count = 147: kernel sm100_stacked_2sm_256x128_c2x1_clc runs on any of the 148 SMs of device " +
            std::to_string(cuda().current) + ", only kernels of the static scheduler stay within fewer");

  some.kernel = NVFP4_KERNEL_AUTO;
  some.sm_count = 149;
  nvfp4::Error const error = failure(some);
  CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(std::string(error.what()).find("sm_count = 149") == 0);
}

TEST_CASE_FIXTURE(Fresh, "without rows a plan is made and launches nothing") {
  nvfp4::Config none = config();
  none.problem.m = 0;
  nvfp4::Operands all = operands();
  all.a_codes = all.a_scales = all.c = nullptr;
  for (int kernel = NVFP4_KERNEL_AUTO; kernel < NVFP4_KERNEL_COUNT; ++kernel) {
    CAPTURE(kernel);
    none.kernel = kernel;
    nvfp4::KernelInfo const* const info = kernel < 0 ? nullptr : &nvfp4::kernels()[static_cast<std::size_t>(kernel)];
    bool const interleaved = info != nullptr && info->weights == NVFP4_WEIGHTS_INTERLEAVED;
    none.weights = interleaved ? NVFP4_WEIGHTS_INTERLEAVED : NVFP4_WEIGHTS_SEPARATE;
    nvfp4::Operands here = all;
    if (interleaved) here.b2_codes = here.b2_scales = nullptr;
    cuda().major = info == nullptr ? 10 : info->compute_capability / 10;
    CHECK(nvfp4::workspace_size(none) == 0);
    DualGemm plan = DualGemm::prepare(none, here);
    CHECK(plan.workspace_size() == 0);
    CHECK(plan.launch_shape().grid[0] == 0);
    plan.launch(nullptr);
    plan.rebind(here);
    plan.launch(nullptr);
    // Weights have to be there all the same.
    here.b1_codes = nullptr;
    CHECK_THROWS_WITH_AS(plan.rebind(here), "b1.codes: the address is null", nvfp4::Error);
  }
  CHECK(fake::encoded().count == 0);
  CHECK(cuda().launches.empty());
}

namespace {

// 7,168 for 7168.
struct Grouping : std::numpunct<char> {
  char do_thousands_sep() const override { return ','; }
  std::string do_grouping() const override { return "\3"; }
};

}  // namespace

TEST_CASE_FIXTURE(Fresh, "numbers in messages are the same in every locale") {
  std::locale const before = std::locale::global(std::locale(std::locale::classic(), new Grouping));
  nvfp4::Config bad = config();
  bad.problem.k = 7184;
  std::string const size = failure(bad).what();
  nvfp4::Operands odd = operands();
  odd.c = at<void>(0x12345001);
  std::string const address = failure(config(), odd).what();
  std::locale::global(before);
  CHECK(size == "K = 7184 is not a positive multiple of 32");
  CHECK(address == "c: address 0x12345001 is not a multiple of 2");
}

TEST_CASE_FIXTURE(Fresh, "a device that refuses clusters gets the kernels without") {
  for (unsigned const largest : {1u, 2u, 3u}) {
    cuda().current = fresh_device();
    cuda().largest_cluster = largest;
    for (int const m : {1, 128, 129, 256, 512, 4096, 100000}) {
      for (int const n : {64, 4096, 18432}) {
        CAPTURE(largest);
        CAPTURE(m);
        CAPTURE(n);
        nvfp4::Config any = config();
        any.problem = {m, n, 7168, 1};
        DualGemm const plan = DualGemm::prepare(any, operands());
        CHECK(plan.kernel().cluster_m * plan.kernel().cluster_n <= static_cast<int>(largest));
        // Pairs are still taken where they may be.
        if (largest >= 2 && m >= 256) CHECK(plan.kernel().sms == 2);
      }
    }
    CHECK(cuda().last_error == cudaSuccess);
    // One that is asked for by name has no other to give way to.
    nvfp4::Config four = config();
    four.kernel = NVFP4_KERNEL_sm100_twoacc_2sm_256x64_c2x2_static;
    CHECK(failure(four).cuda_error() == cudaErrorInvalidValue);
  }
}

namespace {

constexpr std::uintptr_t kWorkspace = std::uintptr_t{10} << 30;

// Of a Hopper, with a workspace.
struct Hopper : Fresh {
  Hopper() {
    cuda().major = 9;
    cuda().sm_count = 132;
  }
};

nvfp4::Operands with_workspace(std::uintptr_t address = kWorkspace) {
  nvfp4::Operands all = operands();
  all.workspace = at<void>(address);
  return all;
}

std::string refusal(nvfp4::Operands const& operands) {
  try {
    DualGemm::prepare(config(), operands);
  } catch (nvfp4::Error const& error) {
    CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE_FIXTURE(Hopper, "a prologue is launched first, and the kernel may begin under it") {
  for (int const programmatic : {0, 1}) {
    cuda().launches.clear();
    nvfp4::Config with = config();
    with.programmatic_launch = programmatic;
    DualGemm const plan = DualGemm::prepare(with, with_workspace());
    int const kernel = fake::encoded().config.kernel;
    CHECK(plan.kernel().compute_capability == 90);
    CHECK(plan.workspace_size() == fake::kWorkspaceBytes);
    CHECK(nvfp4::workspace_size(with) == fake::kWorkspaceBytes);
    auto const stream = at<CUstream_st>(0x1230);
    plan.launch(stream);
    REQUIRE(cuda().launches.size() == 2);
    fake::Launch const& first = cuda().launches[0];
    CHECK(first.function == fake::prologue(kernel));
    CHECK(first.grid.x == 77);
    CHECK(first.block.x == 128);
    CHECK(first.cluster.x == 1);
    CHECK(first.smem_bytes == 0);
    CHECK(first.stream == stream);
    CHECK(first.programmatic == (programmatic == 1));
    CHECK(first.params == fake::encoded().prologue_params);
    CHECK(*static_cast<void* const*>(first.params) == at<void>(kWorkspace));
    fake::Launch const& second = cuda().launches[1];
    CHECK(second.function == fake::function(kernel));
    CHECK(second.grid.x == 8);
    CHECK(second.cluster.x == 4);
    CHECK(second.smem_bytes == 200000);
    CHECK(second.stream == stream);
    CHECK(second.programmatic);
    CHECK(second.params == fake::encoded().params);
    CHECK(static_cast<nvfp4::Operands const*>(second.params)->workspace == at<void>(kWorkspace));
  }
}

TEST_CASE_FIXTURE(Hopper, "without its prologue a kernel is not launched") {
  DualGemm const plan = DualGemm::prepare(config(), with_workspace());
  cuda().failures["cudaLaunchKernelExC"] = cudaErrorInvalidValue;
  std::string const name = plan.kernel().name;
  CHECK_THROWS_WITH_AS(
      plan.launch(nullptr),
      ("cudaLaunchKernelExC(prologue of " + name + "): cudaErrorInvalidValue: invalid argument").c_str(),
      nvfp4::Error);
  CHECK(cuda().count("cudaLaunchKernelExC") == 1);
}

TEST_CASE_FIXTURE(Hopper, "a workspace that does not fit is refused by name") {
  CHECK(refusal(with_workspace(0)) == "workspace: the address is null");
  CHECK(refusal(with_workspace(kWorkspace + 64)) == "workspace: address 0x280000040 is not a multiple of 128");
  constexpr std::uintptr_t kGiB = std::uintptr_t{1} << 30;
  char const* const names[] = {"a.codes", "a.scales", "b1.codes", "b1.scales", "b2.codes", "b2.scales", "c"};
  for (std::uintptr_t i = 0; i < 7; ++i) {
    CHECK(refusal(with_workspace((i + 1) * kGiB)) == std::string("workspace overlaps ") + names[i]);
    // Its last byte is before the operand, or the operand's first.
    CHECK(refusal(with_workspace((i + 1) * kGiB - fake::kWorkspaceBytes)) == "");
    CHECK(refusal(with_workspace((i + 1) * kGiB - fake::kWorkspaceBytes + 128)) ==
          std::string("workspace overlaps ") + names[i]);
  }
  DualGemm plan = DualGemm::prepare(config(), with_workspace());
  CHECK_THROWS_WITH_AS(plan.rebind(operands()), "workspace: the address is null", nvfp4::Error);
  plan.launch(nullptr);
  CHECK(static_cast<nvfp4::Operands const*>(cuda().launches.back().params)->workspace == at<void>(kWorkspace));
}

TEST_CASE_FIXTURE(Hopper, "every size of cluster is asked for; what the device refuses is none") {
  cuda().largest_cluster = 5;
  DualGemm::prepare(config(), with_workspace());
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
  for (nvfp4_kernel const kernel :
       {NVFP4_KERNEL_sm90_widened_256x64_k64_s1, NVFP4_KERNEL_sm90_widened_16x64_k128_s2}) {
    fake::reset_device();
    cuda().launches.clear();
    nvfp4::Config named = config();
    named.kernel = kernel;
    DualGemm const plan = DualGemm::prepare(named, with_workspace());
    plan.launch(nullptr);
    REQUIRE(cuda().launches.size() == 2);
    CHECK(cuda().launches[0].function == fake::prologue(kernel));
    CHECK(cuda().launches[0].loaded);
    CHECK(cuda().launches[1].loaded);
  }
  cuda().failures["cudaFuncGetAttributes"] = cudaErrorNoKernelImageForDevice;
  nvfp4::Error const error = failure(config(), with_workspace());
  CHECK(error.status() == NVFP4_STATUS_ARCHITECTURE);
  CHECK(std::string(error.what()).find("cudaFuncGetAttributes(the prologue): cudaErrorNoKernelImageForDevice") == 0);
}

TEST_CASE_FIXTURE(Hopper, "a plan is made for every shape, whatever clusters the device refuses") {
  for (unsigned largest = 1; largest <= 8; ++largest) {
    cuda().current = fresh_device();
    cuda().largest_cluster = largest;
    for (int const m : {1, 8, 9, 16, 64, 256, 1000}) {
      for (int const k : {32, 4096, 4128, 7168, 14336, 8 * 4096, 8 * 4096 + 32, 1 << 20}) {
        CAPTURE(largest);
        CAPTURE(m);
        CAPTURE(k);
        nvfp4::Config any = config();
        any.problem = {m, 128, k, 1};
        REQUIRE_NOTHROW(DualGemm::prepare(any, with_workspace()));
        // As its encoder will ask.
        int const kernel = fake::encoded().config.kernel;
        nvfp4::detail::KernelRow const& row = nvfp4::detail::kKernelTable[static_cast<std::size_t>(kernel)];
        int const splits = nvfp4::sm90::splits(any.problem, {row.tile_m, row.tile_n, row.tile_k},
                                               fake::encoded().residency);
        CHECK(splits >= 1);
        CHECK(splits <= static_cast<int>(largest));
      }
    }
  }
}

TEST_CASE_FIXTURE(Hopper, "fewer SMs than the device has are refused") {
  nvfp4::Config some = config();
  some.sm_count = 132;
  CHECK_NOTHROW(DualGemm::prepare(some, with_workspace()));
  some.sm_count = 131;
  nvfp4::Error const any = failure(some, with_workspace());
  CHECK(any.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(std::string(any.what()).find("on 131 of 132 SMs") != std::string::npos);
  some.kernel = NVFP4_KERNEL_sm90_widened_128x64_k64_s1;
  nvfp4::Error const named = failure(some, with_workspace());
  CHECK(named.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(std::string(named.what()).find("sm_count = 131: kernel sm90_widened_128x64_k64_s1") == 0);
}

TEST_CASE_FIXTURE(Hopper, "interleaved weights have no kernel there, nor has a kernel of another architecture code") {
  nvfp4::Config interleaved = config();
  interleaved.weights = NVFP4_WEIGHTS_INTERLEAVED;
  nvfp4::Operands all = with_workspace();
  all.b2_codes = all.b2_scales = nullptr;
  auto const what = [&](nvfp4::Config const& config, nvfp4::Operands const& operands, nvfp4_status status) {
    try {
      DualGemm::prepare(config, operands);
    } catch (nvfp4::Error const& error) {
      CHECK(error.status() == status);
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(what(interleaved, all, NVFP4_STATUS_INVALID_ARGUMENT).find("9.0 takes interleaved weights") !=
        std::string::npos);
  nvfp4::Config other = config();
  other.kernel = NVFP4_KERNEL_sm100_stacked_1sm_128x128_c1x1_static;
  CHECK(what(other, with_workspace(), NVFP4_STATUS_ARCHITECTURE).find("is for compute capability 10.0") !=
        std::string::npos);
}

TEST_CASE("the table of kernels is that of the instances") {
  auto const table = nvfp4::kernels();
  REQUIRE(table.size() == NVFP4_KERNEL_COUNT);
  CHECK(std::string(table[NVFP4_KERNEL_sm100_interleaved_2sm_256x96_c2x2_static].name) ==
        "sm100_interleaved_2sm_256x96_c2x2_static");
  CHECK(table[NVFP4_KERNEL_sm100_interleaved_2sm_256x96_c2x2_static].weights == NVFP4_WEIGHTS_INTERLEAVED);
  for (nvfp4::KernelInfo const& info : table) {
    bool const hopper = std::string(info.name).find("sm90_") == 0;
    CHECK(info.compute_capability == (hopper ? 90 : 100));
    CHECK((info.cluster_m == 0) == hopper);
    CHECK((info.cluster_n == 0) == hopper);
  }
}
