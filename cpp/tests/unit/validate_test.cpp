// Every rule once broken, with the words that must name it, and the nearest values that break none.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "plan/validate.hpp"

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

nvfp4::Spec valid_spec() {
  nvfp4::Spec spec{};
  spec.size = sizeof spec;
  spec.activations = NVFP4_DATA_TYPE_NVFP4;
  spec.n = 200;
  spec.k = 96;
  spec.batch = 3;
  return spec;
}

// All that is given to a plan and to a launch of it.
struct Operands {
  nvfp4::Weights weights;
  nvfp4::Io io;
};

Operands valid_operands() {
  Operands operands{};
  operands.weights.size = sizeof operands.weights;
  operands.weights.b1_codes = at<void>(0x30000);
  operands.weights.b1_scales = at<void>(0x50000);
  operands.weights.b2_codes = at<void>(0x60000);
  operands.weights.b2_scales = at<void>(0x80000);
  operands.io.size = sizeof operands.io;
  operands.io.rows = 100;
  operands.io.a_codes = at<void>(0x10000);
  operands.io.a_scales = at<void>(0x20000);
  operands.io.c.size = sizeof operands.io.c;
  operands.io.c.data = at<void>(0x90000);
  operands.io.alpha1 = 1.0f;
  operands.io.alpha2 = -0.5f;
  operands.io.factor1 = at<float>(0xf0000);
  operands.io.factor2 = at<float>(0xf0004);
  return operands;
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

std::string with_spec(std::function<void(nvfp4::Spec&)> const& change) {
  nvfp4::Spec spec = valid_spec();
  change(spec);
  return message([&] { nvfp4::validate(spec); });
}

std::string with_operands(std::function<void(Operands&)> const& change,
                          std::function<void(nvfp4::Spec&)> const& specify = [](nvfp4::Spec&) {}) {
  nvfp4::Spec spec = valid_spec();
  specify(spec);
  Operands operands = valid_operands();
  if (spec.operation == NVFP4_OPERATION_GEMM) {
    operands.io.alpha2 = operands.io.alpha1;
    operands.io.factor2 = operands.io.factor1;
  }
  change(operands);
  return message([&] {
    nvfp4::detail::validate_weights(spec, operands.weights);
    nvfp4::detail::validate_io(spec, operands.weights, operands.io);
  });
}

// Far enough apart for any sizes that are refused for something else.
std::string with_sizes(int m, int n, int k, int batch, nvfp4_weight_format weights = NVFP4_WEIGHTS_SEPARATE,
                       nvfp4_data_type type = NVFP4_DATA_TYPE_F16) {
  nvfp4::Spec spec = valid_spec();
  spec.n = n;
  spec.k = k;
  spec.batch = batch;
  spec.weights = weights;
  std::string const of_rows = message([&] { nvfp4::validate(spec, m); });
  if (of_rows != "") return of_rows;
  CHECK(message([&] { nvfp4::validate(spec); }) == "");
  Operands operands = valid_operands();
  auto const far = [](std::uintptr_t i) { return at<void>(i << 58); };
  operands.weights = {sizeof operands.weights, far(1), far(2), far(3), far(4), nullptr, nullptr};
  operands.io.rows = m;
  operands.io.a_codes = far(5);
  operands.io.a_scales = far(6);
  operands.io.c.type = type;
  operands.io.c.data = at<void>(std::uintptr_t{1} << 63);
  if (weights == NVFP4_WEIGHTS_INTERLEAVED) operands.weights.b2_codes = operands.weights.b2_scales = nullptr;
  return message([&] { nvfp4::detail::validate_io(spec, operands.weights, operands.io); });
}

}  // namespace

TEST_CASE("validate: sizes") {
  CHECK(with_sizes(1, 1, 32, 1) == "");
  CHECK(with_sizes(0, 1, 32, 1) == "");
  CHECK(with_sizes(-1, 1, 32, 1) == "M = -1 is not in 0..=2147483647");
  CHECK(with_sizes(-5, 1, 32, 1) == "M = -5 is not in 0..=2147483647");
  CHECK(with_sizes(1, 0, 32, 1) == "N = 0 is not in 1..=2147483647");
  CHECK(with_sizes(1, -1, 32, 1) == "N = -1 is not in 1..=2147483647");
  // What bounds N is what the scale factors of it take.
  CHECK(with_sizes(1, (1 << 29) - 128, 64, 1) == "");
  CHECK(with_sizes(1, 1 << 29, 64, 1) ==
        "b1.scales: 2147483648 bytes a batch (N = 536870912, K = 64), at most 2147483647 can be addressed");
  CHECK(with_sizes(1, 1, 0, 1) == "K = 0 is not a positive multiple of 32");
  CHECK(with_sizes(1, 1, 16, 1) == "K = 16 is not a positive multiple of 32");
  CHECK(with_sizes(1, 1, 48, 1) == "K = 48 is not a positive multiple of 32");
  CHECK(with_sizes(1, 1, -32, 1) == "K = -32 is not a positive multiple of 32");
  CHECK(with_sizes(1, 1, 32, 0) == "batch = 0 is not in 1..=65535");
  CHECK(with_sizes(1, 1, 32, 65535) == "");
  CHECK(with_sizes(1, 1, 32, 65536) == "batch = 65536 is not in 1..=65535");
}

