#include "support/error.hpp"

namespace nvfp4::detail {

namespace {

nvfp4_status status_of(cudaError_t error) {
  switch (error) {
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorSystemDriverMismatch:
      return NVFP4_STATUS_NO_DEVICE;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
      return NVFP4_STATUS_ARCHITECTURE;
    default:
      return NVFP4_STATUS_CUDA;
  }
}

}  // namespace

void fail_cuda(cudaError_t error, std::string const& call) {
  // The runtime keeps the error of our call for the caller's next cudaGetLastError(), who would take it for theirs.
  static_cast<void>(cudaGetLastError());
  throw Error(status_of(error), static_cast<int>(error),
              words(call, ": ", cudaGetErrorName(error), ": ", cudaGetErrorString(error)));
}

}  // namespace nvfp4::detail
