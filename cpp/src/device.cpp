#include "device.hpp"

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "error.hpp"

namespace nvfp4::detail {

namespace {

int attribute(cudaDeviceAttr which, int device, char const* call) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, device), call);
  return value;
}

// 100 -> 10.0
std::string dotted(int compute_capability) { return words(compute_capability / 10, ".", compute_capability % 10); }

std::string device_name(int device) {
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return "unknown";
  }
  return properties.name;
}

std::string built_for() {
  std::set<int> capabilities;
  for (KernelInfo const& kernel : kernels()) {
    capabilities.insert(kernel.compute_capability);
  }
  std::string text;
  for (int const capability : capabilities) {
    text += words(text.empty() ? "" : ", ", dotted(capability), " (sm_", capability, "a)");
  }
  return text;
}

int max_active_clusters(KernelInstance const& kernel) {
  KernelInfo const& info = kernel.info;
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = static_cast<unsigned>(info.cluster_m);
  cluster.val.clusterDim.y = static_cast<unsigned>(info.cluster_n);
  cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(info.cluster_m), static_cast<unsigned>(info.cluster_n));
  config.blockDim = dim3(static_cast<unsigned>(info.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(info.smem_bytes);
  config.attrs = &cluster;
  config.numAttrs = 1;
  int clusters = 0;
  check_cuda(cudaOccupancyMaxActiveClusters(&clusters, kernel.function, &config), "cudaOccupancyMaxActiveClusters");
  return clusters;
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

void require_architecture(Device const& device, KernelInfo const& kernel) {
  // Code for sm_100a runs on no other device, not even on a later one.
  if (device.compute_capability != kernel.compute_capability) {
    throw Error(NVFP4_STATUS_ARCHITECTURE, 0,
                words("device ", device.ordinal, " (", device_name(device.ordinal), ") has compute capability ",
                      dotted(device.compute_capability), ", and the kernels of this build are for ", built_for(),
                      " only"));
  }
}

int prepare_kernel(Device const& device, KernelInstance const& kernel) {
  static std::mutex mutex;
  static std::map<std::pair<int, void const*>, int> clusters;
  std::lock_guard const lock(mutex);
  auto const key = std::make_pair(device.ordinal, kernel.function);
  auto const known = clusters.find(key);
  if (known != clusters.end()) {
    return known->second;
  }
  check_cuda(cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize, kernel.info.smem_bytes),
             "cudaFuncSetAttribute(cudaFuncAttributeMaxDynamicSharedMemorySize)");
  int const active = max_active_clusters(kernel);
  if (active < 1) {
    throw Error(NVFP4_STATUS_CUDA, 0,
                words("cudaOccupancyMaxActiveClusters: device ", device.ordinal, " cannot run one cluster of ",
                      kernel.info.cluster_m, "x", kernel.info.cluster_n, " blocks of ", kernel.info.name,
                      ", each with ", kernel.info.smem_bytes, " bytes of shared memory"));
  }
  clusters.emplace(key, active);
  return active;
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