TEST_CASE("validate: sizes whose products overflow 32 and 64 bits") {
  // 2^22 atoms of 512 bytes are 2^31.
  CHECK(with_sizes((1 << 29) - 128, 1, 64, 1) == "");
  CHECK(with_sizes(1 << 29, 1, 64, 1) ==
        "a.scales: 2147483648 bytes a batch (M = 536870912, K = 64), at most 2147483647 can be addressed");
  CHECK(with_sizes(1, 1, INT32_MAX - 31, 1).find("b1.scales: 17179869184 bytes a batch (N = 1, ") == 0);
  CHECK(with_sizes(1 << 15, 1, 1 << 21, 1).find("a.scales: 4294967296 bytes a batch (M = 32768, ") == 0);
  CHECK(with_sizes(INT32_MAX, 1, 32, 1).find("a.scales: ") == 0);
  CHECK(with_sizes(INT32_MAX, 1, 1 << 21, 1).find("a.codes: 2251799812636672 bytes a batch") == 0);
  CHECK(with_sizes(1, 1 << 20, 1 << 15, 1).find("b1.scales: 2147483648 bytes a batch (N = 1048576") == 0);
  // The padding of interleaved tiles counts: 96 columns own 256 rows of scale factors.
  CHECK(with_sizes(1, 1 << 19, 1 << 15, 1) == "");
  CHECK(with_sizes(1, 1 << 19, 1 << 15, 1, NVFP4_WEIGHTS_INTERLEAVED).find("b1.scales: ") == 0);
  CHECK(with_sizes((1 << 29) - 128, 4'194'240, 64, 65535).find("c: M = ") == 0);
  CHECK(with_sizes((1 << 29) - 128, 4'194'240, 64, 2048, NVFP4_WEIGHTS_SEPARATE, NVFP4_DATA_TYPE_F16) == "");
  CHECK(with_sizes((1 << 29) - 128, 4'194'240, 64, 2048, NVFP4_WEIGHTS_SEPARATE, NVFP4_DATA_TYPE_F32).find("c: ") == 0);
}

TEST_CASE("validate: specification") {
  CHECK(with_spec([](nvfp4::Spec&) {}) == "");
  CHECK(with_spec([](auto& s) { s.weights = static_cast<nvfp4_weight_format>(2); }) == "weights = 2 is not in 0..=1");
  CHECK(with_spec([](auto& s) { s.weights = static_cast<nvfp4_weight_format>(-1); }) == "weights = -1 is not in 0..=1");
  CHECK(with_spec([](auto& s) { s.programmatic_launch = 2; }) == "programmatic_launch = 2 is not in 0..=1");
  CHECK(with_spec([](auto& s) { s.programmatic_launch = -1; }) == "programmatic_launch = -1 is not in 0..=1");
  CHECK(with_spec([](auto& s) { s.constant_weights = 1; }) == "");
  CHECK(with_spec([](auto& s) { s.constant_weights = 2; }) == "constant_weights = 2 is not in 0..=1");
  CHECK(with_spec([](auto& s) { s.sm_count = -1; }) == "sm_count = -1 is not in 0..=2147483647");
  std::string names;
  for (nvfp4::KernelInfo const& info : nvfp4::kernels()) names += (names.empty() ? "" : ", ") + std::string(info.name);
  CHECK(names.find("sm100_stacked_2sm_256x128_c2x1_static, ") == 0);
  for (char const* const unknown : {"", "7", "sm90", "sm100_interleaved_2sm_256x96_c2x2_clc"}) {
    CHECK(with_spec([&](auto& s) { s.kernel = unknown; }) ==
          "kernel = \"" + std::string(unknown) + "\": this build, for 90a, 100a, has " + names);
  }
  CHECK(with_spec([](auto& s) { s.kernel = "sm100_interleaved_2sm_256x96_c2x2_static"; }) ==
        "kernel sm100_interleaved_2sm_256x96_c2x2_static takes interleaved weights, those of the plan are separate");
  CHECK(with_spec([](auto& s) {
          s.weights = NVFP4_WEIGHTS_INTERLEAVED;
          s.kernel = "sm100_stacked_2sm_256x128_c2x1_clc";
        }) == "kernel sm100_stacked_2sm_256x128_c2x1_clc takes separate weights, those of the plan are interleaved");
}

