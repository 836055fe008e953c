// Every rule once broken, with the words that must name it, and the nearest values that break none.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "validate.hpp"

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

nvfp4::Config valid_config() {
  nvfp4::Config config{};
  config.problem = {100, 200, 96, 3};
  config.kernel = NVFP4_KERNEL_AUTO;
  return config;
}

nvfp4::Operands valid_operands() {
  return {at<void>(0x10000), at<void>(0x20000), at<void>(0x30000),  at<void>(0x50000),
          at<void>(0x60000), at<void>(0x80000), at<void>(0x90000),  1.0f,
          -0.5f,             at<float>(0xf0000), at<float>(0xf0004), nullptr};
}

std::string message(std::function<void()> const& call) {
  try {
    call();
  } catch (nvfp4::Error const& error) {
    CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
    CHECK(error.cuda_error() == 0);
    return error.what();
  }
  return "";
}

std::string with_config(std::function<void(nvfp4::Config&)> const& change) {
  nvfp4::Config config = valid_config();
  change(config);
  return message([&] { nvfp4::validate(config); });
}

std::string with_problem(int m, int n, int k, int batch, nvfp4_weight_format weights = NVFP4_WEIGHTS_SEPARATE,
                         nvfp4_output output = NVFP4_OUTPUT_F16) {
  return with_config([&](nvfp4::Config& config) {
    config.problem = {m, n, k, batch};
    config.weights = weights;
    config.output = output;
  });
}

std::string with_operands(std::function<void(nvfp4::Operands&)> const& change,
                          std::function<void(nvfp4::Config&)> const& configure = [](nvfp4::Config&) {}) {
  nvfp4::Config config = valid_config();
  configure(config);
  nvfp4::Operands operands = valid_operands();
  change(operands);
  return message([&] { nvfp4::detail::validate_operands(config, operands); });
}

}  // namespace

TEST_CASE("validate: sizes") {
  CHECK(with_problem(1, 1, 32, 1) == "");
  CHECK(with_problem(0, 1, 32, 1) == "");
  CHECK(with_problem(-1, 1, 32, 1) == "M = -1 is not in 0..=2147483647");
  CHECK(with_problem(-5, 1, 32, 1) == "M = -5 is not in 0..=2147483647");
  CHECK(with_problem(1, 0, 32, 1) == "N = 0 is not in 1..=2147483647");
  CHECK(with_problem(1, -1, 32, 1) == "N = -1 is not in 1..=2147483647");
  // What bounds N is what the scale factors of it take.
  CHECK(with_problem(1, (1 << 29) - 128, 64, 1) == "");
  CHECK(with_problem(1, 1 << 29, 64, 1) ==
        "b1.scales: 2147483648 bytes a batch (N = 536870912, K = 64), at most 2147483647 can be addressed");
  CHECK(with_problem(1, 1, 0, 1) == "K = 0 is not a positive multiple of 32");
  CHECK(with_problem(1, 1, 16, 1) == "K = 16 is not a positive multiple of 32");
  CHECK(with_problem(1, 1, 48, 1) == "K = 48 is not a positive multiple of 32");
  CHECK(with_problem(1, 1, -32, 1) == "K = -32 is not a positive multiple of 32");
  CHECK(with_problem(1, 1, 32, 0) == "batch = 0 is not in 1..=65535");
  CHECK(with_problem(1, 1, 32, 65535) == "");
  CHECK(with_problem(1, 1, 32, 65536) == "batch = 65536 is not in 1..=65535");
}

TEST_CASE("validate: sizes whose products overflow 32 and 64 bits") {
  // 2^22 atoms of 512 bytes are 2^31.
  CHECK(with_problem((1 << 29) - 128, 1, 64, 1) == "");
  CHECK(with_problem(1 << 29, 1, 64, 1) ==
        "a.scales: 2147483648 bytes a batch (M = 536870912, K = 64), at most 2147483647 can be addressed");
  CHECK(with_problem(1, 1, INT32_MAX - 31, 1).find("a.scales: ") == 0);
  CHECK(with_problem(INT32_MAX, 1, 32, 1).find("a.scales: ") == 0);
  CHECK(with_problem(INT32_MAX, 1, INT32_MAX - 31, 1).find("a.codes: 2305842973780213776 bytes a batch") == 0);
  CHECK(with_problem(1, 1 << 20, 1 << 15, 1).find("b1.scales: 2147483648 bytes a batch (N = 1048576") == 0);
  // The padding of interleaved tiles counts: 96 columns own 256 rows of scale factors.
  CHECK(with_problem(1, 1 << 19, 1 << 15, 1) == "");
  CHECK(with_problem(1, 1 << 19, 1 << 15, 1, NVFP4_WEIGHTS_INTERLEAVED).find("b1.scales: ") == 0);
  CHECK(with_problem((1 << 29) - 128, 4'194'240, 64, 65535).find("c: M = ") == 0);
  CHECK(with_problem((1 << 29) - 128, 4'194'240, 64, 2048, NVFP4_WEIGHTS_SEPARATE, NVFP4_OUTPUT_F16) == "");
  CHECK(with_problem((1 << 29) - 128, 4'194'240, 64, 2048, NVFP4_WEIGHTS_SEPARATE, NVFP4_OUTPUT_F32).find("c: ") == 0);
}

