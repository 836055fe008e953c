// C = gate(alpha1 * A * B1^T, alpha2 * A * B2^T) in NVFP4, both products and the gate in one kernel.
//
//   auto plan = nvfp4::DualGemm::prepare(config, operands);   // checks, picks the kernel, encodes tensor maps
//   plan.launch(stream);                                      // one kernel launch: no allocation, no encoding
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

#include <cuda_runtime_api.h>

#include "nvfp4_dual_gemm/abi.h"

namespace nvfp4 {

using Problem = nvfp4_problem;
using Gate = nvfp4_gate;
using Operands = nvfp4_operands;
using Config = nvfp4_config;
using KernelInfo = nvfp4_kernel_info;
using LaunchShape = nvfp4_launch_shape;

// Everything that fails does so with one of these; what() has the operand, the numbers, and CUDA's or CUTLASS's own words.
class Error : public std::runtime_error {
 public:
  Error(nvfp4_status status, int cuda_error, std::string const& what)
      : std::runtime_error(what), status_(status), cuda_error_(cuda_error) {}
  nvfp4_status status() const noexcept { return status_; }
  int cuda_error() const noexcept { return cuda_error_; }  // cudaError_t, 0 where no CUDA call failed

 private:
  nvfp4_status status_;
  int cuda_error_;
};

// The table of kernels, indexed by nvfp4_kernel.
std::span<KernelInfo const> kernels() noexcept;

// The kernel for a shape on a device of this compute capability (90, 100) and `sm_count` SMs that holds as many clusters
// as such devices usually do: a pure function (src/select.cpp and src/select_sm90.cpp have the rules). A plan asks its
// device instead. NVFP4_KERNEL_AUTO where there is none.
nvfp4_kernel select_kernel(Problem const& problem, nvfp4_weight_format weights, int compute_capability,
                           int sm_count) noexcept;

// Throws Error unless every rule of the kernels holds for the problem (not for any address). M = 0 breaks none.
void validate(Config const& config);

// Bytes of the buffers of one operand with `rows` rows, over all batches.
std::size_t codes_bytes(int rows, int k, int batch) noexcept;
std::size_t scales_bytes(int rows, int k, int batch) noexcept;

// Sizes of interleaved weights, and the repacking itself, on the host. The scale factors come and go in the 128x4
// layout; rows that pad the last tile are zero.
std::size_t interleaved_codes_bytes(int n, int k, int batch) noexcept;
std::size_t interleaved_scales_bytes(int n, int k, int batch) noexcept;
void interleave_weights(int n, int k, int batch, std::span<std::uint8_t const> b1_codes,
                        std::span<std::uint8_t const> b1_scales, std::span<std::uint8_t const> b2_codes,
                        std::span<std::uint8_t const> b2_scales, std::span<std::uint8_t> codes,
                        std::span<std::uint8_t> scales);

// Bytes of Operands::workspace for a plan on the current device: A widened to fp16 for kernels of compute capability
// 9.0 with tiles of more than 8 rows, 0 for others and for M = 0. Throws Error like DualGemm::prepare.
std::size_t workspace_size(Config const& config);

// A dual GEMM bound to its operands on one device, and to the context that was current there: it ends with
// cudaDeviceReset(). Movable; launch() may be called from several threads. Of a plan that was moved from, launch() and
// rebind() throw Error; it may be assigned to and destroyed, and nothing else may be called.
class DualGemm {
 public:
  // Prepares for the current device. Allocates no device memory. Launches of one plan share its workspace: they must
  // follow each other.
  static DualGemm prepare(Config const& config, Operands const& operands);

  DualGemm(DualGemm&&) noexcept;
  DualGemm& operator=(DualGemm&&) noexcept;
  ~DualGemm();

  // Other operands for the same problem: encodes tensor maps again, on the host.
  void rebind(Operands const& operands);

  // Queues the kernel, after its prologue where it has one; nothing where M = 0. The stream must belong to the plan's
  // device. Safe inside a stream capture, the first time too: both kernels were loaded by prepare().
  void launch(cudaStream_t stream) const;

  // Bytes of the workspace that launch() uses.
  std::size_t workspace_size() const noexcept;

  KernelInfo const& kernel() const noexcept;
  // Of the kernel, not of its prologue. All 0 where M = 0.
  LaunchShape const& launch_shape() const noexcept;
  int device() const noexcept;

 private:
  struct Impl;
  explicit DualGemm(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nvfp4