TEST_CASE("validate: GLU") {
  auto const with_glu = [](nvfp4_glu const& glu) { return with_spec([&](auto& s) { s.glu = glu; }); };
  CHECK(with_glu({static_cast<nvfp4_glu_kind>(3), 0, 0, 0}) == "glu.kind = 3 is not in 0..=2");
  CHECK(with_glu({static_cast<nvfp4_glu_kind>(-1), 0, 0, 0}) == "glu.kind = -1 is not in 0..=2");
  CHECK(with_glu({NVFP4_GLU_CLAMPED_SWIGLU, 7.0f, 1.702f, 1.0f}) == "");
  CHECK(with_glu({NVFP4_GLU_CLAMPED_SWIGLU, 0.0f, 1.702f, 1.0f}) == "glu.limit = 0 is not > 0 and at most 1e+18");
  CHECK(with_glu({NVFP4_GLU_CLAMPED_SWIGLU, -1.0f, 1.702f, 1.0f}) == "glu.limit = -1 is not > 0 and at most 1e+18");
  CHECK(with_glu({NVFP4_GLU_CLAMPED_SWIGLU, kInf, 1.702f, 1.0f}) == "glu.limit = inf is not > 0 and at most 1e+18");
  CHECK(with_glu({NVFP4_GLU_CLAMPED_SWIGLU, NAN, 1.702f, 1.0f}) == "glu.limit = nan is not > 0 and at most 1e+18");
  CHECK(with_glu({NVFP4_GLU_CLAMPED_SWIGLU, 7.0f, -kInf, 1.0f}) == "glu.slope = -inf is not between -1e+18 and 1e+18");
  CHECK(with_glu({NVFP4_GLU_CLAMPED_SWIGLU, 7.0f, 1.702f, NAN}) == "glu.offset = nan is not between -1e+18 and 1e+18");
  CHECK(with_glu({NVFP4_GLU_CLAMPED_SWIGLU, 1e18f, -1e18f, 1e18f}) == "");
  CHECK(with_glu({NVFP4_GLU_CLAMPED_SWIGLU, 1.1e18f, 1.0f, 0.0f}) ==
        "glu.limit = 1.1e+18 is not > 0 and at most 1e+18");
  CHECK(with_glu({NVFP4_GLU_CLAMPED_SWIGLU, 7.0f, 1.0f, -1.1e18f}) ==
        "glu.offset = -1.1e+18 is not between -1e+18 and 1e+18");
  // Others have no parameters.
  CHECK(with_glu({NVFP4_GLU_SWIGLU, NAN, NAN, NAN}) == "");
  CHECK(with_glu({NVFP4_GLU_GEGLU_TANH, -1.0f, kInf, NAN}) == "");
}

namespace {

// N = 224, so that C may be in NVFP4.
std::string with_nvfp4(std::function<void(Operands&)> const& change,
                       std::function<void(nvfp4::Spec&)> const& specify = [](nvfp4::Spec&) {}) {
  return with_operands(
      [&](Operands& o) {
        o.io.c.type = NVFP4_DATA_TYPE_NVFP4;
        o.io.c.scales = at<void>(0xa0000000);
        o.io.c.global_scale = 0.5f;
        change(o);
      },
      [&](nvfp4::Spec& s) {
        s.n = 224;
        specify(s);
      });
}

void to_gemm(nvfp4::Spec& spec) { spec.operation = NVFP4_OPERATION_GEMM; }

std::string with_gemm(std::function<void(Operands&)> const& change) { return with_operands(change, to_gemm); }

constexpr std::uintptr_t kResidual = 0xb0000000;

}  // namespace

