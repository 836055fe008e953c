// cuTensorMapEncodeTiled, from the driver by way of the runtime: nothing links against libcuda.
#pragma once

#include <string>

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace nvfp4::detail {

using TensorMapEncoder = decltype(&cuTensorMapEncodeTiled);

// Throws Error where there is no driver, or one older than CUDA 12.0.
inline TensorMapEncoder tensor_map_encoder() {
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
                std::string("cannot ask the driver for cuTensorMapEncodeTiled: ") + cudaGetErrorString(error));
  }
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    throw Error(NVFP4_STATUS_NO_DEVICE, 0, "the driver has no cuTensorMapEncodeTiled: it is older than CUDA 12.0");
  }
  return reinterpret_cast<TensorMapEncoder>(function);
}

}  // namespace nvfp4::detail
