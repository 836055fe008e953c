// The symbols of the CUDA runtime that the library and CUTLASS use. The runtime's own headers declare them, so that the
// compiler holds every signature against the real one.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "recorder.hpp"

namespace nvfp4::recorder {

namespace {

constexpr char kMark[8] = {'N', 'V', 'F', 'P', '4', 'T', 'M', 'A'};

struct State {
  std::mutex mutex;
  std::vector<std::string> calls;
  std::vector<TensorMap> maps;
  std::uint64_t maps_before = 0;  // that reset() has forgotten
  std::vector<Launch> launches;
  std::vector<FunctionAttribute> attributes;
  std::vector<std::string> loaded;
  std::map<void const*, std::string> functions;
  std::map<std::string, int> failures;
  std::size_t parameter_bytes = 0, prologue_parameter_bytes = 0;
  cudaError_t last_error = cudaSuccess;
  int current_device = 0;
  bool context = true;
  Device device;
};

int from_environment(char const* name, int otherwise) {
  char const* const text = std::getenv(name);
  if (text == nullptr) {
    return otherwise;
  }
  char* end = nullptr;
  long const value = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < 0 || value > 1'000'000) {
    std::fprintf(stderr, "recorder: %s is \"%s\", not a number\n", name, text);
    std::exit(2);
  }
  return static_cast<int>(value);
}

// Static initializers of kernels register themselves here: no order of initialization may matter.
State& state() {
  static State& instance = *[] {
    auto* const fresh = new State;
    Device& device = fresh->device;
    device.count = from_environment("NVFP4_RECORDER_DEVICES", device.count);
    device.sm_count = from_environment("NVFP4_RECORDER_SMS", device.sm_count);
    device.compute_capability = from_environment("NVFP4_RECORDER_COMPUTE_CAPABILITY", device.compute_capability);
    device.max_clusters = from_environment("NVFP4_RECORDER_MAX_CLUSTERS", device.max_clusters);
    device.driver_version = from_environment("NVFP4_RECORDER_DRIVER", device.driver_version);
    return fresh;
  }();
  return instance;
}

// Notes a call; the error that it is to fail with.
int note(char const* name) {
  State& s = state();
  std::lock_guard const lock(s.mutex);
  s.calls.emplace_back(name);
  auto const failure = s.failures.find(name);
  return failure == s.failures.end() ? 0 : failure->second;
}

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) {
    state().last_error = error;
  }
  return error;
}

cudaError_t note_cuda(char const* name) { return remember(static_cast<cudaError_t>(note(name))); }

std::string const& function_name(void const* function) {
  static std::string const unknown = "(not a registered kernel)";
  auto const found = state().functions.find(function);
  return found == state().functions.end() ? unknown : found->second;
}

[[noreturn]] void refuse(char const* name) {
  std::fprintf(stderr, "recorder: %s was called, and nothing in the library should\n", name);
  std::abort();
}

template <class T>
std::vector<T> copied(T const* from, std::size_t count) {
  return std::vector<T>(from, from + count);
}

CUresult encode_tiled(CUtensorMap* map, CUtensorMapDataType data_type, cuuint32_t rank, void* address,
                      cuuint64_t const* dim, cuuint64_t const* strides, cuuint32_t const* box,
                      cuuint32_t const* element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                      CUtensorMapL2promotion l2_promotion, CUtensorMapFloatOOBfill oob_fill) {
  if (int const error = note("cuTensorMapEncodeTiled"); error != 0) {
    return static_cast<CUresult>(error);
  }
  State& s = state();
  std::lock_guard const lock(s.mutex);
  if (!s.context) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  if (rank < 1 || rank > 5 || reinterpret_cast<std::uintptr_t>(map) % kTensorMapAlignment != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  TensorMap recorded{};
  recorded.data_type = data_type;
  recorded.address = reinterpret_cast<std::uintptr_t>(address);
  recorded.global_dim = copied<std::uint64_t>(reinterpret_cast<std::uint64_t const*>(dim), rank);
  recorded.global_strides = copied<std::uint64_t>(reinterpret_cast<std::uint64_t const*>(strides), rank - 1);
  recorded.box_dim = copied<std::uint32_t>(box, rank);
  recorded.element_strides = copied<std::uint32_t>(element_strides, rank);
  recorded.interleave = interleave;
  recorded.swizzle = swizzle;
  recorded.l2_promotion = l2_promotion;
  recorded.oob_fill = oob_fill;
  std::uint8_t bytes[kTensorMapBytes];
  std::memset(bytes, kStampFill, sizeof bytes);
  std::memcpy(bytes, kMark, sizeof kMark);
  std::uint64_t const stamp = (s.maps_before + s.maps.size()) | kSmallTensorBit;
  std::memcpy(bytes + sizeof kMark, &stamp, sizeof stamp);
  std::memcpy(map, bytes, sizeof bytes);
  s.maps.push_back(std::move(recorded));
  return CUDA_SUCCESS;
}

cudaError_t driver_entry_point(char const* symbol, void** function, cudaDriverEntryPointQueryResult* result) {
  bool const known = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  *function = known ? reinterpret_cast<void*>(&encode_tiled) : nullptr;
  if (result != nullptr) {
    *result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  }
  return known ? cudaSuccess : remember(cudaErrorSymbolNotFound);
}

}  // namespace

