// A plan: everything that launches over the same weights have in common, found out once.
#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

#include "device/device.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "plan/launch.hpp"
#include "plan/validate.hpp"
#include "registry/table.hpp"
#include "select/select.hpp"
#include "support/error.hpp"

namespace nvfp4 {

namespace {

// What was moved from has none.
template <class Impl>
Impl& live(std::unique_ptr<Impl> const& impl) {
  if (impl == nullptr) {
    detail::fail_argument("the plan was moved from");
  }
  return *impl;
}

char const* adjective(nvfp4_weight_format weights) {
  return weights == NVFP4_WEIGHTS_INTERLEAVED ? "interleaved" : "separate";
}

}  // namespace

struct Plan::Impl {
  Spec spec;  // its `kernel` is not looked at any more: it is the caller's memory
  Weights weights;
  detail::Device device;
  int sm_count;                  // that launches may occupy
  int only = detail::kNoKernel;  // that was asked for by name
  detail::TensorMapEncoder encoder;
  // By kernel: of those that launches may take. The others have no cluster and nothing encoded.
  detail::Residencies residencies{};
  std::array<std::unique_ptr<detail::ParamsBytes>, detail::kKernelCount> encoded;

  bool within_sms() const { return sm_count < device.sm_count; }

  detail::Operands operands() const { return {spec.activations, spec.weights}; }

  // Whether a kernel of this build that runs on the device takes such activations, whatever else it asks for.
  bool takes_activations() const {
    auto const table = kernels();
    return std::any_of(table.begin(), table.end(), [&](KernelInfo const& info) {
      return runs_on(info, device.compute_capability) && info.activations == spec.activations;
    });
  }

  [[noreturn]] void fail_no_kernel(int rows) const {
    if (!takes_activations()) {
      detail::fail_argument("no kernel of this build takes activations in ", detail::name_of(spec.activations),
                            " on device ", device.ordinal, " of compute capability ",
                            detail::dotted(device.compute_capability));
    }
    detail::fail_argument("no kernel for device ", device.ordinal, " of compute capability ",
                          detail::dotted(device.compute_capability), " takes ", adjective(spec.weights),
                          " weights with M = ", rows, ", N = ", spec.n, ", K = ", spec.k, ", batch = ", spec.batch,
                          " on ", sm_count, " of ", device.sm_count, " SMs");
  }

  // Of `kernel`, if the device runs it. Loads it.
  detail::Holds add(int kernel, Weights const& weights) {
    detail::KernelInstance const& instance = *detail::instances()[kernel];
    detail::Holds const holds = detail::holds(device, instance);
    if (holds.any()) {
      std::size_t const index = static_cast<std::size_t>(kernel);
      residencies[index] = holds.residency;
      residencies[index].sm_count = sm_count;
      encoded[index] = std::make_unique<detail::ParamsBytes>();
      instance.encode_weights(encoder, spec, weights, *encoded[index]);
    }
    return holds;
  }

  void add_only(int kernel, Weights const& weights) {
    KernelInfo const& info = detail::instances()[kernel]->info;
    detail::require_architecture(device, info);
    if (within_sms() && info.scheduler != NVFP4_SCHEDULER_STATIC) {
      detail::fail_argument("sm_count = ", sm_count, ": kernel ", info.name, " runs on any of the ", device.sm_count,
                            " SMs of device ", device.ordinal,
                            ", only kernels of the static scheduler stay within fewer");
    }
    detail::require_room(device, info, add(kernel, weights));
    only = kernel;
  }

  // All that the selection may give for some number of rows: none may have to be loaded by a launch, which may stand in
  // a capture.
  void add_all(Weights const& weights) {
    detail::require_architecture(device);
    std::optional<std::pair<KernelInfo const*, detail::Holds>> without_room;
    for (int kernel = 0; kernel < detail::kKernelCount; ++kernel) {
      KernelInfo const& info = detail::instances()[kernel]->info;
      bool const fits = runs_on(info, device.compute_capability) && operands().taken_by(detail::kKernelTable[kernel]) &&
                        (!within_sms() || info.scheduler == NVFP4_SCHEDULER_STATIC);
      if (!fits) continue;
      detail::Holds const holds = add(kernel, weights);
      if (!holds.any() && !without_room) {
        without_room = std::make_pair(&info, holds);
      }
    }
    bool const some = select(1) != detail::kNoKernel;
    if (!some && without_room) {
      detail::require_room(device, *without_room->first, without_room->second);
    }
    if (!some) {
      fail_no_kernel(1);
    }
  }

  GemmShape shape(int rows) const { return detail::products(spec, rows); }

  int select(int rows) const {
    return only != detail::kNoKernel ? only
                                     : detail::select_kernel(shape(rows), operands(), device.compute_capability,
                                                             residencies, within_sms());
  }

  // The kernel for so many rows.
  int pick(int rows) const {
    int const kernel = select(rows);
    if (kernel == detail::kNoKernel) {
      fail_no_kernel(rows);
    }
    return kernel;
  }

