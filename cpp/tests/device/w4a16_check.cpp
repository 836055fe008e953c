// Kernels with 16-bit activations on a device, real or emulated: C against the same computed in double precision, over
// shapes with tails in every dimension, row strides, and activations of all sizes.
//
//   w4a16_check [part of a kernel's name]
#include <cuda_runtime_api.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace {

constexpr int kSkipped = 77;

void check(cudaError_t status, char const* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

template <class T>
class Device {
 public:
  explicit Device(std::vector<T> const& values) {
    check(cudaMalloc(&data_, values.size() * sizeof(T)), "cudaMalloc");
    check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  ~Device() { cudaFree(data_); }
  Device(Device const&) = delete;
  Device& operator=(Device const&) = delete;
  T* get() const { return static_cast<T*>(data_); }

 private:
  void* data_ = nullptr;
};

// Of OCP's and NVIDIA's tables.
double e2m1(unsigned code) {
  constexpr double kMagnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return code & 8 ? -kMagnitudes[code & 7] : kMagnitudes[code & 7];
}
double ue4m3(unsigned byte) {
  unsigned const exponent = byte >> 3, mantissa = byte & 7;
  return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8.0 + mantissa, static_cast<int>(exponent) - 10);
}

double decode(std::uint16_t bits, nvfp4_data_type type) {
  if (type == NVFP4_DATA_TYPE_BF16) {
    return static_cast<double>(std::bit_cast<float>(std::uint32_t{bits} << 16));
  }
  int const exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff;
  double const magnitude = exponent == 31  ? (mantissa != 0 ? std::nan("") : HUGE_VAL)
                           : exponent == 0 ? std::ldexp(mantissa, -24)
                                           : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

// Sizes of activations: `kAll` is every finite bit pattern whose magnitude lies between 2^-24 and 65504.
enum class Values { kUsual, kAll, kTiny, kLarge, kOutliers };
constexpr Values kEveryKind[] = {Values::kUsual, Values::kAll, Values::kTiny, Values::kLarge, Values::kOutliers};
char const* name_of(Values values) {
  constexpr char const* kNames[] = {"usual", "all", "tiny", "large", "outliers"};
  return kNames[static_cast<int>(values)];
}

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}

  unsigned below(unsigned bound) { return static_cast<unsigned>(engine_() % bound); }

  std::uint16_t value(nvfp4_data_type type, Values values, int k) {
    bool const bf16 = type == NVFP4_DATA_TYPE_BF16;
    int const bits = bf16 ? 7 : 10, bias = bf16 ? 127 : 15;
    auto const of = [&](int exponent) {
      unsigned const mantissa = below(1u << bits), sign = below(2) << 15;
      if (!bf16 && exponent < -14) {
        return static_cast<std::uint16_t>(sign | mantissa >> (-14 - exponent) | 1u << (exponent + 24));
      }
      return static_cast<std::uint16_t>(sign | static_cast<unsigned>(exponent + bias) << bits | mantissa);
    };
    auto const between = [&](int low, int high) {
      return low + static_cast<int>(below(static_cast<unsigned>(high - low + 1)));
    };
    switch (values) {
      case Values::kUsual: return of(between(-6, 1));
      case Values::kAll: return of(between(-24, 15));
      case Values::kTiny: return of(between(-24, -20));
      case Values::kLarge: return of(between(13, 15));
      case Values::kOutliers: return of(k % 97 == 96 ? between(9, 11) : between(-6, 0));
    }
    return 0;
  }

 private:
  std::mt19937 engine_;
};

struct Problem {
  int m, n, k, batch;
  std::int64_t stride;  // of rows of A; 0: k
};

std::size_t scale_at(std::int64_t rows, int k, std::int64_t batch, std::int64_t row, int block) {
  std::int64_t const row_atoms = (rows + 127) / 128, k_atoms = (k + 63) / 64;
  std::int64_t const atom = (batch * row_atoms + row / 128) * k_atoms + block / 4;
  return static_cast<std::size_t>(atom * 512 + row % 32 * 16 + row % 128 / 32 * 4 + block % 4);
}

// One weight, packed and decoded.
struct Weight {
  std::vector<std::uint8_t> codes, scales;
  std::vector<double> values;