cudaLaunchAttribute const* Launch::attribute(cudaLaunchAttributeID id) const noexcept {
  for (cudaLaunchAttribute const& candidate : attributes) {
    if (candidate.id == id) {
      return &candidate;
    }
  }
  return nullptr;
}

Device& device() noexcept { return state().device; }
bool& context() noexcept { return state().context; }
std::vector<std::string> const& calls() noexcept { return state().calls; }
std::vector<TensorMap> const& tensor_maps() noexcept { return state().maps; }
std::vector<Launch> const& launches() noexcept { return state().launches; }
std::vector<FunctionAttribute> const& function_attributes() noexcept { return state().attributes; }
std::vector<std::string> const& loaded_functions() noexcept { return state().loaded; }
std::size_t& parameter_bytes() noexcept { return state().parameter_bytes; }
std::size_t& prologue_parameter_bytes() noexcept { return state().prologue_parameter_bytes; }

void reset() noexcept {
  State& s = state();
  s.calls.clear();
  s.maps_before += s.maps.size();
  s.maps.clear();
  s.launches.clear();
  s.attributes.clear();
  s.loaded.clear();
  s.last_error = cudaSuccess;
}

void fail(std::string const& function, int error) {
  if (error == 0) {
    state().failures.erase(function);
  } else {
    state().failures[function] = error;
  }
}

std::vector<StampedMap> find_tensor_maps(std::span<std::uint8_t const> parameter) {
  std::vector<StampedMap> found;
  for (std::size_t at = 0; at + kTensorMapBytes <= parameter.size(); at += kTensorMapAlignment) {
    std::uint64_t stamp = 0;
    if (std::memcmp(parameter.data() + at, kMark, sizeof kMark) != 0) {
      continue;
    }
    std::memcpy(&stamp, parameter.data() + at + sizeof kMark, sizeof stamp);
    // Bytes that nobody wrote may hold remains of older parameters.
    std::uint64_t const index = (stamp & ~kSmallTensorBit) - state().maps_before;
    if (index < state().maps.size()) {
      found.push_back({at, static_cast<std::size_t>(index), (stamp & kSmallTensorBit) != 0});
    }
  }
  return found;
}

}  // namespace nvfp4::recorder

using namespace nvfp4::recorder;

extern "C" {

// What nvcc's registration code calls when the program starts.
void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, char const*, int, std::size_t, int, int) {}
void __cudaRegisterFunction(void**, char const* stub, char*, char const* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  state().functions[stub] = name;
}

// What kernel<<<>>> compiles to; kernels are launched by cudaLaunchKernelExC only.
cudaError_t __cudaGetKernel(cudaKernel_t*, void const*) { refuse("__cudaGetKernel"); }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t) {
  refuse("__cudaLaunchKernel");
}
unsigned __cudaPushCallConfiguration(dim3, dim3, std::size_t, CUstream_st*) { refuse("__cudaPushCallConfiguration"); }
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, std::size_t*, void*) { refuse("__cudaPopCallConfiguration"); }

// CUTLASS's templates and the quantizer refer to these; nothing that is recorded must reach them.
cudaError_t cudaLaunchKernel(void const*, dim3, dim3, void**, std::size_t, cudaStream_t) { refuse("cudaLaunchKernel"); }
cudaError_t cudaMemsetAsync(void*, int, std::size_t, cudaStream_t) { refuse("cudaMemsetAsync"); }

