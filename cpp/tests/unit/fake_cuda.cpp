#include "fake_cuda.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "registry/instance.hpp"

namespace fake {

namespace {

Cuda state;
std::mutex mutex;

// Every call of the runtime holds it as long as it looks at the state.
using Lock = std::lock_guard<std::mutex>;

cudaError_t fail(cudaError_t error) {
  state.last_error = error;
  return error;
}

// The call's outcome, kept as the last error as the runtime does.
cudaError_t outcome(char const* call) {
  state.calls.emplace_back(call);
  auto const failure = state.failures.find(call);
  return failure == state.failures.end() ? cudaSuccess : fail(failure->second);
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

void reset_device() {
  state.smem.clear();
  state.loaded.clear();
}

}  // namespace fake

using fake::cuda;
using fake::Lock;
using fake::outcome;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  Lock const lock(fake::mutex);
  *count = cuda().device_count;
  return outcome("cudaGetDeviceCount");
}

cudaError_t cudaGetDevice(int* device) {
  Lock const lock(fake::mutex);
  *device = cuda().current;
  return outcome("cudaGetDevice");
}

cudaError_t cudaSetDevice(int device) {
  Lock const lock(fake::mutex);
  cudaError_t const error = outcome("cudaSetDevice");
  if (error == cudaSuccess) cuda().current = device;
  return error;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  Lock const lock(fake::mutex);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = cuda().major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = cuda().minor; break;
    case cudaDevAttrMultiProcessorCount: *value = cuda().sm_count; break;
    default: return cudaErrorInvalidValue;
  }
  return outcome("cudaDeviceGetAttribute");
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  Lock const lock(fake::mutex);
  *properties = {};
  std::strcpy(properties->name, "Fake Device");
  return outcome("cudaGetDeviceProperties");
}

cudaError_t cudaFuncSetAttribute(void const* function, cudaFuncAttribute attribute, int value) {
  Lock const lock(fake::mutex);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorInvalidValue;
  cudaError_t const error = outcome("cudaFuncSetAttribute");
  if (error == cudaSuccess) cuda().smem[{cuda().current, function}] = value;  // which loads nothing
  return error;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void const* function) {
  Lock const lock(fake::mutex);
  *attributes = {};
  cudaError_t const error = outcome("cudaFuncGetAttributes");
  if (error == cudaSuccess && function == cuda().missing) return fake::fail(cudaErrorNoKernelImageForDevice);
  if (error == cudaSuccess) cuda().loaded.insert({cuda().current, function});
  return error;
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, void const* function, cudaLaunchConfig_t const* config) {
  Lock const lock(fake::mutex);
  *clusters = cuda().max_clusters;
  cuda().occupancy_cluster = fake::cluster_of(*config);
  dim3 const cluster = cuda().occupancy_cluster;
  cudaError_t const error = outcome("cudaOccupancyMaxActiveClusters");
  unsigned const ctas = cluster.x * cluster.y * cluster.z;
  if (cuda().clusters_of) *clusters = cuda().clusters_of(static_cast<int>(ctas));
  if (error == cudaSuccess && (ctas > cuda().largest_cluster || function == cuda().refused)) {
    return fake::fail(cudaErrorInvalidValue);
  }
  return error;
}

cudaError_t cudaLaunchKernelExC(cudaLaunchConfig_t const* config, void const* function, void** arguments) {
  Lock const lock(fake::mutex);
  cudaError_t const error = outcome("cudaLaunchKernelExC");
  auto const* const bytes = static_cast<std::byte const*>(arguments[0]);
  std::vector<std::byte> const params(bytes, bytes + sizeof(nvfp4::detail::ParamsBytes));
  bool const loaded = !cuda().loaded.insert({cuda().current, function}).second;
  cuda().launches.push_back({function, config->gridDim, config->blockDim, fake::cluster_of(*config),
                             config->dynamicSmemBytes, config->stream, fake::programmatic(*config), params,
                             reinterpret_cast<std::uintptr_t>(bytes), cuda().current, loaded});
  // What every kernel may have without asking.
  constexpr std::size_t kFree = 48 * 1024;
  auto const allowed = cuda().smem.find({cuda().current, function});
  if (error == cudaSuccess && config->dynamicSmemBytes > kFree &&
      (allowed == cuda().smem.end() || config->dynamicSmemBytes > static_cast<std::size_t>(allowed->second))) {
    return fake::fail(cudaErrorInvalidValue);
  }
  return error;
}

// No instance here encodes a tensor map.
cudaError_t cudaGetDriverEntryPointByVersion(char const*, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  Lock const lock(fake::mutex);
  static char encoder;
  *function = cuda().driver_has_encoder ? &encoder : nullptr;
  *found = cuda().driver_has_encoder ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return outcome("cudaGetDriverEntryPointByVersion");
}

cudaError_t cudaDriverGetVersion(int* version) {
  Lock const lock(fake::mutex);
  *version = 13050;
  return outcome("cudaDriverGetVersion");
}

cudaError_t cudaGetLastError() {
  Lock const lock(fake::mutex);
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
