// A plan: everything that a launch needs, made once.
#include "nvfp4_dual_gemm/dual_gemm.hpp"

#include <array>
#include <bitset>
#include <cstddef>
#include <optional>
#include <new>
#include <utility>

#include "device.hpp"
#include "error.hpp"
#include "instance.hpp"
#include "select.hpp"
#include "validate.hpp"

namespace nvfp4 {

namespace {

// A tensor map, and with it the kernel's parameter, begins at a multiple of 64 bytes (cuTensorMapEncodeTiled).
constexpr std::align_val_t kParamsAlignment{64};

struct FreeParams {
  void operator()(void* params) const noexcept { ::operator delete(params, kParamsAlignment); }
};
using Params = std::unique_ptr<void, FreeParams>;

Params allocate_params(std::size_t bytes) { return Params(::operator new(bytes, kParamsAlignment)); }

dim3 to_dim3(std::uint32_t const (&extent)[3]) { return dim3(extent[0], extent[1], extent[2]); }

}  // namespace

struct DualGemm::Impl {
  Config config;  // with the kernel that was picked
  detail::KernelInstance const* instance;
  int device;
  detail::Residency residency;
  Params params, prologue_params;
  detail::EncodedPlan encoded{};  // points to both

  bool empty() const noexcept { return config.problem.m == 0; }