  Weight(Problem const& p, Random& random)
      : codes(nvfp4::codes_bytes(p.n, p.k, p.batch)), scales(nvfp4::scales_bytes(p.n, p.k, p.batch)),
        values(static_cast<std::size_t>(p.batch) * p.n * p.k) {
    for (auto& byte : codes) byte = static_cast<std::uint8_t>(random.below(256));
    for (auto& byte : scales) byte = static_cast<std::uint8_t>(random.below(256));  // of padding: any, NaN included
    for (std::int64_t row = 0; row < std::int64_t{p.batch} * p.n; ++row) {
      for (int k = 0; k < p.k; ++k) {
        auto& scale = scales[scale_at(p.n, p.k, row / p.n, row % p.n, k / 16)];
        if (k % 16 == 0) {
          scale = static_cast<std::uint8_t>(random.below(4) == 0 ? random.below(127) : 40 + random.below(32));
        }
        std::size_t const at = static_cast<std::size_t>(row * p.k + k);
        values[at] = e2m1(codes[at / 2] >> at % 2 * 4 & 15) * ue4m3(scale);
      }
    }
  }
};

struct Outcome {
  std::size_t count = 0, beyond = 0;
  double worst = 0;  // of the error, in units of what is allowed
};

// `special`: a non-finite value is put into row 0, which must be NaN, and nowhere else.
Outcome run(nvfp4::KernelInfo const& kernel, Problem const& p, Values values, bool special, unsigned seed) {
  Random random(seed);
  Weight const gate(p, random), up(p, random);
  std::int64_t const stride = p.stride == 0 ? p.k : p.stride;
  std::int64_t const rows = std::int64_t{p.batch} * p.m;
  // What lies between rows is NaN: nothing may read it.
  std::vector<std::uint16_t> a(static_cast<std::size_t>(rows * stride), 0x7fff);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (int k = 0; k < p.k; ++k) {
      a[static_cast<std::size_t>(row * stride + k)] = random.value(kernel.activations, values, k);
    }
  }
  if (special) {
    a[static_cast<std::size_t>(p.k / 2)] = 0x7fff;
  }

  Device<std::uint8_t> const gate_codes(gate.codes), gate_scales(gate.scales), up_codes(up.codes), up_scales(up.scales);
  Device<std::uint16_t> const device_a(a);
  std::size_t const elements = static_cast<std::size_t>(rows) * p.n;
  Device<float> const device_c(std::vector<float>(elements, std::nanf("")));

  nvfp4::Spec spec{};
  spec.size = sizeof spec;
  spec.activations = kernel.activations;
  spec.n = p.n;
  spec.k = p.k;
  spec.batch = p.batch;
  spec.glu.kind = NVFP4_GLU_SWIGLU;
  spec.kernel = kernel.name;
  nvfp4::Weights weights{};
  weights.size = sizeof weights;
  weights.b1_codes = gate_codes.get();
  weights.b1_scales = gate_scales.get();
  weights.b2_codes = up_codes.get();
  weights.b2_scales = up_scales.get();
  nvfp4::Io io{};
  io.size = sizeof io;
  io.rows = p.m;
  io.a_codes = device_a.get();
  io.a_row_stride = p.stride;
  io.c.size = sizeof io.c;
  io.c.type = NVFP4_DATA_TYPE_F32;
  io.c.data = device_c.get();
  // Projections of a size at which the GLU says something.
  double const size = values == Values::kTiny       ? 0x1p-22
                      : values == Values::kUsual    ? 1
                      : values == Values::kOutliers ? 256
                                                    : 30000;
  io.alpha1 = static_cast<float>(1 / (size * 30 * std::sqrt(p.k)));
  io.alpha2 = io.alpha1 * 0.75f;
  auto const plan = nvfp4::Plan::prepare(spec, weights);
  if (plan.workspace_size(p.m) != 0) throw std::runtime_error("a workspace is asked for");
  plan.launch(io, nullptr);
  check(cudaDeviceSynchronize(), "the kernel");
  std::vector<float> c(elements);
  check(cudaMemcpy(c.data(), device_c.get(), elements * sizeof(float), cudaMemcpyDeviceToHost), "cudaMemcpy");

  std::vector<double> decoded(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) decoded[i] = decode(a[i], kernel.activations);
  Outcome outcome;
  for (std::int64_t row = 0; row < rows; ++row) {
    double const* const x = decoded.data() + row * stride;
    for (int n = 0; n < p.n; ++n) {
      std::size_t const first = static_cast<std::size_t>((row / p.m * p.n + n) * p.k);
      double sum1 = 0, sum2 = 0, magnitude1 = 0, magnitude2 = 0;
      for (int k = 0; k < p.k; ++k) {
        double const p1 = x[k] * gate.values[first + k], p2 = x[k] * up.values[first + k];
        sum1 += p1;
        sum2 += p2;
        magnitude1 += std::fabs(p1);
        magnitude2 += std::fabs(p2);
      }
      double const alpha1 = static_cast<double>(io.alpha1), alpha2 = static_cast<double>(io.alpha2);
      double const x1 = alpha1 * sum1, x2 = alpha2 * sum2;
      double const silu = x1 / (1 + std::exp(-x1)), exact = silu * x2;
      double const actual = static_cast<double>(c[static_cast<std::size_t>(row * p.n + n)]);
      ++outcome.count;
      if (special && row == 0) {
        if (!std::isnan(actual)) throw std::runtime_error("NaN of A did not reach C");
        continue;
      }
      // Sums may be off by 2^-19 of their terms' magnitudes, and the GLU's slope is at most 1.1.
      double const slopes = alpha1 * magnitude1 * 1.1 * std::fabs(x2) + alpha2 * magnitude2 * std::fabs(silu);
      double const allowed = std::ldexp(slopes, -19) + std::ldexp(std::fabs(exact), -18) + 1e-30;
      double const error = std::fabs(actual - exact) / allowed;
      if (!(error <= outcome.worst)) outcome.worst = error;
      outcome.beyond += !(std::fabs(actual - exact) <= std::ldexp(std::fabs(exact), -11) + 1e-12);
      if (!(error <= 1)) {
        char words[256];
        std::snprintf(words, sizeof words, "row %lld, column %d: %.9g instead of %.9g, %.3g times what is allowed",
                      static_cast<long long>(row), n, actual, exact, error);
        throw std::runtime_error(words);
      }
    }
  }
  return outcome;
}

