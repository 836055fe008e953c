// Plans, on a fake runtime with fake kernels: which calls are made, in which order of failure, with which words.
#include <doctest/doctest.h>

#include <cstdint>
#include <locale>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fake_cuda.hpp"
#include "fake_instances.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "registry/table.hpp"
#include "select/sm90_tile.hpp"

using fake::cuda;
using nvfp4::BoundPlan;
using nvfp4::Plan;

namespace {

constexpr char const* kTwoAccumulators = "sm100_twoacc_2sm_256x64_c2x2_static";

// A device has been used with a kernel before; plans remember that. Each case that looks takes a device of its own.
int fresh_device() {
  static int device = 100;
  return device++;
}

nvfp4::Spec spec(char const* kernel = nullptr) {
  nvfp4::Spec spec{};
  spec.size = sizeof spec;
  spec.activations = NVFP4_DATA_TYPE_NVFP4;
  spec.n = 4096;
  spec.k = 7168;
  spec.batch = 1;
  spec.kernel = kernel;
  return spec;
}

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

constexpr std::uintptr_t kGiB = std::uintptr_t{1} << 30;
constexpr std::uintptr_t kWorkspace = 10 * kGiB;

nvfp4::Weights weights(nvfp4_weight_format format = NVFP4_WEIGHTS_SEPARATE) {
  nvfp4::Weights weights{};
  weights.size = sizeof weights;
  weights.b1_codes = at<void>(3 * kGiB);
  weights.b1_scales = at<void>(4 * kGiB);
  if (format == NVFP4_WEIGHTS_SEPARATE) {
    weights.b2_codes = at<void>(5 * kGiB);
    weights.b2_scales = at<void>(6 * kGiB);
  }
  return weights;
}

nvfp4::Io io(int rows = 256) {
  nvfp4::Io io{};
  io.size = sizeof io;
  io.rows = rows;
  io.a_codes = at<void>(1 * kGiB);
  io.a_scales = at<void>(2 * kGiB);
  io.c.size = sizeof io.c;
  io.c.data = at<void>(7 * kGiB);
  io.alpha1 = io.alpha2 = 1.0f;
  return io;
}

nvfp4::Io with_workspace(std::uintptr_t address = kWorkspace, int rows = 256) {
  nvfp4::Io all = io(rows);
  all.workspace = at<void>(address);
  all.workspace_bytes = fake::kWorkspaceBytesPerRow * static_cast<std::size_t>(rows);
  return all;
}

// Names of this build's kernels of one architecture.
std::vector<std::string> names(int compute_capability) {
  std::vector<std::string> found;
  for (nvfp4::KernelInfo const& info : nvfp4::kernels()) {
    if (info.compute_capability == compute_capability) found.emplace_back(info.name);
  }
  return found;
}

struct Fresh {
  Fresh() {
    fake::reset();
    fake::encoded() = {};
    fake::set_family(false);
    cuda().current = fresh_device();
  }
};

template <class Call>
nvfp4::Error failure_of(Call const& call) {
  try {
    call();
  } catch (nvfp4::Error const& error) {
    return error;
  }
  return nvfp4::Error(static_cast<nvfp4_status>(0), 0, "nothing failed");
}

nvfp4::Error failure(nvfp4::Spec const& spec) {
  return failure_of([&] { Plan::prepare(spec, weights(spec.weights)); });
}

// Of an invalid argument.
template <class Call>
std::string refusal_of(Call const& call) {
  nvfp4::Error const error = failure_of(call);
  if (static_cast<int>(error.status()) == 0) return "";
  CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
  CHECK(error.cuda_error() == 0);
  return error.what();
}

}  // namespace

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

TEST_CASE_FIXTURE(Fresh, "a plan does not need the memory of its specification") {
  std::string name = kTwoAccumulators;
  nvfp4::Spec named = spec(name.c_str());
  Plan const plan = Plan::prepare(named, weights());
  name.assign(name.size(), 'x');
  CHECK(std::string(plan.kernel(1).name) == kTwoAccumulators);
  CHECK_NOTHROW(plan.launch(io(), nullptr));
  CHECK(fake::encoded().spec.kernel == nullptr);
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

TEST_CASE_FIXTURE(Fresh, "a bad argument is refused before the device is asked") {
  nvfp4::Spec bad = spec();
  bad.k = 48;
  CHECK(failure(bad).status() == NVFP4_STATUS_INVALID_ARGUMENT);
  nvfp4::Weights none = weights();
  none.b1_scales = nullptr;
  CHECK(refusal_of([&] { Plan::prepare(spec(), none); }) == "b1.scales: the address is null");
  CHECK(cuda().calls.empty());
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
