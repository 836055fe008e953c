// C = glu(x1, x2) of x1 = alpha1 * A * B1^T + bias1 and x2 = alpha2 * A * B2^T + bias2, weights in NVFP4, all in one
// kernel; or, as what comes after it, C = [x1, x2] + R (nvfp4_operation).
//
//   auto const plan = nvfp4::Plan::prepare(spec, weights);   // checks, loads kernels, encodes the weights' tensor maps
//   plan.launch(io, stream);                                 // any number of rows: encodes A's maps, and launches
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include <cuda_runtime_api.h>

#include "nvfp4_dual_gemm/error.hpp"
#include "nvfp4_dual_gemm/types.h"
#include "nvfp4_dual_gemm/weights.hpp"

namespace nvfp4 {

using GemmShape = nvfp4_shape;
using Glu = nvfp4_glu;
using Destination = nvfp4_destination;
using Spec = nvfp4_spec;
using Weights = nvfp4_weights;
using Io = nvfp4_io;
using KernelInfo = nvfp4_kernel_info;
using LaunchShape = nvfp4_launch_shape;

// The kernels of this build: those of the architectures in NVFP4_CUDA_ARCHS.
std::span<KernelInfo const> kernels() noexcept;

// The kernel of this name; null where this build has none.
KernelInfo const* find_kernel(std::string_view name) noexcept;

// Whether the kernel's code runs on devices of this compute capability (90, 100, 103).
bool runs_on(KernelInfo const& kernel, int compute_capability) noexcept;

// The kernel for a shape on a device of this compute capability and `sm_count` SMs that holds as many clusters as such
// devices usually do: a pure function (src/select has the rules). A plan asks its device instead. The name, or null
// where no kernel of this build takes it.
char const* select_kernel(GemmShape const& shape, nvfp4_operation operation, nvfp4_data_type activations,
                          nvfp4_weight_format weights, int compute_capability, int sm_count) noexcept;

// Throws Error unless every rule of the kernels holds for the specification, and for so many rows of it (not for any
// address). 0 rows break none.
void validate(Spec const& spec);
void validate(Spec const& spec, int rows);

// A launch with everything encoded, for CUDA graphs and for operands that stay where they are. It owns all that it
// needs, and ends with the context that was current for its plan. Movable; launch() may be called from several threads.
// Of one that was moved from, launch() throws Error; it may be assigned to and destroyed, and nothing else may be called.
class BoundPlan {
 public:
  BoundPlan(BoundPlan&&) noexcept;
  BoundPlan& operator=(BoundPlan&&) noexcept;
  ~BoundPlan();

  // As Plan::launch, with nothing to encode.
  void launch(cudaStream_t stream) const;

  KernelInfo const& kernel() const noexcept;
  // Of the kernel, not of what is launched ahead of it. All 0 without rows.
  LaunchShape const& launch_shape() const noexcept;
  int device() const noexcept;

 private:
  friend class Plan;
  struct Impl;
  explicit BoundPlan(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

// A GEMM or a dual GEMM whose weights are bound, for any number of rows, on one device, and in the context that was current
// there: it ends with cudaDeviceReset(). Movable; everything const may be called from several threads. A plan that was
// moved from may be assigned to and destroyed; everything else throws Error or, of noexcept, may not be called.
class Plan {
 public:
  // For the current device. Loads every kernel that the plan may launch, and encodes the weights' tensor maps for each.
  // Allocates no device memory. The weights are read by launches only.
  static Plan prepare(Spec const& spec, Weights const& weights);

  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) noexcept;
  ~Plan();

  // Bytes of Io::workspace for so many rows: A in NVFP4, widened to fp16 for kernels of capability 9.0 with tiles of more
  // than 8 rows; 0 for others and without rows. A launch writes it before it reads it: one workspace, large enough for
  // each, serves all plans whose launches follow each other on one stream.
  std::size_t workspace_size(int rows) const;

  // What launch() takes for so many rows. Without rows: the kernel of one row, and a launch shape of zeros.
  KernelInfo const& kernel(int rows) const;
  LaunchShape launch_shape(int rows) const;

  // Queues what the plan has for io.rows; nothing for 0. The stream must belong to the plan's device. On the host it
  // encodes the tensor maps of A or of the workspace: it allocates nothing, and calls nothing of CUDA but the launches
  // and what tells and sets the current device. Safe inside a stream capture.
  void launch(Io const& io, cudaStream_t stream) const;

  // Everything of a launch but the launch. `io` is not kept.
  BoundPlan bind(Io const& io) const;

  int device() const noexcept;

 private:
  struct Impl;
  explicit Plan(std::unique_ptr<Impl const> impl) noexcept;
  std::unique_ptr<Impl const> impl_;
};

}  // namespace nvfp4
