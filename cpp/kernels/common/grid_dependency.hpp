// Programmatic dependent launch: a kernel may begin while those before it on the stream still run (griddepcontrol).
//
// CUTLASS's own functions tell the compiler nothing of memory, so that an ordinary load may move above the wait. The
// layer of the SM100 kernels calls those, in warps that load by TMA only: `asm volatile`, which stays behind another.
#pragma once

#include "cutlass/cutlass.h"

namespace nvfp4::detail {

// Until the grids before this one have ended and what they wrote is seen. At once where it was waited for before, or
// the launch is an ordinary one. Nothing moves across it.
CUTLASS_DEVICE void wait_for_prior_grids() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// Lets the grid after this one begin as soon as all CTAs have said so or ended. It says nothing of memory.
CUTLASS_DEVICE void launch_dependent_grids() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// `factor` times the scalar at `address`, where there is one: written by a grid before this one, perhaps. Only after
// wait_for_prior_grids(), and no load of ld.global.nc, which is ordered with nothing.
CUTLASS_DEVICE float times_scalar(float factor, float const* address) {
  if (address == nullptr) {
    return factor;
  }
  float value;
  asm volatile("ld.global.f32 %0, [%1];" : "=f"(value) : "l"(address) : "memory");
  return factor * value;
}

}  // namespace nvfp4::detail
