#include "device/tensor_map.hpp"

#include <cstdint>

#include <cuda_runtime_api.h>

#include "support/error.hpp"

namespace nvfp4::detail {

namespace {

// Up to this driver, encoded maps of tensors below this size have a bit set that makes TMA read beyond them (CUTLASS
// clears it as well).
constexpr int kLastDriverWithSmallTensorBit = 13010;
constexpr cuuint64_t kSmallTensorBytes = 131072;
constexpr std::uint64_t kSmallTensorBit = std::uint64_t{1} << 21;  // of the second word

}  // namespace

TensorMapEncoder TensorMapEncoder::of_driver() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 13000
  cudaError_t const error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
  cudaError_t const error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  if (error != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // reported here, not by the caller's next call
    throw Error(NVFP4_STATUS_NO_DEVICE, error,
                words("cannot ask the driver for cuTensorMapEncodeTiled: ", cudaGetErrorString(error)));
  }
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw Error(NVFP4_STATUS_NO_DEVICE, 0, "the driver has no cuTensorMapEncodeTiled: it is older than CUDA 12.0");
  }
  TensorMapEncoder encoder;
  encoder.function_ = reinterpret_cast<Function>(function);
  check_cuda(cudaDriverGetVersion(&encoder.driver_version_), "cudaDriverGetVersion");
  return encoder;
}

void TensorMapEncoder::encode(CUtensorMap& map, char const* operand, void const* address,
                              TensorMapShape const& shape) const {
  constexpr cuuint32_t kSteps[TensorMapShape::kMaxRank] = {1, 1, 1, 1};
  auto const attempt = [&] {
    return function_(&map, shape.type, static_cast<cuuint32_t>(shape.rank), const_cast<void*>(address), shape.extents,
                     shape.strides, shape.box, kSteps, CU_TENSOR_MAP_INTERLEAVE_NONE, shape.swizzle, shape.promotion,
                     CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  };
  CUresult result = attempt();
  if (result == CUDA_ERROR_INVALID_CONTEXT || result == CUDA_ERROR_NOT_INITIALIZED) {
    // The driver wants a context, which the runtime makes current in a thread only when the thread needs it.
    int device = 0;
    check_cuda(cudaGetDevice(&device), "cudaGetDevice");
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
    result = attempt();
  }
  if (result != CUDA_SUCCESS) {
    throw Error(NVFP4_STATUS_CUDA, static_cast<int>(result),
                words("cuTensorMapEncodeTiled refused the tensor map of ", operand, " with CUresult ",
                      static_cast<int>(result)));
  }
  cuuint64_t const bytes = shape.strides[shape.rank - 2] * shape.extents[shape.rank - 1];
  if (driver_version_ <= kLastDriverWithSmallTensorBit && bytes < kSmallTensorBytes) {
    reinterpret_cast<std::uint64_t*>(&map)[1] &= ~kSmallTensorBit;
  }
}

}  // namespace nvfp4::detail
