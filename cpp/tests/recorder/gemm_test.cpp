// What a GEMM launches: that of a dual GEMM whose columns are its weights' rows, with another parameter.
#include <doctest/doctest.h>

#include <cstring>

#include "expectation.hpp"

namespace {

using namespace nvfp4;
using namespace nvfp4::test;

enum { kWorkspace = kC + 1, kSFC, kBias1, kBias2, kResidual };

// Pretends a device for the kernel.
struct Pretended {
  recorder::Device const saved = recorder::device();
  explicit Pretended(KernelInfo const& info) {
    recorder::device().compute_capability = info.compute_capability;
    recorder::device().sm_count = info.compute_capability == 90 ? 132 : 148;
    recorder::reset();
  }
  ~Pretended() { recorder::device() = saved; }
};

Io io_of(Plan const& plan, int rows) {
  Io io = symbolic_io(rows);
  io.workspace_bytes = plan.workspace_size(rows);
  io.workspace = at(kWorkspace);
  return io;
}

recorder::Launch launch_of(KernelInfo const& info, Plan const& plan, Io const& io) {
  recorder::parameter_bytes() = static_cast<std::size_t>(info.params_bytes);
  plan.launch(io, nullptr);
  return recorder::launches().back();
}

bool has(recorder::Launch const& launch, int operand) {
  std::uintptr_t const address = address_of(operand);
  for (std::size_t place = 0; place + 8 <= launch.parameter.size(); place += 8) {
    if (std::memcmp(launch.parameter.data() + place, &address, 8) == 0) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("a GEMM reads half of N of each weight, rounded up, in as many tiles") {
  for (KernelInfo const& info : kernels()) {
    INFO(std::string(info.name));
    if (info.activations != NVFP4_DATA_TYPE_NVFP4) continue;
    Pretended const device(info);
    for (int const n : {1, 2, 257, 385, 2048}) {
      CAPTURE(n);
      Spec gemm = spec_for(info, {300, n, 992, 2});
      gemm.operation = NVFP4_OPERATION_GEMM;
      Spec dual = gemm;
      dual.operation = NVFP4_OPERATION_DUAL_GEMM;
      dual.n = n / 2 + n % 2;
      struct Recorded {
        std::vector<std::vector<std::uint64_t>> dims, strides;
        std::vector<std::uint64_t> addresses;
        unsigned grid;
        std::size_t workspace;
      };
      auto const record = [&](Spec const& spec) {
        auto const plan = Plan::prepare(spec, symbolic_weights(info.weights));
        auto const launch = launch_of(info, plan, io_of(plan, 300));
        Recorded recorded{{}, {}, {}, launch.grid.x * launch.grid.y * launch.grid.z, plan.workspace_size(300)};
        for (recorder::StampedMap const& place : recorder::find_tensor_maps(launch.parameter)) {
          recorder::TensorMap const& map = recorder::tensor_maps().at(place.index);
          recorded.dims.push_back(map.global_dim);
          recorded.strides.push_back(map.global_strides);
          recorded.addresses.push_back(map.address);
        }
        return recorded;
      };
      Recorded const of_gemm = record(gemm), of_dual = record(dual);
      CHECK(of_gemm.dims.size() >= 4);
      CHECK(of_gemm.dims == of_dual.dims);
      CHECK(of_gemm.strides == of_dual.strides);
      CHECK(of_gemm.addresses == of_dual.addresses);
      CHECK(of_gemm.grid == of_dual.grid);
      CHECK(of_gemm.workspace == of_dual.workspace);
    }
  }
}

TEST_CASE("what is added, and where NVFP4 goes, is in the parameter where it is given") {
  for (KernelInfo const& info : kernels()) {
    INFO(std::string(info.name));
    if (info.activations != NVFP4_DATA_TYPE_NVFP4) continue;
    Pretended const device(info);
    Spec spec = spec_for(info, {300, 512, 992, 2});
    spec.operation = NVFP4_OPERATION_GEMM;
    Weights weights = symbolic_weights(info.weights);
    for (bool const bias : {false, true}) {
      weights.bias1 = bias ? static_cast<float const*>(at(kBias1)) : nullptr;
      weights.bias2 = bias ? static_cast<float const*>(at(kBias2)) : nullptr;
      auto const plan = Plan::prepare(spec, weights);
      Io io = io_of(plan, 300);
      for (bool const residual : {false, true}) {
        io.residual = residual ? at(kResidual) : nullptr;
        auto const launch = launch_of(info, plan, io);
        CHECK(has(launch, kBias1) == bias);
        CHECK(has(launch, kBias2) == bias);
        CHECK(has(launch, kResidual) == residual);
        CHECK(has(launch, kC));
        CHECK_FALSE(has(launch, kSFC));
      }
      io.residual = nullptr;
      io.c.type = NVFP4_DATA_TYPE_NVFP4;
      io.c.scales = at(kSFC);
      io.c.global_scale = 0.5f;
      CHECK(has(launch_of(info, plan, io), kSFC));
    }
  }
}
