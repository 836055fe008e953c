// Plans, on a fake runtime with fake kernels: which calls are made, in which order of failure, with which words.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "fake_cuda.hpp"
#include "fake_instances.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"

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
          nullptr};
}

struct Fresh {
  Fresh() {
    fake::reset();
    fake::encoded() = {};
    cuda().current = fresh_device();
  }
};

nvfp4::Error failure(nvfp4::Config const& config) {
  try {
    DualGemm::prepare(config, operands());
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
  CHECK(fake::encoded().sm_count == 148);
  CHECK(fake::encoded().max_clusters == 64);
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

TEST_CASE_FIXTURE(Fresh, "a kernel is set up once for a device") {
  DualGemm::prepare(config(), operands());
  DualGemm::prepare(config(), operands());
  CHECK(cuda().count("cudaFuncSetAttribute") == 1);
  CHECK(cuda().count("cudaOccupancyMaxActiveClusters") == 1);
  cuda().current = fresh_device();
  DualGemm::prepare(config(), operands());
  CHECK(cuda().count("cudaFuncSetAttribute") == 2);
  nvfp4::Config other = config();
  other.kernel = NVFP4_KERNEL_sm100_stacked_1sm_128x128_c1x1_static;
  CHECK(std::string(DualGemm::prepare(other, operands()).kernel().name) == "sm100_stacked_1sm_128x128_c1x1_static");
  CHECK(cuda().count("cudaFuncSetAttribute") == 3);
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
  CHECK(cuda().count("cudaFuncSetAttribute") == 1);
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
  for (auto const& [major, minor] : {std::pair{9, 0}, {10, 3}, {12, 0}}) {
    cuda().major = major;
    cuda().minor = minor;
    nvfp4::Error const error = failure(config());
    CHECK(error.status() == NVFP4_STATUS_ARCHITECTURE);
    CHECK(std::string(error.what()) ==
          "device " + std::to_string(cuda().current) + " (Fake Device) has compute capability " +
              std::to_string(major) + "." + std::to_string(minor) +
              ", and the kernels of this build are for 10.0 (sm_100a) only");
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

TEST_CASE_FIXTURE(Fresh, "SMs to plan for") {
  nvfp4::Config some = config();
  some.sm_count = 40;
  DualGemm::prepare(some, operands());
  CHECK(fake::encoded().sm_count == 40);
  some.sm_count = 149;
  nvfp4::Error const error = failure(some);
  CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(std::string(error.what()).find("sm_count = 149") == 0);
}

TEST_CASE("the table of kernels is that of the instances") {
  auto const table = nvfp4::kernels();
  REQUIRE(table.size() == NVFP4_KERNEL_COUNT);
  CHECK(std::string(table[NVFP4_KERNEL_sm100_interleaved_2sm_256x96_c2x2_static].name) ==
        "sm100_interleaved_2sm_256x96_c2x2_static");
  CHECK(table[NVFP4_KERNEL_sm100_interleaved_2sm_256x96_c2x2_static].weights == NVFP4_WEIGHTS_INTERLEAVED);
}
