// What a plan refuses, in which order of failure and with which words.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <locale>
#include <string>
#include <utility>

#include "fake_cuda.hpp"
#include "fake_instances.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "plan_fixture.hpp"

using fake::cuda;
using nvfp4::Plan;
using namespace plan_fixture;

TEST_CASE_FIXTURE(Fresh, "rows are refused where they break a rule, and nothing else is") {
  Plan const plan = Plan::prepare(spec(), weights());
  CHECK(refusal_of([&] { plan.launch(io(-1), nullptr); }) == "M = -1 is not in 0..=2147483647");
  CHECK(refusal_of([&] { plan.kernel(-1); }) == "M = -1 is not in 0..=2147483647");
  CHECK(refusal_of([&] { plan.workspace_size(-1); }) == "M = -1 is not in 0..=2147483647");
  CHECK(refusal_of([&] { plan.launch_shape(-1); }) == "M = -1 is not in 0..=2147483647");
  // 112 atoms of 512 bytes for each 128 rows of K = 7168.
  int const most = INT32_MAX / (112 * 512) * 128;
  CHECK(refusal_of([&] { plan.kernel(most); }) == "");
  std::string const beyond = refusal_of([&] { plan.launch(io(most + 1), nullptr); });
  CHECK(beyond == "a.scales: 2147532800 bytes a batch (M = 4793473, K = 7168), at most 2147483647 can be addressed");
  CHECK(cuda().launches.empty());
}

TEST_CASE_FIXTURE(Fresh, "structs of another size are refused by name and numbers, whatever is in them") {
  auto const words = [](char const* what, char const* type, std::size_t size, std::size_t expected) {
    return std::string(what) + ".size = " + std::to_string(size) + ": " + type + " has " + std::to_string(expected) +
           " bytes in this library, the caller was compiled for another version of it";
  };
  Plan const plan = Plan::prepare(spec(), weights());
  for (std::uint32_t const wrong : {0u, 4u, 4096u}) {
    nvfp4::Spec bad_spec = spec();
    bad_spec.size = wrong;
    bad_spec.k = 48;
    CHECK(refusal_of([&] { Plan::prepare(bad_spec, weights()); }) ==
          words("spec", "nvfp4_spec", wrong, sizeof(nvfp4_spec)));
    CHECK(refusal_of([&] { nvfp4::validate(bad_spec); }) == words("spec", "nvfp4_spec", wrong, sizeof(nvfp4_spec)));
    nvfp4::Weights bad_weights = weights();
    bad_weights.size = wrong;
    bad_weights.b1_codes = nullptr;
    CHECK(refusal_of([&] { Plan::prepare(spec(), bad_weights); }) ==
          words("weights", "nvfp4_weights", wrong, sizeof(nvfp4_weights)));
    nvfp4::Io bad_io = io();
    bad_io.size = wrong;
    bad_io.rows = -1;
    CHECK(refusal_of([&] { plan.launch(bad_io, nullptr); }) == words("io", "nvfp4_io", wrong, sizeof(nvfp4_io)));
    CHECK(refusal_of([&] { plan.bind(bad_io); }) == words("io", "nvfp4_io", wrong, sizeof(nvfp4_io)));
    nvfp4::Io bad_c = io(0);
    bad_c.c.size = wrong;
    CHECK(refusal_of([&] { plan.launch(bad_c, nullptr); }) ==
          words("c", "nvfp4_destination", wrong, sizeof(nvfp4_destination)));
  }
  CHECK(cuda().launches.empty());
}

TEST_CASE_FIXTURE(Fresh, "a bad argument is refused before the device is asked") {
  nvfp4::Spec bad = spec();
  bad.k = 48;
  CHECK(failure(bad).status() == NVFP4_STATUS_INVALID_ARGUMENT);
  nvfp4::Weights none = weights();
  none.b1_scales = nullptr;
  CHECK(refusal_of([&] { Plan::prepare(spec(), none); }) == "b1.scales: the address is null");
  CHECK(cuda().calls.empty());
}

TEST_CASE_FIXTURE(Fresh, "no driver, no device") {
  cuda().failures["cudaGetDeviceCount"] = cudaErrorInsufficientDriver;
  nvfp4::Error const driver = failure(spec());
  CHECK(driver.status() == NVFP4_STATUS_NO_DEVICE);
  CHECK(driver.cuda_error() == cudaErrorInsufficientDriver);
  CHECK(std::string(driver.what()) ==
        "cudaGetDeviceCount: cudaErrorInsufficientDriver: words for another error");
  CHECK(cuda().last_error == cudaSuccess);

  cuda().failures["cudaGetDeviceCount"] = cudaErrorNoDevice;
  CHECK(failure(spec()).status() == NVFP4_STATUS_NO_DEVICE);
  cuda().failures.clear();
  cuda().device_count = 0;
  CHECK(failure(spec()).status() == NVFP4_STATUS_NO_DEVICE);
  cuda().device_count = 1;
  cuda().driver_has_encoder = false;
  CHECK(failure(spec()).status() == NVFP4_STATUS_NO_DEVICE);
  CHECK(std::string(failure(spec()).what()).find("the driver has no cuTensorMapEncodeTiled") == 0);
}

