// launch() and the shape of what it launches.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>

#include "expectation.hpp"

using namespace nvfp4;
using namespace nvfp4::test;

namespace {

constexpr GemmShape kShapes[] = {{1, 128, 256, 1}, {256, 4096, 7168, 1}, {2048, 4096, 512, 3}, {300, 1000, 992, 2}};

recorder::Launch launch_of(Plan const& plan, int rows) {
  recorder::reset();
  recorder::parameter_bytes() = static_cast<std::size_t>(plan.kernel(rows).params_bytes);
  plan.launch(symbolic_io(rows), nullptr);
  REQUIRE(recorder::launches().size() == 1);
  return recorder::launches().front();
}

// Asked for before main() begins, and before the kernels' own translation units are initialized.
long const named_at_start = std::count_if(kernels().begin(), kernels().end(), [](KernelInfo const& info) {
  return info.name != nullptr && info.threads > 0 && info.params_bytes > 0;
});

std::uint64_t volume(dim3 const& d) { return std::uint64_t{d.x} * d.y * d.z; }

}  // namespace

TEST_CASE("the table of kernels is whole before main() begins") { CHECK(named_at_start == static_cast<long>(kernels().size())); }

TEST_CASE("without rows nothing is encoded and nothing launched") {
  for (KernelInfo const& info : sm100_kernels()) {
    INFO(std::string(info.name));
    auto const plan = prepare(info, {0, 1000, 992, 2});
    recorder::reset();
    plan.launch(symbolic_io(0), nullptr);
    plan.bind(symbolic_io(0)).launch(nullptr);
    CHECK(recorder::tensor_maps().empty());
    CHECK(recorder::launches().empty());
  }
}

TEST_CASE("launch() encodes A, makes one launch and touches nothing else") {
  auto const check = [](Plan const& plan, std::vector<int> const& all_rows) {
    recorder::reset();
    for (int const rows : all_rows) {
      CAPTURE(rows);
      std::size_t const before = recorder::tensor_maps().size();
      plan.launch(symbolic_io(rows), nullptr);
      REQUIRE(recorder::tensor_maps().size() == before + 2);
      CHECK(recorder::tensor_maps()[before].address == address_of(kA));
      CHECK(recorder::tensor_maps()[before + 1].address == address_of(kSFA));
    }
    auto counts = counted_calls();
    int const launches = static_cast<int>(all_rows.size());
    CHECK(counts["cudaLaunchKernelExC"] == launches);
    CHECK(counts["cuTensorMapEncodeTiled"] == 2 * launches);
    // To be on the plan's device, which it is already.
    CHECK(counts["cudaGetDevice"] <= launches);
    for (char const* const known : {"cudaLaunchKernelExC", "cuTensorMapEncodeTiled", "cudaGetDevice"}) {
      counts.erase(known);
    }
    for (auto const& [name, count] : counts) {
      FAIL_CHECK("launch() calls " << name);
    }
  };
  for (KernelInfo const& info : sm100_kernels()) {
    INFO(std::string(info.name));
    check(prepare(info, {300, 1000, 992, 2}), {300, 300});
  }
  Spec any = spec_for(sm100_kernels().front(), {1, 4096, 7168, 1});
  any.kernel = nullptr;
  check(Plan::prepare(any, symbolic_weights(any.weights)), {1, 128, 129, 256, 512, 4096, 100000, 1});
}

TEST_CASE("a plan that is bound encodes nothing at a launch") {
  for (KernelInfo const& info : sm100_kernels()) {
    INFO(std::string(info.name));
    auto const bound = prepare(info, {300, 1000, 992, 2}).bind(symbolic_io(300));
    recorder::reset();
    bound.launch(nullptr);
    bound.launch(nullptr);
    auto counts = counted_calls();
    CHECK(counts["cudaLaunchKernelExC"] == 2);
    CHECK(counts["cudaGetDevice"] <= 2);
    counts.erase("cudaLaunchKernelExC");
    counts.erase("cudaGetDevice");
    CHECK(counts.empty());
  }
}

