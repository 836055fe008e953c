#include "device/device.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "registry/table.hpp"
#include "support/error.hpp"

namespace nvfp4::detail {

namespace {

int attribute(cudaDeviceAttr which, int device, char const* call) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, device), call);
  return value;
}

std::string device_name(int device) {
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return "unknown";
  }
  return properties.name;
}

// "9.0 (sm_90a)", or "10.0 and later 10.x (sm_100f)".
std::string architecture(KernelInfo const& kernel) {
  int const capability = kernel.compute_capability;
  return kernel.family == 0 ? words(dotted(capability), " (sm_", capability, "a)")
                            : words(dotted(capability), " and later ", capability / 10, ".x (sm_", capability, "f)");
}

std::string built_for() {
  std::map<int, std::string> architectures;
  for (int i = 0; i < kKernelCount; ++i) {
    KernelInfo const& kernel = instances()[i]->info;
    architectures.emplace(kernel.compute_capability, architecture(kernel));
  }
  std::string text;
  for (auto const& [capability, name] : architectures) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

// Clusters of this shape that the device holds at once.
cudaError_t max_active_clusters(KernelInstance const& kernel, int cluster_m, int cluster_n, int& clusters) {
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = static_cast<unsigned>(cluster_m);
  cluster.val.clusterDim.y = static_cast<unsigned>(cluster_n);
  cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(cluster_m), static_cast<unsigned>(cluster_n));
  config.blockDim = dim3(static_cast<unsigned>(kernel.info.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(kernel.info.smem_bytes);
  config.attrs = &cluster;
  config.numAttrs = 1;
  return cudaOccupancyMaxActiveClusters(&clusters, kernel.function, &config);
}

[[noreturn]] void fail_architecture(Device const& device) {
  throw Error(NVFP4_STATUS_ARCHITECTURE, 0,
              words("device ", device.ordinal, " (", device_name(device.ordinal), ") has compute capability ",
                    dotted(device.compute_capability), ", and the kernels of this build are for ", built_for(),
                    " only"));
}

}  // namespace

Device current_device() {
  int count = 0;
  check_cuda(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  if (count == 0) {
    throw Error(NVFP4_STATUS_NO_DEVICE, static_cast<int>(cudaErrorNoDevice),
                "cudaGetDeviceCount: there is no CUDA device");
  }
  int ordinal = 0;
  check_cuda(cudaGetDevice(&ordinal), "cudaGetDevice");
  int const major = attribute(cudaDevAttrComputeCapabilityMajor, ordinal,
                              "cudaDeviceGetAttribute(cudaDevAttrComputeCapabilityMajor)");
  int const minor = attribute(cudaDevAttrComputeCapabilityMinor, ordinal,
                              "cudaDeviceGetAttribute(cudaDevAttrComputeCapabilityMinor)");
  int const sms = attribute(cudaDevAttrMultiProcessorCount, ordinal,
                            "cudaDeviceGetAttribute(cudaDevAttrMultiProcessorCount)");
  return {ordinal, sms, major * 10 + minor};
}

std::string dotted(int compute_capability) { return words(compute_capability / 10, ".", compute_capability % 10); }

void require_architecture(Device const& device) {
  bool const any = std::any_of(instances(), instances() + kKernelCount, [&](KernelInstance const* kernel) {
    return runs_on(kernel->info, device.compute_capability);
  });
  if (!any) {
    fail_architecture(device);
  }
}

void require_architecture(Device const& device, KernelInfo const& kernel) {
  require_architecture(device);
  if (!runs_on(kernel, device.compute_capability)) {
    throw Error(NVFP4_STATUS_ARCHITECTURE, 0,
                words("kernel ", kernel.name, " is for compute capability ", architecture(kernel), ", device ",
                      device.ordinal, " (", device_name(device.ordinal), ") has ",
                      dotted(device.compute_capability)));
  }
}

bool Holds::any() const noexcept {
  return std::any_of(std::begin(residency.max_clusters), std::end(residency.max_clusters),
                     [](int clusters) { return clusters > 0; });
}

Holds holds(Device const& device, KernelInstance const& kernel) {
  static std::mutex mutex;
  static std::map<std::pair<int, void const*>, Residency> known;
  load_kernel(kernel);
  std::lock_guard const lock(mutex);
  auto const key = std::make_pair(device.ordinal, kernel.function);
  if (auto const found = known.find(key); found != known.end()) {
    return {found->second, cudaSuccess};
  }
  KernelInfo const& info = kernel.info;
  Holds holds{{device.sm_count, {}}, cudaSuccess};
  int(&max_clusters)[kMaxCluster + 1] = holds.residency.max_clusters;
  int const fixed = info.cluster_m * info.cluster_n;
  if (fixed > 0) {
    holds.refusal = max_active_clusters(kernel, info.cluster_m, info.cluster_n, max_clusters[fixed]);
    if (holds.refusal != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      max_clusters[fixed] = 0;
      return holds;
    }
  } else {
    // A larger cluster that the device refuses is one that launches do without.
    for (int size = 1; size <= kMaxCluster; ++size) {
      cudaError_t const refusal = max_active_clusters(kernel, size, 1, max_clusters[size]);
      if (refusal != cudaSuccess) {
        static_cast<void>(cudaGetLastError());
        max_clusters[size] = 0;
        if (size == 1) {
          holds.refusal = refusal;
          return holds;
        }
      }
    }
  }
  known.emplace(key, holds.residency);
  return holds;
}

void require_room(Device const& device, KernelInfo const& kernel, Holds const& holds) {
  check_cuda(holds.refusal, "cudaOccupancyMaxActiveClusters");
  if (!holds.any()) {
    throw Error(NVFP4_STATUS_CUDA, 0,
                words("cudaOccupancyMaxActiveClusters: device ", device.ordinal, " cannot run one cluster of ",
                      std::max(1, kernel.cluster_m), "x", std::max(1, kernel.cluster_n), " blocks of ", kernel.name,
                      ", each with ", kernel.smem_bytes, " bytes of shared memory"));
  }
}

void load_kernel(KernelInstance const& kernel) {
  // The runtime loads a kernel when it is first used, for which it may have to wait for all streams: not in a capture.
  // Setting an attribute is no such use.
  cudaFuncAttributes attributes{};
  check_cuda(cudaFuncGetAttributes(&attributes, kernel.function), "cudaFuncGetAttributes");
  check_cuda(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  kernel.info.smem_bytes),
             "cudaFuncSetAttribute(cudaFuncAttributeMaxDynamicSharedMemorySize)");
  if (kernel.prologue != nullptr) {
    check_cuda(cudaFuncGetAttributes(&attributes, kernel.prologue), "cudaFuncGetAttributes(the prologue)");
  }
}

DeviceGuard::DeviceGuard(int device) : previous_(device), changed_(false) {
  check_cuda(cudaGetDevice(&previous_), "cudaGetDevice");
  if (previous_ != device) {
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
    changed_ = true;
  }
}

DeviceGuard::~DeviceGuard() {
  if (changed_ && cudaSetDevice(previous_) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
  }
}

}  // namespace nvfp4::detail