TEST_CASE("validate: destination") {
  CHECK(with_operands([](auto& o) { o.io.c.type = static_cast<nvfp4_data_type>(4); }) == "c.type = 4 is not in 0..=3");
  CHECK(with_operands([](auto& o) { o.io.c.type = static_cast<nvfp4_data_type>(-1); }) ==
        "c.type = -1 is not in 0..=3");
  // What is of NVFP4 alone.
  CHECK(with_operands([](auto& o) { o.io.c.scales = at<void>(0xa0000000); }) ==
        "c.scales: must be null, C is in F16");
  for (float const scale : {1.0f, -1.0f, kInf}) {
    CHECK(with_operands([&](auto& o) { o.io.c.global_scale = scale; }).find("c.global_scale = ") == 0);
  }
  CHECK(with_operands([](auto& o) { o.io.c.global_scale = 0.5f; }) == "c.global_scale = 0.5: must be 0, C is in F16");
  CHECK(with_operands([](auto& o) {
          o.io.c.type = NVFP4_DATA_TYPE_F32;
          o.io.c.global_scale = NAN;
        }) == "c.global_scale = nan: must be 0, C is in F32");
  CHECK(with_operands([](auto& o) {
          o.io.c.type = NVFP4_DATA_TYPE_BF16;
          o.io.c.round_first = NVFP4_ROUND_FIRST_BF16;
        }) == "c.round_first = 2: must be 0, C is in BF16");
}

TEST_CASE("validate: C in NVFP4") {
  CHECK(with_nvfp4([](Operands&) {}) == "");
  CHECK(with_nvfp4([](Operands&) {}, to_gemm) == "");
  for (int const n : {1, 200, 208, 223}) {
    CHECK(with_nvfp4([](Operands&) {}, [&](nvfp4::Spec& s) { s.n = n; }) ==
          "N = " + std::to_string(n) + " is not a multiple of 32, which C in NVFP4 needs");
  }
  CHECK(with_nvfp4([](auto& o) { o.io.c.scales = nullptr; }) == "c.scales: the address is null");
  CHECK(with_nvfp4([](auto& o) { o.io.c.scales = at<void>(0xa0000008); }) ==
        "c.scales: address 0xa0000008 is not a multiple of 16");
  CHECK(with_nvfp4([](auto& o) { o.io.c.data = at<void>(0x90008); }) == "c: address 0x90008 is not a multiple of 16");
  for (auto const& [scale, words] : {std::pair{0.0f, "0"}, {-1.0f, "-1"}, {kInf, "inf"}, {NAN, "nan"}, {1e-40f, "1e-40"}}) {
    std::string const refusal = with_nvfp4([&](auto& o) { o.io.c.global_scale = scale; });
    if (scale == 1e-40f) {
      CHECK(refusal.find("is not a normal number > 0") != std::string::npos);
    } else {
      CHECK(refusal == "c.global_scale = " + std::string(words) + " is not a normal number > 0");
    }
  }
  CHECK(with_nvfp4([](auto& o) { o.io.c.global_scale = std::numeric_limits<float>::min(); }) == "");
  CHECK(with_nvfp4([](auto& o) { o.io.c.round_first = NVFP4_ROUND_FIRST_BF16; }) == "");
  CHECK(with_nvfp4([](auto& o) { o.io.c.round_first = static_cast<nvfp4_round_first>(3); }) ==
        "c.round_first = 3 is not in 0..=2");
  CHECK(with_nvfp4([](auto& o) { o.io.c.row_stride = 224; }) ==
        "c.row_stride = 224: must be 0, rows of C in NVFP4 are contiguous");
  // 100 rows of 112 bytes in 3 batches: 33600 bytes of codes; 4 atoms a batch: 6144 bytes of scale factors.
  CHECK(with_nvfp4([](auto& o) { o.io.c.data = at<void>(0x30000 - 33600); }) == "");
  CHECK(with_nvfp4([](auto& o) { o.io.c.data = at<void>(0x30000 - 33600 + 16); }) == "c overlaps b1.codes");
  CHECK(with_nvfp4([](auto& o) { o.io.c.scales = at<void>(0x30000 - 6144); }) == "");
  CHECK(with_nvfp4([](auto& o) { o.io.c.scales = at<void>(0x30000 - 6144 + 16); }) == "c.scales overlaps b1.codes");
  CHECK(with_nvfp4([](auto& o) { o.io.c.scales = o.io.c.data; }) == "c overlaps c.scales");
  CHECK(with_nvfp4([](auto& o) { o.io.factor2 = at<float>(0xa0000000 + 6140); }) == "c.scales overlaps factor2");
  CHECK(with_nvfp4([](auto& o) { o.io.residual = at<void>(kResidual); }, to_gemm) ==
        "residual: must be null, C is in NVFP4");
  // Without rows neither has a byte.
  CHECK(with_nvfp4([](auto& o) {
          o.io.rows = 0;
          o.io.c.data = o.io.c.scales = nullptr;
        }) == "");
}