  // A failure leaves everything as it was. Tensor maps of nothing cannot be encoded.
  void encode(Operands const& operands) {
    if (empty()) {
      return;
    }
    Params new_params = allocate_params(static_cast<std::size_t>(instance->info.params_bytes));
    Params new_prologue_params = allocate_params(instance->prologue_params_bytes);
    detail::EncodedPlan plan{new_params.get(), {}, new_prologue_params.get(), {}};
    instance->encode(config, operands, residency, plan);
    params = std::move(new_params);
    prologue_params = std::move(new_prologue_params);
    encoded = plan;
  }
};

namespace {

struct Pick {
  detail::Device device;
  nvfp4_kernel kernel;
  detail::KernelInstance const* instance;
  detail::Residency residency;
};

// The kernel that the selection takes, by what the device holds of it and not by what such devices usually do. Only
// kernels that come to be chosen are loaded and asked for.
Pick select(Config const& config, detail::Device const& device, int sm_count) {
  detail::require_architecture(device);
  bool const within_sms = sm_count < device.sm_count;
  detail::Residencies residencies = detail::usual_residencies(sm_count);
  std::bitset<NVFP4_KERNEL_COUNT> asked;
  std::optional<std::pair<KernelInfo const*, detail::Holds>> without_room;
  while (true) {
    nvfp4_kernel const kernel = detail::select_kernel(config.problem, config.weights, device.compute_capability,
                                                      residencies, within_sms);
    if (kernel == NVFP4_KERNEL_AUTO) break;
    std::size_t const index = static_cast<std::size_t>(kernel);
    detail::KernelInstance const& instance = *detail::instances()[index];
    if (asked[index]) {
      return {device, kernel, &instance, residencies[index]};
    }
    detail::Holds holds = detail::holds(device, instance);
    if (!holds.any() && !without_room) {
      without_room = std::make_pair(&instance.info, holds);
    }
    holds.residency.sm_count = sm_count;
    residencies[index] = holds.residency;
    asked[index] = true;
  }
  if (without_room) {
    detail::require_room(device, *without_room->first, without_room->second);
  }
  auto const [m, n, k, batch] = config.problem;
  detail::fail_argument("no kernel for device ", device.ordinal, " of compute capability ",
                        detail::dotted(device.compute_capability), " takes ",
                        config.weights == NVFP4_WEIGHTS_INTERLEAVED ? "interleaved" : "separate", " weights with M = ",
                        m, ", N = ", n, ", K = ", k, ", batch = ", batch, " on ", sm_count, " of ", device.sm_count,
                        " SMs");
}

// The device and the kernel of a valid configuration.
Pick pick(Config const& config) {
  detail::Device const device = detail::current_device();
  if (config.sm_count > device.sm_count) {
    detail::fail_argument("sm_count = ", config.sm_count, ": device ", device.ordinal, " has ", device.sm_count,
                          " SMs");
  }
  int const sm_count = config.sm_count == 0 ? device.sm_count : config.sm_count;
  if (config.kernel == NVFP4_KERNEL_AUTO) {
    return select(config, device, sm_count);
  }
  detail::KernelInstance const& instance = *detail::instances()[config.kernel];
  detail::require_architecture(device, instance.info);
  if (sm_count < device.sm_count && instance.info.scheduler != NVFP4_SCHEDULER_STATIC) {
    detail::fail_argument("sm_count = ", sm_count, ": kernel ", instance.info.name, " runs on any of the ",
                          device.sm_count, " SMs of device ", device.ordinal,
                          ", only kernels of the static scheduler stay within fewer");
  }
  detail::Holds const holds = detail::holds(device, instance);
  detail::require_room(device, instance.info, holds);
  Pick pick{device, static_cast<nvfp4_kernel>(config.kernel), &instance, holds.residency};
  pick.residency.sm_count = sm_count;
  return pick;
}

std::size_t workspace_bytes(detail::KernelInstance const& instance, Problem const& problem) {
  return instance.workspace_bytes == nullptr || problem.m == 0 ? 0 : instance.workspace_bytes(problem);
}

void require_plan(void const* plan) {
  if (plan == nullptr) {
    detail::fail_argument("the plan was moved from");
  }
}

}  // namespace

std::span<KernelInfo const> kernels() noexcept {
  static std::array<KernelInfo, NVFP4_KERNEL_COUNT> const table = [] {
    std::array<KernelInfo, NVFP4_KERNEL_COUNT> infos{};
    for (std::size_t i = 0; i < infos.size(); ++i) {
      infos[i] = detail::instances()[i]->info;
    }
    return infos;
  }();
  return table;
}

std::size_t workspace_size(Config const& config) {
  validate(config);
  return workspace_bytes(*pick(config).instance, config.problem);
}

DualGemm DualGemm::prepare(Config const& config, Operands const& operands) {
  validate(config);
  detail::validate_operands(config, operands);
  Pick const picked = pick(config);
  detail::validate_workspace(config, operands, workspace_bytes(*picked.instance, config.problem));
  auto impl = std::make_unique<Impl>();
  impl->config = config;
  impl->config.kernel = picked.kernel;
  impl->instance = picked.instance;
  impl->device = picked.device.ordinal;
  impl->residency = picked.residency;
  impl->encode(operands);
  return DualGemm(std::move(impl));
}

void DualGemm::rebind(Operands const& operands) {
  require_plan(impl_.get());
  detail::validate_operands(impl_->config, operands);
  detail::validate_workspace(impl_->config, operands, workspace_size());
  detail::DeviceGuard const guard(impl_->device);
  impl_->encode(operands);
}

namespace {

// Everything that a launch changes is on the stack: several threads may launch one plan.
void launch_kernel(void const* function, void* params, LaunchShape const& shape, bool programmatic, char const* role,
                   char const* name, cudaStream_t stream) {
  std::array<cudaLaunchAttribute, 2> attributes{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = shape.cluster[0];
  attributes[0].val.clusterDim.y = shape.cluster[1];
  attributes[0].val.clusterDim.z = shape.cluster[2];
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;

  cudaLaunchConfig_t config{};
  config.gridDim = to_dim3(shape.grid);
  config.blockDim = to_dim3(shape.block);
  config.dynamicSmemBytes = shape.smem_bytes;
  config.stream = stream;
  config.attrs = attributes.data();
  config.numAttrs = programmatic ? 2 : 1;
  void* arguments[] = {params};
  cudaError_t const error = cudaLaunchKernelExC(&config, function, arguments);
  if (error != cudaSuccess) {
    detail::fail_cuda(error, detail::words("cudaLaunchKernelExC(", role, name, ")"));
  }
}

}  // namespace

void DualGemm::launch(cudaStream_t stream) const {
  require_plan(impl_.get());
  Impl const& plan = *impl_;
  if (plan.empty()) {
    return;
  }
  detail::KernelInstance const& instance = *plan.instance;
  detail::DeviceGuard const guard(plan.device);
  bool programmatic = plan.config.programmatic_launch != 0;
  if (instance.prologue != nullptr) {
    launch_kernel(instance.prologue, plan.prologue_params.get(), plan.encoded.prologue_shape, programmatic,
                  "prologue of ", instance.info.name, stream);
    programmatic = true;  // the kernel waits for the prologue itself, and that for what was before it
  }
  launch_kernel(instance.function, plan.params.get(), plan.encoded.shape, programmatic, "", instance.info.name,
                stream);
}

std::size_t DualGemm::workspace_size() const noexcept {
  return workspace_bytes(*impl_->instance, impl_->config.problem);
}

KernelInfo const& DualGemm::kernel() const noexcept { return impl_->instance->info; }

LaunchShape const& DualGemm::launch_shape() const noexcept { return impl_->encoded.shape; }

int DualGemm::device() const noexcept { return impl_->device; }

DualGemm::DualGemm(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
DualGemm::DualGemm(DualGemm&&) noexcept = default;
DualGemm& DualGemm::operator=(DualGemm&&) noexcept = default;
DualGemm::~DualGemm() = default;

}  // namespace nvfp4