TEST_CASE("a thread that has no context yet gets one where the driver asks for it") {
  auto const plan = prepare(sm100_kernels().front(), {300, 1000, 992, 2});
  recorder::context() = false;
  recorder::reset();
  plan.launch(symbolic_io(300), nullptr);
  CHECK(recorder::context());
  CHECK(recorder::launches().size() == 1);
  CHECK(counted_calls()["cudaSetDevice"] == 1);
  // Another error of the driver's stays one.
  recorder::fail("cuTensorMapEncodeTiled", CUDA_ERROR_INVALID_VALUE);
  recorder::reset();
  CHECK_THROWS_WITH_AS(plan.launch(symbolic_io(300), nullptr),
                       "cuTensorMapEncodeTiled refused the tensor map of A with CUresult 1", Error);
  CHECK(counted_calls() == std::map<std::string, int>{{"cuTensorMapEncodeTiled", 1}});
  recorder::fail("cuTensorMapEncodeTiled", 0);
}

TEST_CASE("prepare() sets the kernel's shared memory and launches nothing") {
  for (KernelInfo const& info : sm100_kernels()) {
    INFO(std::string(info.name));
    recorder::reset();
    auto const plan = prepare(info, {256, 512, 512, 1});
    CHECK(recorder::launches().empty());
    CHECK(recorder::function_attributes().size() == 1);
    for (recorder::FunctionAttribute const& set : recorder::function_attributes()) {
      CHECK(set.function == std::string("nvfp4_") + info.name);
      CHECK(set.attribute == cudaFuncAttributeMaxDynamicSharedMemorySize);
      CHECK(set.value == info.smem_bytes);
    }
  }
}

TEST_CASE("what launches need of the sizes and the device is found out once") {
  // Of any rows: cudaFuncGetAttributes loads each kernel, and no other call does.
  Spec any = spec_for(sm100_kernels().front(), {1, 4096, 7168, 1});
  any.kernel = nullptr;
  recorder::reset();
  auto const plan = Plan::prepare(any, symbolic_weights(any.weights));
  auto const kernels = static_cast<int>(sm100_kernels().size()) - 1;  // without that of interleaved weights
  CHECK(counted_calls()["cudaFuncGetAttributes"] == kernels);
  CHECK(counted_calls()["cuTensorMapEncodeTiled"] == 4 * kernels);
}