TEST_CASE("validate: operation and activations") {
  CHECK(with_spec([](auto& s) { s.operation = NVFP4_OPERATION_GEMM; }) == "");
  CHECK(with_spec([](auto& s) { s.operation = static_cast<nvfp4_operation>(2); }) == "operation = 2 is not in 0..=1");
  CHECK(with_spec([](auto& s) { s.operation = static_cast<nvfp4_operation>(-1); }) == "operation = -1 is not in 0..=1");
  // Of a GEMM the GLU is not looked at.
  CHECK(with_spec([](auto& s) {
          s.operation = NVFP4_OPERATION_GEMM;
          s.glu = {static_cast<nvfp4_glu_kind>(77), NAN, NAN, NAN};
        }) == "");
  CHECK(with_spec([](auto& s) { s.activations = NVFP4_DATA_TYPE_F16; }) == "");
  CHECK(with_spec([](auto& s) { s.activations = NVFP4_DATA_TYPE_BF16; }) == "");
  CHECK(with_spec([](auto& s) { s.activations = NVFP4_DATA_TYPE_F32; }) ==
        "activations = 2 (F32) are none of F16, BF16 and NVFP4");
  CHECK(with_spec([](auto& s) { s.activations = static_cast<nvfp4_data_type>(4); }) ==
        "activations = 4 is not in 0..=3");
  CHECK(with_spec([](auto& s) {
          s.kernel = "sm100_stacked_2sm_256x128_c2x1_clc";
          s.activations = NVFP4_DATA_TYPE_BF16;
        }) == "kernel sm100_stacked_2sm_256x128_c2x1_clc takes activations in NVFP4, those of the plan are in BF16");
}

TEST_CASE("validate: weights of a GEMM have half of N as rows, rounded up") {
  CHECK(nvfp4::weight_rows(NVFP4_OPERATION_DUAL_GEMM, 201) == 201);
  CHECK(nvfp4::weight_rows(NVFP4_OPERATION_GEMM, 201) == 101);
  CHECK(nvfp4::weight_rows(NVFP4_OPERATION_GEMM, 200) == 100);
  CHECK(nvfp4::weight_rows(NVFP4_OPERATION_GEMM, 1) == 1);
  CHECK(nvfp4::weight_rows(NVFP4_OPERATION_GEMM, INT32_MAX) == 1 << 30);
  auto const gemm = [](int n) {
    return with_spec([&](auto& s) { s.operation = NVFP4_OPERATION_GEMM, s.n = n, s.k = 64; });
  };
  CHECK(gemm((1 << 30) - 256) == "");
  CHECK(gemm(1 << 30) ==
        "b1.scales: 2147483648 bytes a batch (rows = 536870912, K = 64), at most 2147483647 can be addressed");
  // 100 rows of 48 bytes in 3 batches: 14400 bytes.
  CHECK(with_gemm([](auto& o) { o.weights.b1_codes = at<void>(0x90000 - 14400); }) == "");
  CHECK(with_gemm([](auto& o) { o.weights.b1_codes = at<void>(0x90000 - 14400 + 16); }) == "c overlaps b1.codes");
}

TEST_CASE("validate: biases") {
  auto const with_bias = [](std::uintptr_t first, std::uintptr_t second) {
    return [=](Operands& o) {
      o.weights.bias1 = at<float>(first);
      o.weights.bias2 = at<float>(second);
    };
  };
  CHECK(with_operands(with_bias(0x200004, 0x20000c)) == "");
  CHECK(with_operands(with_bias(0, 0x200000)) ==
        "bias1: the address is null, and bias2 is given: both or none are");
  CHECK(with_operands(with_bias(0x200000, 0)) ==
        "bias2: the address is null, and bias1 is given: both or none are");
  CHECK(with_operands(with_bias(0x200002, 0x200000)) == "bias1: address 0x200002 is not a multiple of 4");
  CHECK(with_operands(with_bias(0x200000, 0x200001)) == "bias2: address 0x200001 is not a multiple of 4");
  // 200 floats in 3 batches: 2400 bytes; of a GEMM 100 each, and of N = 201 101 and 100.
  CHECK(with_operands(with_bias(0x90000 - 2400, 0x200000)) == "");
  CHECK(with_operands(with_bias(0x90000 - 2396, 0x200000)) == "c overlaps bias1");
  CHECK(with_gemm(with_bias(0x200000, 0x90000 - 1200)) == "");
  CHECK(with_gemm(with_bias(0x200000, 0x90000 - 1196)) == "c overlaps bias2");
  auto const odd = [](nvfp4::Spec& s) { s.operation = NVFP4_OPERATION_GEMM, s.n = 201; };
  CHECK(with_operands(with_bias(0x90000 - 1212, 0x90000 - 1200), odd) == "");
  CHECK(with_operands(with_bias(0x90000 - 1208, 0x90000 - 1200), odd) == "c overlaps bias1");
  // Of a single column there is no second bias.
  auto const single = [](nvfp4::Spec& s) { s.operation = NVFP4_OPERATION_GEMM, s.n = 1; };
  CHECK(with_operands(with_bias(0x200000, 0), single) == "");
  CHECK(with_operands(with_bias(0, 0x200000), single) ==
        "bias1: the address is null, and bias2 is given: both or none are");
}