TEST_CASE_FIXTURE(Fresh, "another architecture") {
  for (auto const& [major, minor] : {std::pair{8, 0}, {10, 3}, {12, 0}}) {
    cuda().major = major;
    cuda().minor = minor;
    nvfp4::Error const error = failure(spec());
    CHECK(error.status() == NVFP4_STATUS_ARCHITECTURE);
    CHECK(std::string(error.what()) ==
          "device " + std::to_string(cuda().current) + " (Fake Device) has compute capability " +
              std::to_string(major) + "." + std::to_string(minor) +
              ", and the kernels of this build are for 9.0 (sm_90a), 10.0 (sm_100a) only");
  }
  CHECK(cuda().count("cudaFuncSetAttribute") == 0);
  cuda().major = 10;
  cuda().minor = 0;
  for (char const* const call : {"cudaFuncSetAttribute", "cudaFuncGetAttributes"}) {
    cuda().failures = {{call, cudaErrorNoKernelImageForDevice}};
    CHECK(failure(spec()).status() == NVFP4_STATUS_ARCHITECTURE);
  }
}

TEST_CASE_FIXTURE(Fresh, "code for a family runs on its later devices, other code does not") {
  cuda().minor = 3;
  CHECK(failure(spec(kTwoAccumulators)).status() == NVFP4_STATUS_ARCHITECTURE);
  fake::set_family(true);
  Plan const any = Plan::prepare(spec(), weights());
  CHECK(std::string(any.kernel(256).name) == kTwoAccumulators);
  any.launch(io(), nullptr);
  Plan::prepare(spec(kTwoAccumulators), weights()).launch(io(), nullptr);
  CHECK(cuda().launches.size() == 2);
  CHECK(std::string(nvfp4::select_kernel({256, 4096, 7168, 1}, NVFP4_OPERATION_DUAL_GEMM, NVFP4_DATA_TYPE_NVFP4,
                                         NVFP4_WEIGHTS_SEPARATE, 103, 148)) == kTwoAccumulators);
  CHECK(failure(spec("sm90_widened_8x64_k128_s2")).status() == NVFP4_STATUS_ARCHITECTURE);
  // Neither on an earlier one nor on another major one.
  for (auto const& [major, minor] : {std::pair{9, 9}, {11, 0}, {12, 0}}) {
    cuda().major = major;
    cuda().minor = minor;
    nvfp4::Error const error = failure(spec());
    CHECK(error.status() == NVFP4_STATUS_ARCHITECTURE);
    CHECK(std::string(error.what()).find("are for 9.0 (sm_90a), 10.0 and later 10.x (sm_100f) only") !=
          std::string::npos);
  }
  nvfp4::KernelInfo info{};
  info.compute_capability = 103;
  for (int const family : {0, 1}) {
    info.family = family;
    CHECK_FALSE(nvfp4::runs_on(info, 100));
    CHECK(nvfp4::runs_on(info, 103));
    CHECK(nvfp4::runs_on(info, 106) == (family == 1));
    CHECK_FALSE(nvfp4::runs_on(info, 110));
  }
}

TEST_CASE_FIXTURE(Fresh, "every call that fails is named, and leaves no error behind") {
  for (char const* const call : {"cudaGetDevice", "cudaDeviceGetAttribute", "cudaFuncGetAttributes",
                                 "cudaFuncSetAttribute", "cudaOccupancyMaxActiveClusters", "cudaDriverGetVersion"}) {
    cuda().failures = {{call, cudaErrorInvalidValue}};
    nvfp4::Error const error = failure(spec());
    CHECK(error.status() == NVFP4_STATUS_CUDA);
    CHECK(error.cuda_error() == cudaErrorInvalidValue);
    CHECK(std::string(error.what()).find(call) == 0);
    CHECK(std::string(error.what()).find(": cudaErrorInvalidValue: invalid argument") != std::string::npos);
    CHECK(cuda().last_error == cudaSuccess);
  }
  // A failure is not remembered as a kernel that is set up.
  cuda().failures.clear();
  Plan const plan = Plan::prepare(spec(), weights());
  cuda().failures = {{"cudaLaunchKernelExC", cudaErrorInvalidValue}};
  CHECK_THROWS_WITH_AS(
      plan.launch(io(), nullptr),
      "cudaLaunchKernelExC(sm100_twoacc_2sm_256x64_c2x2_static): cudaErrorInvalidValue: invalid argument",
      nvfp4::Error);
  CHECK(cuda().last_error == cudaSuccess);
}

TEST_CASE_FIXTURE(Fresh, "an error of the caller's stays for the caller") {
  cuda().last_error = cudaErrorInvalidValue;
  Plan::prepare(spec(), weights()).launch(io(), nullptr);
  CHECK(cuda().last_error == cudaErrorInvalidValue);
}

namespace {

// 7,168 for 7168.
struct Grouping : std::numpunct<char> {
  char do_thousands_sep() const override { return ','; }
  std::string do_grouping() const override { return "\3"; }
};

}  // namespace

TEST_CASE_FIXTURE(Fresh, "numbers in messages are the same in every locale") {
  Plan const plan = Plan::prepare(spec(), weights());
  std::locale const before = std::locale::global(std::locale(std::locale::classic(), new Grouping));
  nvfp4::Spec bad = spec();
  bad.k = 7184;
  std::string const size = failure(bad).what();
  nvfp4::Io odd = io();
  odd.c.data = at<void>(0x12345001);
  std::string const address = refusal_of([&] { plan.launch(odd, nullptr); });
  std::locale::global(before);
  CHECK(size == "K = 7184 is not a positive multiple of 32");
  CHECK(address == "c: address 0x12345001 is not a multiple of 2");
}
