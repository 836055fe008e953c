#pragma once

#include <stdexcept>
#include <string>

#include "nvfp4_dual_gemm/types.h"

namespace nvfp4 {

// Everything that fails does so with one of these; what() has the operand, the numbers, and CUDA's or CUTLASS's own words.
class Error : public std::runtime_error {
 public:
  Error(nvfp4_status status, int cuda_error, std::string const& what)
      : std::runtime_error(what), status_(status), cuda_error_(cuda_error) {}
  nvfp4_status status() const noexcept { return status_; }
  int cuda_error() const noexcept { return cuda_error_; }  // cudaError_t, 0 where no CUDA call failed

 private:
  nvfp4_status status_;
  int cuda_error_;
};

}  // namespace nvfp4