TEST_CASE("validate: rows of C that are apart") {
  CHECK(with_operands([](auto& o) { o.io.c.row_stride = 200; }) == "");
  CHECK(with_operands([](auto& o) { o.io.c.row_stride = 333; }) == "");
  CHECK(with_operands([](auto& o) { o.io.c.row_stride = 199; }) ==
        "c.row_stride = 199 is neither 0 nor at least N = 200");
  CHECK(with_operands([](auto& o) { o.io.c.row_stride = -200; }) ==
        "c.row_stride = -200 is neither 0 nor at least N = 200");
  // 299 strides of 300 elements and 200: 179800 bytes from 0x90000 on.
  CHECK(with_operands([](auto& o) { o.io.c.row_stride = 300, o.io.factor1 = at<float>(0x90000 + 179800); }) == "");
  CHECK(with_operands([](auto& o) { o.io.c.row_stride = 300, o.io.factor1 = at<float>(0x90000 + 179796); }) ==
        "c overlaps factor1");
  CHECK(with_operands([](auto& o) { o.io.c.row_stride = INT64_MAX; }) ==
        "c: M = 100, N = 200, batch = 3, row stride = 9223372036854775807 take more than 9223372036854775807 bytes");
  CHECK(with_operands([](auto& o) {
          o.io.rows = 1;
          o.io.c.row_stride = INT64_MAX;
        }, [](nvfp4::Spec& s) { s.batch = 1; }) == "");
}

TEST_CASE("validate: residual") {
  auto const with_residual = [](std::uintptr_t address, std::int64_t stride = 0, std::int64_t stride_of_c = 0) {
    return [=](Operands& o) {
      o.io.residual = at<void>(address);
      o.io.residual_row_stride = stride;
      o.io.c.row_stride = stride_of_c;
    };
  };
  CHECK(with_gemm(with_residual(kResidual)) == "");
  CHECK(with_operands(with_residual(kResidual)) == "residual: must be null, a dual GEMM adds none");
  CHECK(with_gemm(with_residual(0, 200)) == "residual_row_stride = 200: must be 0, there is no residual");
  CHECK(with_gemm(with_residual(kResidual + 1)) == "residual: address 0xb0000001 is not a multiple of 2");
  CHECK(with_gemm(with_residual(kResidual, 199)) == "residual_row_stride = 199 is neither 0 nor at least N = 200");
  CHECK(with_gemm(with_residual(kResidual, INT64_MAX)).find("residual: M = 100, N = 200") == 0);
  // C itself, however its rows are given.
  CHECK(with_gemm(with_residual(0x90000)) == "");
  CHECK(with_gemm(with_residual(0x90000, 200, 0)) == "");
  CHECK(with_gemm(with_residual(0x90000, 0, 200)) == "");
  CHECK(with_gemm(with_residual(0x90000, 256, 256)) == "");
  CHECK(with_gemm(with_residual(0x90000, 0, 256)) == "residual is c, and their rows are 200 and 256 elements apart");
  CHECK(with_gemm(with_residual(0x90000, 256, 0)) == "residual is c, and their rows are 256 and 200 elements apart");
  auto const one_row = [&](std::int64_t stride) {
    return with_operands(
        [&](Operands& o) {
          with_residual(0x90000, stride)(o);
          o.io.rows = 1;
        },
        [](nvfp4::Spec& s) { s.operation = NVFP4_OPERATION_GEMM, s.batch = 1; });
  };
  CHECK(one_row(333) == "");
  // Parts of C.
  CHECK(with_gemm(with_residual(0x90000 + 400)) == "c overlaps residual");
  CHECK(with_gemm(with_residual(0x90000 - 2)) == "c overlaps residual");
  CHECK(with_gemm(with_residual(0x90000 + 120000)) == "");
  CHECK(with_gemm(with_residual(0x90000 - 120000)) == "");
  CHECK(with_gemm(with_residual(0x90000 - 119998)) == "c overlaps residual");
  // Other columns of the same matrix.
  CHECK(with_gemm(with_residual(0x90000 + 400, 400, 400)) == "");
  CHECK(with_gemm(with_residual(0x90000 - 400, 400, 400)) == "");
  CHECK(with_gemm(with_residual(0x90000 + 398, 400, 400)) == "c overlaps residual");
  CHECK(with_gemm(with_residual(0x90000 + 402, 400, 400)) == "c overlaps residual");
  CHECK(with_gemm(with_residual(0x90000 + 402, 401, 401)) == "");
  CHECK(with_gemm(with_residual(0x90000 - 398, 400, 400)) == "c overlaps residual");
  CHECK(with_gemm(with_residual(0x90000 + 400, 400, 401)) == "c overlaps residual");
  CHECK(with_gemm([&](Operands& o) {
          with_residual(0x90000 - 798)(o);
          o.io.rows = 0;
        }) == "");
}