TEST_CASE("the launch is the kernel's, in whole clusters") {
  for (KernelInfo const& info : sm100_kernels()) {
    for (GemmShape const& shape : kShapes) {
      INFO(std::string(info.name));
      CAPTURE(shape.m);
      CAPTURE(shape.n);
      auto const plan = prepare(info, shape);
      auto const launch = launch_of(plan, shape.m);
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
      for (LaunchShape const& told : {plan.launch_shape(shape.m), plan.bind(symbolic_io(shape.m)).launch_shape()}) {
        CHECK(told.grid[0] == launch.grid.x);
        CHECK(told.grid[1] == launch.grid.y);
        CHECK(told.grid[2] == launch.grid.z);
        CHECK(told.block[0] == launch.block.x);
        CHECK(told.cluster[0] == cluster->val.clusterDim.x);
        CHECK(told.smem_bytes == launch.smem_bytes);
      }

      // CTAs that the tiles need, in whole clusters.
      auto const count = [](int value) { return static_cast<std::uint64_t>(value); };
      auto const up = [](std::uint64_t value, std::uint64_t unit) { return ceil_div(value, unit) * unit; };
      std::uint64_t const tiles_m = ceil_div(count(shape.m), count(info.tile_m));
      std::uint64_t const tiles_n = ceil_div(count(shape.n), count(info.tile_n));
      std::uint64_t const ctas = up(tiles_m * count(info.sms), count(info.cluster_m)) *
                                 up(tiles_n, count(info.cluster_n)) * count(shape.batch);
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
  for (KernelInfo const& info : sm100_kernels()) {
    INFO(std::string(info.name));
    if (info.scheduler != NVFP4_SCHEDULER_STATIC) {
      Spec spec = spec_for(info, {2048, 4096, 512, 3});
      spec.sm_count = 148;
      CHECK_NOTHROW(Plan::prepare(spec, symbolic_weights(info.weights)));
      spec.sm_count = 147;
      CHECK_THROWS_AS(Plan::prepare(spec, symbolic_weights(info.weights)), Error);
      continue;
    }
    int const cluster = info.cluster_m * info.cluster_n;
    for (int const sms : {cluster, 20, 37, 148}) {
      Spec spec = spec_for(info, {2048, 4096, 512, 3});
      spec.sm_count = sms;
      auto const launch = launch_of(Plan::prepare(spec, symbolic_weights(info.weights)), 2048);
      CHECK(volume(launch.grid) <= static_cast<std::uint64_t>(sms));
      // Nothing idle where there is work for all.
      CHECK(volume(launch.grid) > static_cast<std::uint64_t>(sms - cluster));
    }
  }
  recorder::device() = saved;
}

TEST_CASE("programmatic launch only where asked for") {
  for (int const programmatic : {0, 1}) {
    for (KernelInfo const& info : sm100_kernels()) {
      INFO(std::string(info.name));
      Spec spec = spec_for(info, {256, 512, 512, 1});
      spec.programmatic_launch = programmatic;
      auto const launch = launch_of(Plan::prepare(spec, symbolic_weights(info.weights)), 256);
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
                                  {"cudaDeviceGetAttribute", NVFP4_STATUS_CUDA},
                                  {"cudaDriverGetVersion", NVFP4_STATUS_CUDA},
                                  {"cudaFuncGetAttributes", NVFP4_STATUS_CUDA}};
  KernelInfo const info = sm100_kernels().front();
  auto const prepared = [&] { return prepare(info, {256, 512, 512, 1}); };
  for (Failing const& failing : kFailing) {
    INFO(std::string(failing.call));
    recorder::fail(failing.call, cudaErrorInvalidValue);
    try {
      prepared();
      FAIL_CHECK("no error");
    } catch (Error const& error) {
      CHECK(error.status() == failing.status);
      CHECK(std::string(error.what()).find(failing.call) != std::string::npos);
    }
    recorder::fail(failing.call, 0);
  }
  auto const plan = prepared();
  recorder::fail("cudaLaunchKernelExC", cudaErrorInvalidValue);
  CHECK_THROWS_AS(plan.launch(symbolic_io(256), nullptr), Error);
  recorder::fail("cudaLaunchKernelExC", 0);
  recorder::fail("cuTensorMapEncodeTiled", CUDA_ERROR_INVALID_VALUE);
  CHECK_THROWS_AS(prepared(), Error);
  CHECK_THROWS_AS(plan.launch(symbolic_io(256), nullptr), Error);
  recorder::fail("cuTensorMapEncodeTiled", 0);
}

TEST_CASE("no device, and another architecture, are said to be that") {
  recorder::Device const saved = recorder::device();
  auto const status_of = [] {
    try {
      prepare(sm100_kernels().front(), {256, 512, 512, 1});
    } catch (Error const& error) {
      return static_cast<int>(error.status());
    }
    return 0;
  };
  CHECK(status_of() == 0);
  recorder::device().compute_capability = 90;
  CHECK(status_of() == NVFP4_STATUS_ARCHITECTURE);
  recorder::device().compute_capability = 103;
  CHECK(status_of() == (sm100_kernels().front().family == 1 ? 0 : NVFP4_STATUS_ARCHITECTURE));
  recorder::device() = saved;
  recorder::device().count = 0;
  CHECK(status_of() == NVFP4_STATUS_NO_DEVICE);
  recorder::device() = saved;
}
