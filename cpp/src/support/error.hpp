// Words for what goes wrong.
#pragma once

#include <locale>
#include <sstream>
#include <string>

#include <cuda_runtime_api.h>

#include "nvfp4_dual_gemm/error.hpp"

namespace nvfp4::detail {

template <class... Parts>
std::string words(Parts const&... parts) {
  std::ostringstream text;
  text.imbue(std::locale::classic());  // the program's may write 7168 as 7,168
  (text << ... << parts);
  return text.str();
}

template <class... Parts>
[[noreturn]] void fail_argument(Parts const&... parts) {
  throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0, words(parts...));
}

// Throws for a CUDA call that failed, with `call` as it is to be named.
[[noreturn]] void fail_cuda(cudaError_t error, std::string const& call);

inline void check_cuda(cudaError_t error, char const* call) {
  if (error != cudaSuccess) {
    fail_cuda(error, call);
  }
}

}  // namespace nvfp4::detail
