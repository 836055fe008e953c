// Everything that an epilogue can be asked for, of every kernel that runs on the device: GEMMs and dual GEMMs, biases,
// residuals, rows that are apart, every type of C. Operands are such that sums are exact in f32, in any order: a GEMM and
// C in NVFP4 have to be right to the bit.
#include <doctest/doctest.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/strict_glu.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "support/nvfp4_reference.hpp"

namespace {

using namespace nvfp4;
using test::scale_offset;

void check(cudaError_t error, char const* call) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(error));
  }
}

using Bytes = std::vector<std::uint8_t>;

// Device memory with bytes of its own on both sides, which nobody may write.
class Memory {
 public:
  static constexpr std::size_t kFence = 256;
  static constexpr std::uint8_t kUntouched = 0xa5;

  explicit Memory(std::size_t bytes, std::size_t shift = 0) : bytes_(bytes), shift_(shift) {
    check(cudaMalloc(&base_, bytes + 2 * kFence), "cudaMalloc");
    Bytes const fill(bytes + 2 * kFence, kUntouched);
    check(cudaMemcpy(base_, fill.data(), fill.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  explicit Memory(Bytes const& bytes, std::size_t shift = 0) : Memory(bytes.size(), shift) { set(bytes); }
  Memory(Memory const&) = delete;
  ~Memory() { cudaFree(base_); }

  void* address() const { return static_cast<char*>(base_) + kFence + shift_; }
  void set(Bytes const& bytes) {
    check(cudaMemcpy(address(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  // With the fences looked at.
  Bytes get() const {
    Bytes all(bytes_ + 2 * kFence);
    check(cudaMemcpy(all.data(), base_, all.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    bool fences = true;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i < kFence + shift_ || i >= kFence + shift_ + bytes_) fences = fences && all[i] == kUntouched;
    }
    CHECK_MESSAGE(fences, "bytes outside of the buffer were written");
    auto const first = all.begin() + static_cast<std::ptrdiff_t>(kFence + shift_);
    return Bytes(first, first + static_cast<std::ptrdiff_t>(bytes_));
  }

 private:
  void* base_ = nullptr;
  std::size_t bytes_, shift_;
};

template <class T>
Bytes bytes_of(std::vector<T> const& values) {
  Bytes bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

enum class Residual { kNone, kApart, kInPlace };

struct Case {
  nvfp4_operation operation;
  nvfp4_data_type type;
  int m, n, k, batch;
  nvfp4_glu_kind glu = NVFP4_GLU_SWIGLU;
  bool bias = false;
  Residual residual = Residual::kNone;
  int stride = 0, residual_stride = 0;
  std::size_t shift = 0;  // of C's address, in bytes
  nvfp4_round_first round = NVFP4_ROUND_FIRST_NONE;
  bool factors = false;
};

// Codes at random, and scale factors that are few powers of two.
struct Operand {
  std::size_t rows, k, batch;
  Bytes codes, scales;

  Operand(int rows_, int k_, int batch_, std::mt19937& random)
      : rows(static_cast<std::size_t>(rows_)), k(static_cast<std::size_t>(k_)), batch(static_cast<std::size_t>(batch_)),
        codes(codes_bytes(rows_, k_, batch_)), scales(scales_bytes(rows_, k_, batch_)) {
    for (std::uint8_t& byte : codes) byte = static_cast<std::uint8_t>(random());
    for (std::uint8_t& byte : scales) byte = static_cast<std::uint8_t>(0x30 + 8 * (random() % 3));  // 0.5, 1, 2
  }

  double value(std::size_t b, std::size_t row, std::size_t column) const {
    std::uint8_t const byte = codes[((b * rows + row) * k + column) / 2];
    return test::e2m1_value(column % 2 == 0 ? byte & 15 : byte >> 4) *
           test::ue4m3_value(scales[scale_offset(rows, k, b, row, column / 16)]);
  }

  std::vector<double> values() const {
    std::vector<double> all(batch * rows * k);
    for (std::size_t b = 0; b < batch; ++b) {
      for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t column = 0; column < k; ++column) all[(b * rows + row) * k + column] = value(b, row, column);
      }
    }
    return all;
  }
};

double glu(Glu const& glu, double x1, double x2) {
  auto const sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  switch (glu.kind) {
    case NVFP4_GLU_SWIGLU: return x1 * sigmoid(x1) * x2;
    case NVFP4_GLU_CLAMPED_SWIGLU: {
      double const g = std::fmin(x1, glu.limit);
      double const u = std::fmax(std::fmin(x2, glu.limit), -glu.limit);
      return (u + glu.offset) * g * sigmoid(glu.slope * g);
    }
    default: return 0.5 * x1 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x1 + 0.044715 * x1 * x1 * x1))) * x2;
  }
}

std::uint16_t half_bits(nvfp4_data_type type, float value) {
  std::uint16_t bits;
  if (type == NVFP4_DATA_TYPE_F16) {
    __half const half = __float2half_rn(value);
    std::memcpy(&bits, &half, 2);
  } else {
    __nv_bfloat16 const half = __float2bfloat16_rn(value);
    std::memcpy(&bits, &half, 2);
  }
  return bits;
}

float widened(nvfp4_data_type type, std::uint8_t const* from) {
  float value;
  if (type == NVFP4_DATA_TYPE_F32) {
    std::memcpy(&value, from, 4);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, from, 2);
  if (type == NVFP4_DATA_TYPE_F16) {
    return __half2float(__half(__half_raw{bits}));
  }
  std::uint32_t const word = std::uint32_t{bits} << 16;
  std::memcpy(&value, &word, 4);
  return value;
}

float rounded(nvfp4_round_first round, float value) {
  if (round == NVFP4_ROUND_FIRST_NONE) return value;
  nvfp4_data_type const type = round == NVFP4_ROUND_FIRST_F16 ? NVFP4_DATA_TYPE_F16 : NVFP4_DATA_TYPE_BF16;
  std::uint16_t const bits = half_bits(type, value);
  return widened(type, reinterpret_cast<std::uint8_t const*>(&bits));
}

void put(nvfp4_data_type type, float value, std::uint8_t* to) {
  if (type == NVFP4_DATA_TYPE_F32) {
    std::memcpy(to, &value, 4);
  } else {
    std::uint16_t const bits = half_bits(type, value);
    std::memcpy(to, &bits, 2);
  }
}

constexpr float kGlobal = 0.37f;

class Launch {
 public:
  Launch(KernelInfo const& kernel, Case const& what)
      : case_(what), random_(static_cast<unsigned>(what.m * 31 + what.n)), rows_of_weights_(weight_rows(what.operation, what.n)),
        a_(what.m, what.k, what.batch, random_), b1_(rows_of_weights_, what.k, what.batch, random_),
        b2_(rows_of_weights_, what.k, what.batch, random_) {
    spec_.size = sizeof spec_;
    spec_.operation = what.operation;
    spec_.activations = kernel.activations;
    spec_.n = what.n;
    spec_.k = what.k;
    spec_.batch = what.batch;
    spec_.glu = {what.glu, 7.0f, 1.702f, 1.0f};
    spec_.weights = kernel.weights;
    spec_.kernel = kernel.name;
    columns_[0] = rows_of_weights_;
    columns_[1] = gemm() ? what.n - rows_of_weights_ : rows_of_weights_;
    for (int i = 0; i < 2; ++i) {
      bias_[i].resize(static_cast<std::size_t>(what.batch) * static_cast<std::size_t>(columns_[i]));
      for (float& value : bias_[i]) value = std::ldexp(static_cast<float>(static_cast<int>(random_() % 2001) - 1000), -7);
    }
    compute();
  }

  bool gemm() const { return case_.operation == NVFP4_OPERATION_GEMM; }

  // C of so many types at once: what the launch left.
  struct Result {
    Bytes c, scales;
  };

  Result run(nvfp4_data_type type) {
    Bytes codes = b1_.codes, scales = b1_.scales;
    if (spec_.weights == NVFP4_WEIGHTS_INTERLEAVED) {
      codes.resize(interleaved_codes_bytes(rows_of_weights_, spec_.k, spec_.batch));
      scales.resize(interleaved_scales_bytes(rows_of_weights_, spec_.k, spec_.batch));
      interleave_weights(rows_of_weights_, spec_.k, spec_.batch, b1_.codes, b1_.scales, b2_.codes, b2_.scales, codes,
                         scales);
    }
    Memory const b1_codes(codes), b1_scales(scales), b2_codes(b2_.codes), b2_scales(b2_.scales), a_codes(a_.codes),
        a_scales(a_.scales), bias1(bytes_of(bias_[0]), case_.shift % 16 ? 4 : 0), bias2(bytes_of(bias_[1])),
        factors(bytes_of(std::vector<float>{0.5f, -3.0f}));
    Weights weights{};
    weights.size = sizeof weights;
    weights.b1_codes = b1_codes.address();
    weights.b1_scales = b1_scales.address();
    if (spec_.weights == NVFP4_WEIGHTS_SEPARATE) {
      weights.b2_codes = b2_codes.address();
      weights.b2_scales = b2_scales.address();
    }
    if (case_.bias) {
      weights.bias1 = static_cast<float const*>(bias1.address());
      weights.bias2 = static_cast<float const*>(bias2.address());
    }
    Plan const plan = Plan::prepare(spec_, weights);

    bool const nvfp4 = type == NVFP4_DATA_TYPE_NVFP4;
    Bytes before = nvfp4 ? Bytes(codes_bytes(case_.m, case_.n, case_.batch), 0xcc) : matrix(type, case_.stride);
    Memory c(before, nvfp4 ? 0 : case_.shift);
    Memory const c_scales(Bytes(scales_bytes(case_.m, case_.n, case_.batch), 0xcc));
    Memory const residual(nvfp4 ? Bytes(16) : matrix(type, case_.residual_stride), case_.shift);
    Memory const workspace(Bytes(plan.workspace_size(case_.m)));
    Io io{};
    io.size = sizeof io;
    io.rows = case_.m;
    io.a_codes = a_codes.address();
    io.a_scales = a_scales.address();
    io.c.size = sizeof io.c;
    io.c.type = type;
    io.c.data = c.address();
    if (nvfp4) {
      io.c.scales = c_scales.address();
      io.c.global_scale = kGlobal;
      io.c.round_first = case_.round;
    } else {
      io.c.row_stride = case_.stride;
    }
    if (case_.residual == Residual::kApart) {
      io.residual = residual.address();
      io.residual_row_stride = case_.residual_stride;
    } else if (case_.residual == Residual::kInPlace) {
      io.residual = c.address();
      io.residual_row_stride = case_.stride;
    }
    io.alpha1 = kAlpha1;
    io.alpha2 = gemm() ? kAlpha1 : kAlpha2;
    if (case_.factors) {
      io.factor1 = static_cast<float const*>(factors.address());
      io.factor2 = gemm() ? io.factor1 : io.factor1 + 1;
    }
    io.workspace = workspace.address();
    io.workspace_bytes = plan.workspace_size(case_.m);
    plan.launch(io, nullptr);
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    return {c.get(), c_scales.get()};
  }

  void check_floats() {
    nvfp4_data_type const type = case_.type;
    std::size_t const element = type == NVFP4_DATA_TYPE_F32 ? 4 : 2;
    Bytes const got = run(type).c;
    Bytes const before = matrix(type, case_.stride);
    Bytes const residual = case_.residual == Residual::kInPlace ? before : matrix(type, case_.residual_stride);
    std::size_t const stride = stride_of(case_.stride);
    Bytes expected = before;  // what is between rows stays
    std::size_t wrong = 0;
    std::string first;
    for (std::size_t row = 0; row < all_rows(); ++row) {
      for (std::size_t column = 0; column < n(); ++column) {
        std::uint8_t* const at = &expected[(row * stride + column) * element];
        std::uint8_t const* const is = &got[(row * stride + column) * element];
        bool good = false;
        if (gemm()) {
          float value = gemm_value(row, column);
          if (case_.residual != Residual::kNone) {
            value += widened(type, &residual[(row * stride_of(case_.residual == Residual::kInPlace ? case_.stride : case_.residual_stride) + column) * element]);
          }
          put(type, value, at);
          good = std::memcmp(at, is, element) == 0;
        } else {
          double const value = glu(spec_.glu, x_[0][row * n() + column], x_[1][row * n() + column]);
          double const most = type == NVFP4_DATA_TYPE_F32 ? 4e-6 : type == NVFP4_DATA_TYPE_F16 ? 0x1.01p-11 : 0x1.01p-8;
          good = std::fabs(widened(type, is) - value) <= most * std::fabs(value) + 1e-7;
          std::memcpy(at, is, element);
        }
        if (!good && wrong++ == 0) {
          first = "row " + std::to_string(row) + ", column " + std::to_string(column) + ": " +
                  std::to_string(widened(type, is)) + " for " + std::to_string(gemm() ? gemm_value(row, column) : 0.0f);
        }
      }
    }
    CHECK_MESSAGE(wrong == 0, wrong << " elements are wrong, the first: " << first);
    CHECK_MESSAGE(got == expected, "what is between the rows was written");
  }

  void check_nvfp4() {
    std::vector<float> values(all_rows() * n());
    if (gemm()) {
      for (std::size_t row = 0; row < all_rows(); ++row) {
        for (std::size_t column = 0; column < n(); ++column) values[row * n() + column] = gemm_value(row, column);
      }
    } else {
      // Which strict_glu_test.cpp holds against the CPU's.
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = detail::strict_glu(spec_.glu, x_[0][i], x_[1][i]);
    }
    for (float& value : values) value = rounded(case_.round, value);
    Result const got = run(NVFP4_DATA_TYPE_NVFP4);
    Bytes codes(got.c.size()), scales(got.scales.size());
    for (std::size_t row = 0; row < all_rows(); ++row) {
      for (std::size_t block = 0; block < n() / 16; ++block) {
        auto const reference = test::quantize_reference(&values[row * n() + block * 16], kGlobal);
        for (std::size_t i = 0; i < 16; ++i) {
          codes[(row * n() + block * 16 + i) / 2] |= static_cast<std::uint8_t>(reference.codes[i] << (i % 2 * 4));
        }
        std::size_t const m = static_cast<std::size_t>(case_.m);
        scales[scale_offset(m, n(), row / m, row % m, block)] = static_cast<std::uint8_t>(reference.scale);
      }
    }
    CHECK_MESSAGE(got.c == codes, "codes");
    CHECK_MESSAGE(got.scales == scales, "scale factors, with what pads them");
  }

 private:
  static constexpr float kAlpha1 = 0.013f, kAlpha2 = -0.0071f;

  std::size_t n() const { return static_cast<std::size_t>(case_.n); }
  std::size_t all_rows() const { return static_cast<std::size_t>(case_.m) * static_cast<std::size_t>(case_.batch); }
  std::size_t stride_of(int stride) const { return stride == 0 ? n() : static_cast<std::size_t>(stride); }

  // The residual, and what is in C before the launch.
  Bytes matrix(nvfp4_data_type type, int stride) const {
    std::size_t const element = type == NVFP4_DATA_TYPE_F32 ? 4 : 2;
    std::size_t const count = (all_rows() - 1) * stride_of(stride) + n();
    Bytes bytes(count * element);
    std::mt19937 random(99);
    for (std::size_t i = 0; i < count; ++i) {
      put(type, std::ldexp(static_cast<float>(static_cast<int>(random() % 4001) - 2000), -8), &bytes[i * element]);
    }
    return bytes;
  }

  float alpha(int product) const {
    float const factors[] = {0.5f, -3.0f};
    // A GEMM has one alpha, for both halves of its columns.
    int const which = gemm() ? 0 : product;
    float const alpha = which == 0 ? kAlpha1 : kAlpha2;
    return case_.factors ? alpha * factors[which] : alpha;
  }

  // x1 and x2 as f32: the sum is exact, so that there is one rounding.
  void compute() {
    std::vector<double> const a = a_.values(), b[] = {b1_.values(), b2_.values()};
    std::size_t const k = static_cast<std::size_t>(case_.k), m = static_cast<std::size_t>(case_.m);
    for (int product = 0; product < 2; ++product) {
      std::size_t const columns = static_cast<std::size_t>(columns_[product]);
      x_[product].resize(all_rows() * columns);
      for (std::size_t row = 0; row < all_rows(); ++row) {
        for (std::size_t column = 0; column < columns; ++column) {
          std::size_t const of_b = (row / m * static_cast<std::size_t>(rows_of_weights_) + column) * k;
          double sum = 0;
          for (std::size_t i = 0; i < k; ++i) sum += a[row * k + i] * b[product][of_b + i];
          float const exact = static_cast<float>(sum);
          REQUIRE(exact == sum);
          x_[product][row * columns + column] =
              case_.bias ? std::fma(alpha(product), exact, bias_[product][row / m * columns + column])
                         : alpha(product) * exact;
        }
      }
    }
  }

  float gemm_value(std::size_t row, std::size_t column) const {
    std::size_t const first = static_cast<std::size_t>(columns_[0]), second = static_cast<std::size_t>(columns_[1]);
    return column < first ? x_[0][row * first + column] : x_[1][row * second + column - first];
  }

  Case case_;
  std::mt19937 random_;
  int rows_of_weights_;
  Operand a_, b1_, b2_;
  Spec spec_{};
  int columns_[2];
  std::vector<float> bias_[2], x_[2];
};

// Kernels of this build that the device runs; those of NVFP4 activations.
std::vector<KernelInfo> runnable() {
  int device = 0, major = 0, minor = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
  }
  std::vector<KernelInfo> found;
  for (KernelInfo const& info : kernels()) {
    if (runs_on(info, 10 * major + minor) && info.activations == NVFP4_DATA_TYPE_NVFP4) found.push_back(info);
  }
  if (found.empty()) MESSAGE("skipped: there is no device that a kernel of this build runs on");
  return found;
}

constexpr auto kGemm = NVFP4_OPERATION_GEMM;
constexpr auto kDual = NVFP4_OPERATION_DUAL_GEMM;
constexpr auto kF16 = NVFP4_DATA_TYPE_F16;
constexpr auto kBf16 = NVFP4_DATA_TYPE_BF16;
constexpr auto kF32 = NVFP4_DATA_TYPE_F32;
constexpr auto kNvfp4 = NVFP4_DATA_TYPE_NVFP4;

void run_all(std::vector<Case> const& cases) {
  for (KernelInfo const& kernel : runnable()) {
    for (Case const& what : cases) {
      CAPTURE(std::string(kernel.name));
      CAPTURE(what.m);
      CAPTURE(what.n);
      CAPTURE(what.k);
      CAPTURE(what.batch);
      CAPTURE(static_cast<int>(what.type));
      CAPTURE(what.bias);
      CAPTURE(static_cast<int>(what.residual));
      CAPTURE(what.stride);
      Launch launch(kernel, what);
      if (what.type == kNvfp4) {
        launch.check_nvfp4();
      } else {
        launch.check_floats();
      }
    }
  }
}

Case of(nvfp4_operation operation, nvfp4_data_type type, int m, int n, int k, int batch) {
  return {.operation = operation, .type = type, .m = m, .n = n, .k = k, .batch = batch};
}

}  // namespace

TEST_CASE("a GEMM writes the columns of both products, to the bit") {
  std::vector<Case> cases{
      of(kGemm, kF16, 1, 1, 32, 1),   of(kGemm, kBf16, 9, 3, 96, 2),   of(kGemm, kF32, 137, 201, 96, 2),
      of(kGemm, kF16, 130, 202, 64, 1), of(kGemm, kF16, 40, 256, 320, 1), of(kGemm, kF32, 33, 384, 96, 1),
      of(kGemm, kBf16, 300, 208, 64, 1), of(kGemm, kF16, 150, 130, 1056, 1), of(kGemm, kF32, 7, 200, 2080, 2),
  };
  cases[2].factors = true;
  run_all(cases);
}

TEST_CASE("a GEMM with biases, a residual and rows that are apart") {
  std::vector<Case> cases;
  for (nvfp4_data_type const type : {kF16, kBf16, kF32}) {
    Case what = of(kGemm, type, 70, 256, 96, 2);
    what.bias = true;
    what.residual = Residual::kApart;
    cases.push_back(what);
    what.residual = Residual::kInPlace;
    what.stride = 272;
    cases.push_back(what);
    what.n = 201;  // nothing is aligned
    what.stride = 203;
    cases.push_back(what);
    what.residual = Residual::kApart;
    what.residual_stride = 256;
    what.shift = type == kF32 ? 4 : 2;
    cases.push_back(what);
    what.n = 240;  // rows are aligned, their halves are in F32 alone
    what.stride = 240;
    what.shift = 0;
    cases.push_back(what);
    what.k = 1568;
    what.m = 20;
    cases.push_back(what);
  }
  run_all(cases);
}

TEST_CASE("a dual GEMM with biases, and rows that are apart") {
  std::vector<Case> cases;
  for (nvfp4_data_type const type : {kF16, kBf16, kF32}) {
    Case what = of(kDual, type, 70, 100, 96, 2);
    what.glu = static_cast<nvfp4_glu_kind>(type);
    what.bias = true;
    cases.push_back(what);
    what.n = 144;
    what.stride = 160;
    what.factors = true;
    cases.push_back(what);
    what.k = 1568;
    what.m = 35;
    what.batch = 1;
    cases.push_back(what);
    what.bias = false;
    what.n = 97;
    what.shift = type == kF32 ? 4 : 2;
    cases.push_back(what);
  }
  run_all(cases);
}

TEST_CASE("C in NVFP4 is that of the CPU, and what pads its scale factors is 0") {
  std::vector<Case> cases{
      of(kDual, kNvfp4, 1, 32, 32, 1),    of(kDual, kNvfp4, 130, 96, 96, 2), of(kDual, kNvfp4, 128, 224, 64, 1),
      of(kDual, kNvfp4, 300, 128, 64, 1), of(kDual, kNvfp4, 17, 288, 96, 2), of(kGemm, kNvfp4, 1, 32, 32, 1),
      of(kGemm, kNvfp4, 130, 96, 96, 2),  of(kGemm, kNvfp4, 257, 224, 64, 1), of(kGemm, kNvfp4, 20, 384, 96, 2),
      of(kDual, kNvfp4, 10, 96, 2080, 1), of(kDual, kNvfp4, 140, 160, 1056, 1), of(kGemm, kNvfp4, 70, 160, 1056, 1),
  };
  cases[1].bias = cases[6].bias = true;
  cases[1].glu = NVFP4_GLU_GEGLU_TANH;
  cases[2].round = cases[7].round = NVFP4_ROUND_FIRST_F16;
  cases[3].round = cases[8].round = NVFP4_ROUND_FIRST_BF16;
  cases[4].glu = NVFP4_GLU_CLAMPED_SWIGLU;
  run_all(cases);
}