  detail::Residency const& residency(int kernel) const { return residencies[static_cast<std::size_t>(kernel)]; }

  std::size_t workspace_bytes(int kernel, int rows) const {
    auto const bytes = detail::instances()[kernel]->workspace_bytes;
    return bytes == nullptr || rows == 0 ? 0 : bytes(shape(rows));
  }

  // Of valid rows.
  LaunchShape launch_shape(int kernel, int rows) const {
    return rows == 0 ? LaunchShape{} : detail::instances()[kernel]->launch_shape(spec, rows, residency(kernel));
  }

  // The launches for `io`, and their kernel. Allocates nothing.
  int encode(Io const& io, detail::Launches& launches) const {
    detail::validate_io(spec, weights, io);
    int const kernel = pick(io.rows);
    launches.count = 0;
    if (io.rows > 0) {  // tensor maps of nothing cannot be encoded
      detail::validate_workspace(spec, weights, io, workspace_bytes(kernel, io.rows));
      detail::KernelInstance const& instance = *detail::instances()[kernel];
      instance.encode_io(instance, encoder, spec, io, residency(kernel), *encoded[static_cast<std::size_t>(kernel)],
                         launches);
    }
    return kernel;
  }
};

Plan Plan::prepare(Spec const& spec, Weights const& weights) {
  validate(spec);
  detail::validate_weights(spec, weights);
  detail::Device const device = detail::current_device();
  if (spec.sm_count > device.sm_count) {
    detail::fail_argument("sm_count = ", spec.sm_count, ": device ", device.ordinal, " has ", device.sm_count, " SMs");
  }
  auto impl = std::make_unique<Impl>();
  impl->spec = spec;
  impl->weights = weights;
  impl->device = device;
  impl->sm_count = spec.sm_count == 0 ? device.sm_count : spec.sm_count;
  impl->encoder = detail::TensorMapEncoder::of_driver();
  if (spec.kernel == nullptr) {
    impl->add_all(weights);
  } else {
    impl->add_only(detail::kernel_index(spec.kernel), weights);
  }
  // What a kernel refuses of one row it refuses of more.
  static_cast<void>(impl->launch_shape(impl->pick(1), 1));
  impl->spec.kernel = nullptr;
  return Plan(std::move(impl));
}

std::size_t Plan::workspace_size(int rows) const {
  Impl const& plan = live(impl_);
  validate(plan.spec, rows);
  return plan.workspace_bytes(plan.pick(rows), rows);
}

KernelInfo const& Plan::kernel(int rows) const {
  Impl const& plan = live(impl_);
  validate(plan.spec, rows);
  return detail::instances()[plan.pick(rows)]->info;
}

LaunchShape Plan::launch_shape(int rows) const {
  Impl const& plan = live(impl_);
  validate(plan.spec, rows);
  return plan.launch_shape(plan.pick(rows), rows);
}

void Plan::launch(Io const& io, cudaStream_t stream) const {
  Impl const& plan = live(impl_);
  detail::Launches launches;
  int const kernel = plan.encode(io, launches);
  if (launches.count > 0) {
    detail::DeviceGuard const guard(plan.device.ordinal);
    detail::launch(launches, detail::instances()[kernel]->info, stream);
  }
}

struct BoundPlan::Impl {
  detail::Launches launches;
  KernelInfo const* kernel;
  LaunchShape shape;
  int device;
};

BoundPlan Plan::bind(Io const& io) const {
  Impl const& plan = live(impl_);
  std::unique_ptr<BoundPlan::Impl> bound(new BoundPlan::Impl);  // what is not encoded stays as it is
  bound->kernel = &detail::instances()[plan.encode(io, bound->launches)]->info;
  int const count = bound->launches.count;
  bound->shape = count == 0 ? LaunchShape{} : bound->launches.list[count - 1].shape;
  bound->device = plan.device.ordinal;
  return BoundPlan(std::move(bound));
}

int Plan::device() const noexcept { return impl_->device.ordinal; }

Plan::Plan(std::unique_ptr<Impl const> impl) noexcept : impl_(std::move(impl)) {}
Plan::Plan(Plan&&) noexcept = default;
Plan& Plan::operator=(Plan&&) noexcept = default;
Plan::~Plan() = default;

void BoundPlan::launch(cudaStream_t stream) const {
  Impl const& plan = live(impl_);
  if (plan.launches.count > 0) {
    detail::DeviceGuard const guard(plan.device);
    detail::launch(plan.launches, *plan.kernel, stream);
  }
}

KernelInfo const& BoundPlan::kernel() const noexcept { return *impl_->kernel; }
LaunchShape const& BoundPlan::launch_shape() const noexcept { return impl_->shape; }
int BoundPlan::device() const noexcept { return impl_->device; }

BoundPlan::BoundPlan(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
BoundPlan::BoundPlan(BoundPlan&&) noexcept = default;
BoundPlan& BoundPlan::operator=(BoundPlan&&) noexcept = default;
BoundPlan::~BoundPlan() = default;

}  // namespace nvfp4