TEST_CASE("validate: activations in F16 and BF16") {
  auto const with_values = [](std::function<void(Operands&)> const& change) {
    return with_operands(
        [&](Operands& o) {
          o.io.a_scales = nullptr;
          change(o);
        },
        [](nvfp4::Spec& s) { s.activations = NVFP4_DATA_TYPE_BF16; });
  };
  CHECK(with_values([](Operands&) {}) == "");
  CHECK(with_values([](auto& o) { o.io.a_scales = at<void>(0x20000); }) == "a.scales: must be null, A is in BF16");
  CHECK(with_values([](auto& o) { o.io.a_codes = nullptr; }) == "a: the address is null");
  CHECK(with_values([](auto& o) { o.io.a_codes = at<void>(0x10008); }) == "a: address 0x10008 is not a multiple of 16");
  CHECK(with_values([](auto& o) { o.io.a_row_stride = 96; }) == "");
  CHECK(with_values([](auto& o) { o.io.a_row_stride = 104; }) == "");
  CHECK(with_values([](auto& o) { o.io.a_row_stride = 88; }) == "a_row_stride = 88 is neither 0 nor at least K = 96");
  CHECK(with_values([](auto& o) { o.io.a_row_stride = 100; }) == "a_row_stride = 100 is not a multiple of 8");
  // 299 strides of 104 elements and 96: 62384 bytes.
  CHECK(with_values([](auto& o) { o.io.a_row_stride = 104, o.io.a_codes = at<void>(0x90000 - 62384); }) == "");
  CHECK(with_values([](auto& o) { o.io.a_row_stride = 104, o.io.a_codes = at<void>(0x90000 - 62368); }) ==
        "c overlaps a");
  // A tensor map takes less than 2^40 bytes a batch.
  CHECK(with_values([](auto& o) { o.io.rows = 1 << 20, o.io.a_row_stride = 1 << 19; }) ==
        "a: 1048576 rows, 524288 elements apart, take 549755813888 elements a batch or more");
  CHECK(with_operands([](auto& o) { o.io.a_row_stride = 96; }) ==
        "a_row_stride = 96: must be 0, rows of A in NVFP4 are contiguous");
}

TEST_CASE("validate: addresses") {
  CHECK(with_operands([](Operands&) {}) == "");
  CHECK(with_operands([](auto& o) { o.io.a_codes = nullptr; }) == "a.codes: the address is null");
  CHECK(with_operands([](auto& o) { o.io.a_codes = at<void>(0x10008); }) ==
        "a.codes: address 0x10008 is not a multiple of 16");
  CHECK(with_operands([](auto& o) { o.io.a_scales = at<void>(0x20001); }) ==
        "a.scales: address 0x20001 is not a multiple of 16");
  CHECK(with_operands([](auto& o) { o.weights.b1_codes = at<void>(0x30004); }) ==
        "b1.codes: address 0x30004 is not a multiple of 16");
  CHECK(with_operands([](auto& o) { o.weights.b1_scales = nullptr; }) == "b1.scales: the address is null");
  CHECK(with_operands([](auto& o) { o.weights.b2_codes = nullptr; }) == "b2.codes: the address is null");
  CHECK(with_operands([](auto& o) { o.weights.b2_scales = at<void>(0x8000f); }) ==
        "b2.scales: address 0x8000f is not a multiple of 16");
  CHECK(with_operands([](auto& o) { o.io.c.data = nullptr; }) == "c: the address is null");
  CHECK(with_operands([](auto& o) { o.io.c.data = at<void>(0x90001); }) == "c: address 0x90001 is not a multiple of 2");
  CHECK(with_operands([](auto& o) { o.io.c.data = at<void>(0x90002); }) == "");
  CHECK(with_operands([](auto& o) {
          o.io.c.data = at<void>(0x90002);
          o.io.c.type = NVFP4_DATA_TYPE_F32;
        }) == "c: address 0x90002 is not a multiple of 4");
  CHECK(with_operands([](auto& o) { o.io.factor1 = at<float>(0xf0002); }) ==
        "factor1: address 0xf0002 is not a multiple of 4");
  CHECK(with_operands([](auto& o) { o.io.factor1 = o.io.factor2 = nullptr; }) == "");
  CHECK(with_operands([](auto& o) { o.weights.b2_codes = o.weights.b1_codes; }) == "");
  CHECK(with_operands([](auto& o) { o.io.c.data = at<void>(UINTPTR_MAX - 0xff); }) ==
        "c: 120000 bytes from address 0xffffffffffffff00 end beyond the address space");
}

