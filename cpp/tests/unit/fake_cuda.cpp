#include "fake_cuda.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>

namespace fake {

namespace {

Cuda state;
std::mutex mutex;

// The call's outcome, kept as the last error as the runtime does.
cudaError_t outcome(char const* call) {
  std::lock_guard const lock(mutex);
  state.calls.emplace_back(call);
  auto const failure = state.failures.find(call);
  if (failure == state.failures.end()) return cudaSuccess;
  state.last_error = failure->second;
  return failure->second;
}

dim3 cluster_of(cudaLaunchConfig_t const& config) {
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    if (config.attrs[i].id == cudaLaunchAttributeClusterDimension) {
      auto const& extent = config.attrs[i].val.clusterDim;
      return dim3(extent.x, extent.y, extent.z);
    }
  }
  return dim3(0, 0, 0);
}

bool programmatic(cudaLaunchConfig_t const& config) {
  return std::any_of(config.attrs, config.attrs + config.numAttrs, [](cudaLaunchAttribute const& attribute) {
    return attribute.id == cudaLaunchAttributeProgrammaticStreamSerialization &&
           attribute.val.programmaticStreamSerializationAllowed == 1;
  });
}

}  // namespace

int Cuda::count(std::string const& call) const {
  return static_cast<int>(std::count(calls.begin(), calls.end(), call));
}

Cuda& cuda() { return state; }
void reset() { state = Cuda{}; }

}  // namespace fake

using fake::cuda;
using fake::outcome;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = cuda().device_count;
  return outcome("cudaGetDeviceCount");
}

cudaError_t cudaGetDevice(int* device) {
  *device = cuda().current;
  return outcome("cudaGetDevice");
}

cudaError_t cudaSetDevice(int device) {
  cudaError_t const error = outcome("cudaSetDevice");
  if (error == cudaSuccess) cuda().current = device;
  return error;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = cuda().major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = cuda().minor; break;
    case cudaDevAttrMultiProcessorCount: *value = cuda().sm_count; break;
    default: return cudaErrorInvalidValue;
  }
  return outcome("cudaDeviceGetAttribute");
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "Fake Device");
  return outcome("cudaGetDeviceProperties");
}

cudaError_t cudaFuncSetAttribute(void const* function, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorInvalidValue;
  cuda().smem[{cuda().current, function}] = value;
  return outcome("cudaFuncSetAttribute");
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, void const*, cudaLaunchConfig_t const* config) {
  *clusters = cuda().max_clusters;
  cuda().occupancy_cluster = fake::cluster_of(*config);
  dim3 const cluster = cuda().occupancy_cluster;
  if (cluster.x * cluster.y * cluster.z > cuda().largest_cluster) {
    static_cast<void>(outcome("cudaOccupancyMaxActiveClusters"));
    cuda().last_error = cudaErrorInvalidValue;
    return cudaErrorInvalidValue;
  }
  return outcome("cudaOccupancyMaxActiveClusters");
}

cudaError_t cudaLaunchKernelExC(cudaLaunchConfig_t const* config, void const* function, void** arguments) {
  cudaError_t const error = outcome("cudaLaunchKernelExC");
  std::lock_guard const lock(fake::mutex);
  cuda().launches.push_back({function, config->gridDim, config->blockDim, fake::cluster_of(*config),
                             config->dynamicSmemBytes, config->stream, fake::programmatic(*config), arguments[0],
                             cuda().current});
  return error;
}

cudaError_t cudaGetLastError() {
  cudaError_t const error = cuda().last_error;
  cuda().last_error = cudaSuccess;
  return error;
}

char const* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
    default: return "cudaErrorOther";
  }
}

char const* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorInvalidValue ? "invalid argument" : "words for another error";
}

}  // extern "C"
