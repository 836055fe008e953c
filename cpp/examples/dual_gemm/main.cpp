// A dual GEMM from C++: every value of A, B1 and B2 is 1, so that with alpha = 1/K every value of C is silu(1) * 1.
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace {

void check(cudaError_t status, char const* what) {
  if (status != cudaSuccess) {
    throw nvfp4::Error(NVFP4_STATUS_CUDA, status, std::string(what) + ": " + cudaGetErrorString(status));
  }
}

// Device memory with every byte set to `value`.
class Bytes {
 public:
  Bytes(std::size_t size, std::uint8_t value) {
    if (size == 0) return;
    check(cudaMalloc(&data_, size), "cudaMalloc");
    check(cudaMemset(data_, value, size), "cudaMemset");
  }
  ~Bytes() { cudaFree(data_); }
  Bytes(Bytes const&) = delete;
  Bytes& operator=(Bytes const&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

void run() {
  constexpr std::uint8_t kTwoOnes = 0x22;   // e2m1: two a byte
  constexpr std::uint8_t kScaleOne = 0x38;  // ue4m3
  nvfp4::Problem const problem{.m = 256, .n = 4096, .k = 7168, .batch = 1};

  Bytes a(nvfp4::codes_bytes(problem.m, problem.k, problem.batch), kTwoOnes);
  Bytes a_scales(nvfp4::scales_bytes(problem.m, problem.k, problem.batch), kScaleOne);
  Bytes b(nvfp4::codes_bytes(problem.n, problem.k, problem.batch), kTwoOnes);
  Bytes b_scales(nvfp4::scales_bytes(problem.n, problem.k, problem.batch), kScaleOne);
  std::vector<float> host(std::size_t{1} * problem.m * problem.n);
  Bytes c(host.size() * sizeof(float), 0xff);  // NaN: what nobody writes is no result

  nvfp4::Config config{};
  config.problem = problem;
  config.gate.kind = NVFP4_GATE_SILU;
  config.output = NVFP4_OUTPUT_F32;
  config.weights = NVFP4_WEIGHTS_SEPARATE;
  config.kernel = NVFP4_KERNEL_AUTO;

  nvfp4::Operands operands{};
  operands.a_codes = a.data();
  operands.a_scales = a_scales.data();
  operands.b1_codes = operands.b2_codes = b.data();
  operands.b1_scales = operands.b2_scales = b_scales.data();
  operands.c = c.data();
  operands.alpha1 = operands.alpha2 = 1.0f / static_cast<float>(problem.k);
  Bytes workspace(nvfp4::workspace_size(config), 0);  // of Hopper's kernels
  operands.workspace = workspace.data();

  auto const plan = nvfp4::DualGemm::prepare(config, operands);
  std::printf("kernel: %s\n", plan.kernel().name);
  cudaStream_t const stream = nullptr;
  plan.launch(stream);
  check(cudaMemcpy(host.data(), c.data(), host.size() * sizeof(float), cudaMemcpyDeviceToHost), "cudaMemcpy");
  // silu(1) = 1 / (1 + 1/e) = 0.73106
  for (std::size_t i = 0; i < host.size(); ++i) {
    if (!(std::fabs(host[i] - 0.73106f) < 1e-4f)) {
      throw std::runtime_error("C[" + std::to_string(i) + "] = " + std::to_string(host[i]));
    }
  }
  std::printf("C[0] = %.3f\n", host[0]);
}

}  // namespace

int main() {
  try {
    run();
    return 0;
  } catch (std::exception const& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