TEST_CASE("validate: buffers without a byte may be anywhere") {
  auto const without_rows = [](std::function<void(Operands&)> const& change) {
    return with_operands([&](Operands& o) {
      o.io.rows = 0;
      change(o);
    });
  };
  CHECK(without_rows([](Operands&) {}) == "");
  CHECK(without_rows([](auto& o) { o.io.a_codes = o.io.a_scales = o.io.c.data = nullptr; }) == "");
  CHECK(without_rows([](auto& o) { o.io.c.data = at<void>(0x30001), o.io.a_codes = at<void>(0x30003); }) == "");
  CHECK(without_rows([](auto& o) { o.weights.b2_scales = nullptr; }) == "b2.scales: the address is null");
}

TEST_CASE("validate: C is apart from what is read") {
  // C takes 100 * 200 * 3 * 2 = 120000 bytes from 0x90000, up to 0xad4c0.
  CHECK(with_operands([](auto& o) { o.weights.b2_codes = at<void>(0xad4b0); }) == "c overlaps b2.codes");
  CHECK(with_operands([](auto& o) { o.weights.b2_codes = at<void>(0xad4c0); }) == "");
  CHECK(with_operands([](auto& o) { o.io.a_codes = o.io.c.data; }) == "c overlaps a.codes");
  // 100 rows of 48 bytes in 3 batches: 14400 bytes.
  CHECK(with_operands([](auto& o) { o.io.a_codes = at<void>(0x90000 - 14400); }) == "");
  CHECK(with_operands([](auto& o) { o.io.a_codes = at<void>(0x90000 - 14400 + 16); }) == "c overlaps a.codes");
  CHECK(with_operands([](auto& o) { o.io.factor2 = at<float>(0xad4bc); }) == "c overlaps factor2");
}

TEST_CASE("validate: interleaved weights") {
  auto const interleaved = [](nvfp4::Spec& spec) { spec.weights = NVFP4_WEIGHTS_INTERLEAVED; };
  auto const without_b2 = [](Operands& operands) { operands.weights.b2_codes = operands.weights.b2_scales = nullptr; };
  CHECK(with_operands(without_b2, interleaved) == "");
  CHECK(with_operands([](Operands& o) { o.weights.b2_scales = nullptr; }, interleaved) ==
        "b2.codes: must be null, interleaved weights are all in b1");
  CHECK(with_operands([](Operands& o) { o.weights.b2_codes = nullptr; }, interleaved) ==
        "b2.scales: must be null, interleaved weights are all in b1");
  // Their size is that of whole tiles: 3 tiles of 192 rows of 48 bytes in 3 batches are 82944 bytes.
  CHECK(with_operands(
            [&](Operands& o) {
              without_b2(o);
              o.weights.b1_codes = at<void>(0x90000 - 82944 + 16);
            },
            interleaved) == "c overlaps b1.codes");
}

TEST_CASE("validate: alphas") {
  CHECK(with_operands([](auto& o) { o.io.alpha1 = NAN; }) == "alpha1 = nan is not finite");
  CHECK(with_operands([](auto& o) { o.io.alpha2 = -kInf; }) == "alpha2 = -inf is not finite");
  CHECK(with_operands([](auto& o) { o.io.alpha1 = o.io.alpha2 = 0.0f; }) == "");
  CHECK(with_gemm([](auto& o) { o.io.alpha2 = -0.5f; }) == "alpha2 = -0.5: a GEMM has one alpha, and alpha1 = 1");
  CHECK(with_gemm([](auto& o) { o.io.factor2 = at<float>(0xf0004); }) ==
        "factor2: a GEMM has one alpha, and takes the same factor twice");
  CHECK(with_gemm([](auto& o) { o.io.factor1 = o.io.factor2 = nullptr; }) == "");
}
