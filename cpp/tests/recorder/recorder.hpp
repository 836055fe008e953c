// A stand-in for the CUDA runtime. A program that links it instead of cudart runs the real host code on a machine
// without a GPU and reads afterwards what it did: which calls, which tensor maps, which launches.
//
// It pretends one device, a B200 by default. NVFP4_RECORDER_SMS, _COMPUTE_CAPABILITY (100), _MAX_CLUSTERS, _DEVICES and
// _DRIVER (13050) in the environment, or device(), make it another. Device memory does not exist: addresses are
// symbols. A function of the runtime that is not here is an error of the linker, with its name.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <cuda.h>
#include <cuda_runtime_api.h>

namespace nvfp4::recorder {

struct Device {
  int count = 1;
  int sm_count = 148;
  int compute_capability = 100;
  int max_clusters = 0;  // of any kernel; 0: as many as fill the SMs
  int driver_version = 13050;
};

// The arguments of one cuTensorMapEncodeTiled. The tensor map that it fills is a mark of 8 bytes, then the number of the
// call with kSmallTensorBit, then kStampFill.
struct TensorMap {
  CUtensorMapDataType data_type;
  std::uint64_t address;
  std::vector<std::uint64_t> global_dim;
  std::vector<std::uint64_t> global_strides;  // bytes, of dimensions 1 and up
  std::vector<std::uint32_t> box_dim;
  std::vector<std::uint32_t> element_strides;
  CUtensorMapInterleave interleave;
  CUtensorMapSwizzle swizzle;
  CUtensorMapL2promotion l2_promotion;
  CUtensorMapFloatOOBfill oob_fill;
};
inline constexpr std::size_t kTensorMapBytes = sizeof(CUtensorMap);
inline constexpr std::size_t kTensorMapAlignment = 64;
inline constexpr std::uint8_t kStampFill = 0xA5;
// Drivers up to 13.1 set this bit of the second word wrongly for tensors below 128 KiB; the encoder has to clear it.
inline constexpr std::uint64_t kSmallTensorBit = std::uint64_t{1} << 21;

struct Launch {
  std::string function;  // the kernel's mangled name, which is its .entry in the PTX
  dim3 grid, block;
  std::size_t smem_bytes;
  cudaStream_t stream;
  std::vector<cudaLaunchAttribute> attributes;
  std::vector<std::uint8_t> parameter;  // of parameter_bytes() bytes

  // The attribute, or null.
  cudaLaunchAttribute const* attribute(cudaLaunchAttributeID id) const noexcept;
};

struct FunctionAttribute {
  std::string function;
  cudaFuncAttribute attribute;
  int value;
};

Device& device() noexcept;

// Whether the thread has a context: where not, cuTensorMapEncodeTiled is refused until cudaSetDevice has made one current.
bool& context() noexcept;

// Names of the calls since the last reset(), in order; cuTensorMapEncodeTiled is among them.
std::vector<std::string> const& calls() noexcept;
std::vector<TensorMap> const& tensor_maps() noexcept;
std::vector<Launch> const& launches() noexcept;
std::vector<FunctionAttribute> const& function_attributes() noexcept;
// That cudaFuncGetAttributes was called for, which loads them.
std::vector<std::string> const& loaded_functions() noexcept;

// Forgets the calls and what they recorded, not the device.
void reset() noexcept;

// Bytes to copy of a launched kernel's parameter: the runtime's interface does not say. Those of the kernels of the
// table, whose names begin with nvfp4_, and those of the kernels that are launched ahead of them.
std::size_t& parameter_bytes() noexcept;
std::size_t& prologue_parameter_bytes() noexcept;

// From now on, the named function fails with this error (a CUresult for cuTensorMapEncodeTiled); 0 ends that.
void fail(std::string const& function, int error);

// Where a tensor map lies in a parameter, and which of tensor_maps() it is; those of before a reset() are not found.
struct StampedMap {
  std::size_t offset, index;
  bool small_tensor_bit;
};
std::vector<StampedMap> find_tensor_maps(std::span<std::uint8_t const> parameter);

}  // namespace nvfp4::recorder
