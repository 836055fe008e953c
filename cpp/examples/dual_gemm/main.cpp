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
  nvfp4::GemmShape const shape{.m = 256, .n = 4096, .k = 7168, .batch = 1};

  Bytes a(nvfp4::codes_bytes(shape.m, shape.k, shape.batch), kTwoOnes);
  Bytes a_scales(nvfp4::scales_bytes(shape.m, shape.k, shape.batch), kScaleOne);
  Bytes b(nvfp4::codes_bytes(shape.n, shape.k, shape.batch), kTwoOnes);
  Bytes b_scales(nvfp4::scales_bytes(shape.n, shape.k, shape.batch), kScaleOne);
  std::vector<float> host(std::size_t{1} * shape.m * shape.n);
  Bytes c(host.size() * sizeof(float), 0xff);  // NaN: what nobody writes is no result

  nvfp4::Spec spec{};
  spec.size = sizeof spec;
  spec.activations = NVFP4_DATA_TYPE_NVFP4;
  spec.n = shape.n;
  spec.k = shape.k;
  spec.batch = shape.batch;
  spec.glu.kind = NVFP4_GLU_SWIGLU;
  spec.weights = NVFP4_WEIGHTS_SEPARATE;

  nvfp4::Weights weights{};
  weights.size = sizeof weights;
  weights.b1_codes = weights.b2_codes = b.data();
  weights.b1_scales = weights.b2_scales = b_scales.data();

  auto const plan = nvfp4::Plan::prepare(spec, weights);
  std::printf("kernel: %s\n", plan.kernel(shape.m).name);
  Bytes workspace(plan.workspace_size(shape.m), 0);  // of Hopper's kernels

  nvfp4::Io io{};
  io.size = sizeof io;
  io.rows = shape.m;
  io.a_codes = a.data();
  io.a_scales = a_scales.data();
  io.c.size = sizeof io.c;
  io.c.type = NVFP4_DATA_TYPE_F32;
  io.c.data = c.data();
  io.alpha1 = io.alpha2 = 1.0f / static_cast<float>(shape.k);
  io.workspace = workspace.data();
  io.workspace_bytes = plan.workspace_size(shape.m);
  cudaStream_t const stream = nullptr;
  plan.launch(io, stream);
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