cudaError_t cudaGetDeviceCount(int* count) {
  if (cudaError_t const error = note_cuda("cudaGetDeviceCount"); error != cudaSuccess) {
    return error;
  }
  *count = device().count;
  return *count > 0 ? cudaSuccess : remember(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int* ordinal) {
  cudaError_t const error = note_cuda("cudaGetDevice");
  *ordinal = state().current_device;
  return error;
}

cudaError_t cudaSetDevice(int ordinal) {
  if (cudaError_t const error = note_cuda("cudaSetDevice"); error != cudaSuccess) {
    return error;
  }
  if (ordinal < 0 || ordinal >= device().count) {
    return remember(cudaErrorInvalidDevice);
  }
  state().current_device = ordinal;
  state().context = true;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (cudaError_t const error = note_cuda("cudaDeviceGetAttribute"); error != cudaSuccess) {
    return error;
  }
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = device().compute_capability / 10; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = device().compute_capability % 10; return cudaSuccess;
    case cudaDevAttrMultiProcessorCount: *value = device().sm_count; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; return cudaSuccess;
    default:
      std::fprintf(stderr, "recorder: cudaDeviceGetAttribute(%d): the recorder knows no answer\n",
                   static_cast<int>(attribute));
      std::abort();
  }
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  if (cudaError_t const error = note_cuda("cudaGetDeviceProperties"); error != cudaSuccess) {
    return error;
  }
  *properties = cudaDeviceProp{};
  std::snprintf(properties->name, sizeof properties->name, "recorder");
  properties->major = device().compute_capability / 10;
  properties->minor = device().compute_capability % 10;
  properties->multiProcessorCount = device().sm_count;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  cudaError_t const error = note_cuda("cudaDriverGetVersion");
  *version = device().driver_version;
  return error;
}

cudaError_t cudaFuncSetAttribute(void const* function, cudaFuncAttribute attribute, int value) {
  if (cudaError_t const error = note_cuda("cudaFuncSetAttribute"); error != cudaSuccess) {
    return error;
  }
  state().attributes.push_back({function_name(function), attribute, value});
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void const* function) {
  *attributes = cudaFuncAttributes{};
  cudaError_t const error = note_cuda("cudaFuncGetAttributes");
  if (error == cudaSuccess) {
    state().loaded.push_back(function_name(function));
  }
  return error;
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, void const*, cudaLaunchConfig_t const* config) {
  if (cudaError_t const error = note_cuda("cudaOccupancyMaxActiveClusters"); error != cudaSuccess) {
    return error;
  }
  unsigned blocks = 1;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    if (config->attrs[i].id == cudaLaunchAttributeClusterDimension) {
      auto const& cluster = config->attrs[i].val.clusterDim;
      blocks = cluster.x * cluster.y * cluster.z;
    }
  }
  *clusters = device().max_clusters > 0 ? device().max_clusters : device().sm_count / static_cast<int>(blocks);
  return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(cudaLaunchConfig_t const* config, void const* function, void** arguments) {
  if (cudaError_t const error = note_cuda("cudaLaunchKernelExC"); error != cudaSuccess) {
    return error;
  }
  State& s = state();
  std::lock_guard const lock(s.mutex);
  Launch launch{};
  launch.function = function_name(function);
  launch.grid = config->gridDim;
  launch.block = config->blockDim;
  launch.smem_bytes = config->dynamicSmemBytes;
  launch.stream = config->stream;
  launch.attributes.assign(config->attrs, config->attrs + config->numAttrs);
  auto const* const bytes = static_cast<std::uint8_t const*>(arguments[0]);
  bool const of_table = launch.function.starts_with("nvfp4_");
  launch.parameter.assign(bytes, bytes + (of_table ? s.parameter_bytes : s.prologue_parameter_bytes));
  s.launches.push_back(std::move(launch));
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(char const* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  if (cudaError_t const error = note_cuda("cudaGetDriverEntryPointByVersion"); error != cudaSuccess) {
    return error;
  }
  return driver_entry_point(symbol, function, result);
}

cudaError_t cudaGetLastError() {
  note("cudaGetLastError");
  return std::exchange(state().last_error, cudaSuccess);
}

cudaError_t cudaPeekAtLastError() {
  note("cudaPeekAtLastError");
  return state().last_error;
}

char const* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorSymbolNotFound: return "cudaErrorSymbolNotFound";
    default: return "cudaErrorOfTheRecorder";
  }
}

char const* cudaGetErrorString(cudaError_t) { return "as the recorder was told"; }

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType data_type, cuuint32_t rank, void* address,
                                cuuint64_t const* dim, cuuint64_t const* strides, cuuint32_t const* box,
                                cuuint32_t const* element_strides, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion l2_promotion,
                                CUtensorMapFloatOOBfill oob_fill) {
  return encode_tiled(map, data_type, rank, address, dim, strides, box, element_strides, interleave, swizzle,
                      l2_promotion, oob_fill);
}

}  // extern "C"