TEST_CASE("validate: configuration") {
  CHECK(with_config([](nvfp4::Config&) {}) == "");
  CHECK(with_config([](auto& c) { c.output = static_cast<nvfp4_output>(3); }) == "output = 3 is not in 0..=2");
  CHECK(with_config([](auto& c) { c.weights = static_cast<nvfp4_weight_format>(2); }) == "weights = 2 is not in 0..=1");
  CHECK(with_config([](auto& c) { c.programmatic_launch = 2; }) == "programmatic_launch = 2 is not in 0..=1");
  CHECK(with_config([](auto& c) { c.sm_count = -1; }) == "sm_count = -1 is not in 0..=2147483647");
  CHECK(with_config([](auto& c) { c.kernel = NVFP4_KERNEL_COUNT; }) == "kernel = 15 is not in -1..=14");
  CHECK(with_config([](auto& c) { c.kernel = -2; }) == "kernel = -2 is not in -1..=14");
  CHECK(with_config([](auto& c) { c.kernel = NVFP4_KERNEL_sm100_interleaved_2sm_256x96_c2x2_static; }) ==
        "kernel = 7 (sm100_interleaved_2sm_256x96_c2x2_static) takes interleaved weights, the operands are separate");
  CHECK(with_config([](auto& c) {
          c.weights = NVFP4_WEIGHTS_INTERLEAVED;
          c.kernel = NVFP4_KERNEL_sm100_stacked_2sm_256x128_c2x1_clc;
        }) == "kernel = 2 (sm100_stacked_2sm_256x128_c2x1_clc) takes separate weights, the operands are interleaved");
}

TEST_CASE("validate: gate") {
  auto const with_gate = [](nvfp4_gate const& gate) { return with_config([&](auto& c) { c.gate = gate; }); };
  CHECK(with_gate({static_cast<nvfp4_gate_kind>(3), 0, 0, 0}) == "gate.kind = 3 is not in 0..=2");
  CHECK(with_gate({NVFP4_GATE_CLAMPED_SWIGLU, 7.0f, 1.702f, 1.0f}) == "");
  CHECK(with_gate({NVFP4_GATE_CLAMPED_SWIGLU, 0.0f, 1.702f, 1.0f}) == "gate.limit = 0 is not > 0 and at most 1e+18");
  CHECK(with_gate({NVFP4_GATE_CLAMPED_SWIGLU, -1.0f, 1.702f, 1.0f}) == "gate.limit = -1 is not > 0 and at most 1e+18");
  CHECK(with_gate({NVFP4_GATE_CLAMPED_SWIGLU, kInf, 1.702f, 1.0f}) == "gate.limit = inf is not > 0 and at most 1e+18");
  CHECK(with_gate({NVFP4_GATE_CLAMPED_SWIGLU, NAN, 1.702f, 1.0f}) == "gate.limit = nan is not > 0 and at most 1e+18");
  CHECK(with_gate({NVFP4_GATE_CLAMPED_SWIGLU, 7.0f, -kInf, 1.0f}) == "gate.alpha = -inf is not between -1e+18 and 1e+18");
  CHECK(with_gate({NVFP4_GATE_CLAMPED_SWIGLU, 7.0f, 1.702f, NAN}) == "gate.beta = nan is not between -1e+18 and 1e+18");
  CHECK(with_gate({NVFP4_GATE_CLAMPED_SWIGLU, 1e18f, -1e18f, 1e18f}) == "");
  CHECK(with_gate({NVFP4_GATE_CLAMPED_SWIGLU, 1.1e18f, 1.0f, 0.0f}) ==
        "gate.limit = 1.1e+18 is not > 0 and at most 1e+18");
  CHECK(with_gate({NVFP4_GATE_CLAMPED_SWIGLU, 7.0f, 1.0f, -1.1e18f}) ==
        "gate.beta = -1.1e+18 is not between -1e+18 and 1e+18");
  // Other gates have no parameters.
  CHECK(with_gate({NVFP4_GATE_SILU, NAN, NAN, NAN}) == "");
  CHECK(with_gate({NVFP4_GATE_GELU_TANH, -1.0f, kInf, NAN}) == "");
}