int run_all(std::string const& part) {
  int devices = 0;
  cudaDeviceProp properties{};
  cudaError_t const status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    std::printf("skipped, no device: %s\n", cudaGetErrorString(status));
    return kSkipped;
  }
  check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  int const capability = properties.major * 10 + properties.minor;
  int failed = 0, ran = 0;
  for (nvfp4::KernelInfo const& kernel : nvfp4::kernels()) {
    if (kernel.activations == NVFP4_DATA_TYPE_NVFP4 || !nvfp4::runs_on(kernel, capability)) continue;
    if (std::string(kernel.name).find(part) == std::string::npos) continue;
    int const tokens = kernel.tile_m, columns = kernel.tile_n;
    Problem const problems[] = {
        {1, 1, 32, 1, 0},
        {tokens, columns, 64, 1, 0},
        {tokens - 1, columns + 1, 96, 1, 104},
        {tokens + 3, 2 * columns + 7, 480, 2, 512},
        {5, columns, 1312, 3, 0},  // no whole group at the end
        {2 * tokens, 3 * columns, 288, 1, 0},
        {7, columns, 32768, 1, 0},  // several chains between promotions, of each CTA of a cluster
    };
    for (Problem const& p : problems) {
      for (Values const values : kEveryKind) {
        // Large shapes with two kinds only: an emulated device is slow.
        if (p.k > 1000 && (values == Values::kTiny || values == Values::kLarge)) continue;
        for (bool const special : {false, true}) {
          if (special && (values != Values::kUsual || p.k > 1000)) continue;
          ++ran;
          char where[160];
          std::snprintf(where, sizeof where, "%s: M = %d, N = %d, K = %d, batch = %d, stride = %lld, %s values%s",
                        kernel.name, p.m, p.n, p.k, p.batch, static_cast<long long>(p.stride), name_of(values),
                        special ? ", NaN in row 0" : "");
          try {
            Outcome const outcome = run(kernel, p, values, special, static_cast<unsigned>(ran));
            std::printf("%s: worst %.3f of what is allowed, %zu of %zu beyond 2^-11\n", where, outcome.worst,
                        outcome.beyond, outcome.count);
          } catch (std::exception const& error) {
            ++failed;
            std::printf("FAILED %s: %s\n", where, error.what());
          }
          std::fflush(stdout);
        }
      }
    }
  }
  std::printf("%d of %d failed\n", failed, ran);
  if (ran == 0) {
    std::printf("skipped, no kernel of this build for compute capability %d.%d\n", properties.major, properties.minor);
    return kSkipped;
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run_all(count > 1 ? arguments[1] : "");
  } catch (std::exception const& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
