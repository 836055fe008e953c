// In which order an epilogue empties the accumulator, and when the mainloop may write the next one.
#pragma once

#include "common/glu.hpp"

namespace nvfp4::sm100 {

// A tile of gate and up columns, read in kSteps steps of both at once. kSharedSteps: where the accumulator's two
// buffers overlap, the steps that hold what they share; 0 where they do not.
//
// Buffer 0 lies below buffer 1, so that the end of its up half is what buffer 1's gate half begins with. It is emptied
// from the end, buffer 1 from the beginning; once the shared columns are read, the mainloop may write the other buffer
// while the rest is finished.
template <int kSteps, int kSharedSteps>
struct DrainOrder {
  static_assert(kSharedSteps >= 0 && kSharedSteps <= kSteps, "what is shared lies within one projection");

  // After this many steps less one.
  static constexpr int kReleaseStep = (kSharedSteps == 0 ? kSteps : kSharedSteps) - 1;

  int buffer;

  // The columns of a step, counted in steps.
  NVFP4_HOST_DEVICE constexpr int operator()(int step) const {
    return kSharedSteps != 0 && buffer == 0 ? kSteps - 1 - step : step;
  }
};

}  // namespace nvfp4::sm100
