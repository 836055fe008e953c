// What a plan must know of the device it is made for.
#pragma once

#include <string>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "registry/instance.hpp"

namespace nvfp4::detail {

struct Device {
  int ordinal;
  int sm_count;
  int compute_capability;  // 100 for 10.0
};

// The current device. Throws Error: NO_DEVICE where there is no driver or no device.
Device current_device();

// 90 as "9.0".
std::string dotted(int compute_capability);

// Throws Error unless some kernel's code runs on the device, or this kernel's.
void require_architecture(Device const& device);
void require_architecture(Device const& device, KernelInfo const& kernel);

// How many clusters of the kernel the current device runs at once: none where it refuses them. Loads the kernel. What a
// device answered is kept: it depends on the two alone.
struct Holds {
  Residency residency;
  cudaError_t refusal;  // of the only cluster that the kernel has, or of a single CTA; or cudaSuccess

  bool any() const noexcept;
};
Holds holds(Device const& device, KernelInstance const& kernel);

// Throws Error, in the words of CUDA's refusal if there was one, unless the device runs some cluster of the kernel.
void require_room(Device const& device, KernelInfo const& kernel, Holds const& holds);

// Loads the kernel, and what may be launched ahead of it, into the current context, and lets it have its shared memory.
// That is lost with the context (cudaDeviceReset), and no other context has it: nothing of it is remembered.
void load_kernel(KernelInstance const& kernel);

// Makes a device current as long as the guard lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(DeviceGuard const&) = delete;
  DeviceGuard& operator=(DeviceGuard const&) = delete;

 private:
  int previous_;
  bool changed_;
};

}  // namespace nvfp4::detail
