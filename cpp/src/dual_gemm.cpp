// A plan: everything that a launch needs, made once.
#include "nvfp4_dual_gemm/dual_gemm.hpp"

#include <array>
#include <cstddef>
#include <new>
#include <utility>

#include "device.hpp"
#include "error.hpp"
#include "instance.hpp"
#include "validate.hpp"

namespace nvfp4 {

namespace {

// A tensor map, and with it the kernel's parameter, begins at a multiple of 64 bytes (cuTensorMapEncodeTiled).
constexpr std::align_val_t kParamsAlignment{64};

struct FreeParams {
  void operator()(void* params) const noexcept { ::operator delete(params, kParamsAlignment); }
};
using Params = std::unique_ptr<void, FreeParams>;

Params allocate_params(KernelInfo const& kernel) {
  return Params(::operator new(static_cast<std::size_t>(kernel.params_bytes), kParamsAlignment));
}

dim3 to_dim3(std::uint32_t const (&extent)[3]) { return dim3(extent[0], extent[1], extent[2]); }

}  // namespace

struct DualGemm::Impl {
  Config config;  // with the kernel and the SMs that were picked
  detail::KernelInstance const* instance;
  int device;
  int max_clusters;
  Params params;
  LaunchShape shape;
};

std::span<KernelInfo const> kernels() noexcept {
  static std::array<KernelInfo, NVFP4_KERNEL_COUNT> const table = [] {
    std::array<KernelInfo, NVFP4_KERNEL_COUNT> infos{};
    for (std::size_t i = 0; i < infos.size(); ++i) {
      infos[i] = detail::sm100_instances()[i]->info;
    }
    return infos;
  }();
  return table;
}

DualGemm DualGemm::prepare(Config const& config, Operands const& operands) {
  validate(config);
  detail::validate_operands(config, operands);

  detail::Device const device = detail::current_device();
  auto impl = std::make_unique<Impl>();
  impl->config = config;
  if (config.sm_count == 0) {
    impl->config.sm_count = device.sm_count;
  } else if (config.sm_count > device.sm_count) {
    detail::fail_argument("sm_count = ", config.sm_count, ": device ", device.ordinal, " has ", device.sm_count,
                          " SMs");
  }
  if (config.kernel == NVFP4_KERNEL_AUTO) {
    impl->config.kernel = select_kernel(config.problem, config.weights, impl->config.sm_count);
  }
  impl->instance = detail::sm100_instances()[impl->config.kernel];
  detail::require_architecture(device, impl->instance->info);
  impl->device = device.ordinal;
  impl->max_clusters = detail::prepare_kernel(device, *impl->instance);
  impl->params = allocate_params(impl->instance->info);
  impl->shape = {};
  impl->instance->encode(impl->config, operands, impl->config.sm_count, impl->max_clusters, impl->params.get(),
                         impl->shape);
  return DualGemm(std::move(impl));
}

void DualGemm::rebind(Operands const& operands) {
  detail::validate_operands(impl_->config, operands);
  detail::DeviceGuard const guard(impl_->device);
  // A failure leaves the plan as it was.
  Params params = allocate_params(impl_->instance->info);
  LaunchShape shape{};
  impl_->instance->encode(impl_->config, operands, impl_->config.sm_count, impl_->max_clusters, params.get(), shape);
  impl_->params = std::move(params);
  impl_->shape = shape;
}

void DualGemm::launch(cudaStream_t stream) const {
  // Everything that a launch changes is on the stack: several threads may launch one plan.
  Impl const& plan = *impl_;
  detail::DeviceGuard const guard(plan.device);
  std::array<cudaLaunchAttribute, 2> attributes{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = plan.shape.cluster[0];
  attributes[0].val.clusterDim.y = plan.shape.cluster[1];
  attributes[0].val.clusterDim.z = plan.shape.cluster[2];
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;

  cudaLaunchConfig_t config{};
  config.gridDim = to_dim3(plan.shape.grid);
  config.blockDim = to_dim3(plan.shape.block);
  config.dynamicSmemBytes = plan.shape.smem_bytes;
  config.stream = stream;
  config.attrs = attributes.data();
  config.numAttrs = plan.config.programmatic_launch != 0 ? 2 : 1;
  void* arguments[] = {plan.params.get()};
  cudaError_t const error = cudaLaunchKernelExC(&config, plan.instance->function, arguments);
  if (error != cudaSuccess) {
    detail::fail_cuda(error, detail::words("cudaLaunchKernelExC(", plan.instance->info.name, ")"));
  }
}

std::size_t DualGemm::workspace_size() const noexcept { return 0; }

KernelInfo const& DualGemm::kernel() const noexcept { return impl_->instance->info; }

LaunchShape const& DualGemm::launch_shape() const noexcept { return impl_->shape; }

int DualGemm::device() const noexcept { return impl_->device; }

DualGemm::DualGemm(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
DualGemm::DualGemm(DualGemm&&) noexcept = default;
DualGemm& DualGemm::operator=(DualGemm&&) noexcept = default;
DualGemm::~DualGemm() = default;

}  // namespace nvfp4
