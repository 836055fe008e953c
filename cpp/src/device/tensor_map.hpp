// cuTensorMapEncodeTiled, from the driver by way of the runtime: nothing links against libcuda.
#pragma once

#include <cuda.h>

namespace nvfp4::detail {

// A tensor of `rank` dimensions, and the box of it that one load brings. The last dimension is the outermost: with it the
// tensor ends.
struct TensorMapShape {
  static constexpr int kMaxRank = 4;

  CUtensorMapDataType type;
  int rank;
  cuuint64_t extents[kMaxRank];
  cuuint64_t strides[kMaxRank - 1];  // in bytes, of dimensions 1 and up
  cuuint32_t box[kMaxRank];
  CUtensorMapSwizzle swizzle;
  CUtensorMapL2promotion promotion;
};

class TensorMapEncoder {
 public:
  // Asks the driver. Throws Error where there is none, or one older than CUDA 12.0.
  static TensorMapEncoder of_driver();

  // Calls nothing but the driver's function; in a thread that has not used CUDA yet, also what lets the runtime make its
  // context current. Throws Error, with `operand` as it is to be named.
  void encode(CUtensorMap& map, char const* operand, void const* address, TensorMapShape const& shape) const;

 private:
  using Function = decltype(&cuTensorMapEncodeTiled);

  Function function_ = nullptr;
  int driver_version_ = 0;
};

}  // namespace nvfp4::detail
