// What a plan must know of the device it is made for.
#pragma once

#include <string>

#include "instance.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"

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

// Lets the kernel have its shared memory on the current device, and returns how many of its clusters run at once.
Residency prepare_kernel(Device const& device, KernelInstance const& kernel);

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