TEST_CASE("validate: addresses") {
  CHECK(with_operands([](nvfp4::Operands&) {}) == "");
  CHECK(with_operands([](auto& o) { o.a_codes = nullptr; }) == "a.codes: the address is null");
  CHECK(with_operands([](auto& o) { o.a_codes = at<void>(0x10008); }) ==
        "a.codes: address 0x10008 is not a multiple of 16");
  CHECK(with_operands([](auto& o) { o.a_scales = at<void>(0x20001); }) ==
        "a.scales: address 0x20001 is not a multiple of 16");
  CHECK(with_operands([](auto& o) { o.b1_codes = at<void>(0x30004); }) ==
        "b1.codes: address 0x30004 is not a multiple of 16");
  CHECK(with_operands([](auto& o) { o.b1_scales = nullptr; }) == "b1.scales: the address is null");
  CHECK(with_operands([](auto& o) { o.b2_codes = nullptr; }) == "b2.codes: the address is null");
  CHECK(with_operands([](auto& o) { o.b2_scales = at<void>(0x8000f); }) ==
        "b2.scales: address 0x8000f is not a multiple of 16");
  CHECK(with_operands([](auto& o) { o.c = nullptr; }) == "c: the address is null");
  CHECK(with_operands([](auto& o) { o.c = at<void>(0x90001); }) == "c: address 0x90001 is not a multiple of 2");
  CHECK(with_operands([](auto& o) { o.c = at<void>(0x90002); }) == "");
  CHECK(with_operands([](auto& o) { o.c = at<void>(0x90002); }, [](auto& c) { c.output = NVFP4_OUTPUT_F32; }) ==
        "c: address 0x90002 is not a multiple of 4");
  CHECK(with_operands([](auto& o) { o.alpha1_ptr = at<float>(0xf0002); }) ==
        "alpha1_ptr: address 0xf0002 is not a multiple of 4");
  CHECK(with_operands([](auto& o) { o.alpha1_ptr = o.alpha2_ptr = nullptr; }) == "");
  CHECK(with_operands([](auto& o) { o.b2_codes = o.b1_codes; }) == "");
  CHECK(with_operands([](auto& o) { o.c = at<void>(UINTPTR_MAX - 0xff); }) ==
        "c: 120000 bytes from address 0xffffffffffffff00 end beyond the address space");
}

TEST_CASE("validate: buffers without a byte may be anywhere") {
  auto const no_rows = [](nvfp4::Config& config) { config.problem.m = 0; };
  CHECK(with_operands([](nvfp4::Operands&) {}, no_rows) == "");
  CHECK(with_operands([](auto& o) { o.a_codes = o.a_scales = o.c = nullptr; }, no_rows) == "");
  CHECK(with_operands([](auto& o) { o.c = at<void>(0x30001), o.a_codes = at<void>(0x30003); }, no_rows) == "");
  CHECK(with_operands([](auto& o) { o.b2_scales = nullptr; }, no_rows) == "b2.scales: the address is null");
}

TEST_CASE("validate: C is apart from what is read") {
  // C takes 100 * 200 * 3 * 2 = 120000 bytes from 0x90000, up to 0xad4c0.
  CHECK(with_operands([](auto& o) { o.b2_codes = at<void>(0xad4b0); }) == "c overlaps b2.codes");
  CHECK(with_operands([](auto& o) { o.b2_codes = at<void>(0xad4c0); }) == "");
  CHECK(with_operands([](auto& o) { o.a_codes = o.c; }) == "c overlaps a.codes");
  // 100 rows of 48 bytes in 3 batches: 14400 bytes.
  CHECK(with_operands([](auto& o) { o.a_codes = at<void>(0x90000 - 14400); }) == "");
  CHECK(with_operands([](auto& o) { o.a_codes = at<void>(0x90000 - 14400 + 16); }) == "c overlaps a.codes");
  CHECK(with_operands([](auto& o) { o.alpha2_ptr = at<float>(0xad4bc); }) == "c overlaps alpha2_ptr");
}

TEST_CASE("validate: interleaved weights") {
  auto const interleaved = [](nvfp4::Config& config) { config.weights = NVFP4_WEIGHTS_INTERLEAVED; };
  auto const without_b2 = [](nvfp4::Operands& operands) { operands.b2_codes = operands.b2_scales = nullptr; };
  CHECK(with_operands(without_b2, interleaved) == "");
  CHECK(with_operands([](nvfp4::Operands& o) { o.b2_scales = nullptr; }, interleaved) ==
        "b2.codes: must be null, interleaved weights are all in b1");
  CHECK(with_operands([](nvfp4::Operands& o) { o.b2_codes = nullptr; }, interleaved) ==
        "b2.scales: must be null, interleaved weights are all in b1");
  // Their size is that of whole tiles: 3 tiles of 192 rows of 48 bytes in 3 batches are 82944 bytes.
  CHECK(with_operands(
            [&](nvfp4::Operands& o) {
              without_b2(o);
              o.b1_codes = at<void>(0x90000 - 82944 + 16);
            },
            interleaved) == "c overlaps b1.codes");
}

TEST_CASE("validate: alphas") {
  CHECK(with_operands([](auto& o) { o.alpha1 = NAN; }) == "alpha1 = nan is not finite");
  CHECK(with_operands([](auto& o) { o.alpha2 = -kInf; }) == "alpha2 = -inf is not finite");
  CHECK(with_operands([](auto& o) { o.alpha1 = o.alpha2 = 0.0f; }) == "");
}
