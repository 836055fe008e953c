// A CUDA runtime of a few calls that records what it is asked for: the tests of the host side run without a driver.
// Calls may come from several threads at once; cuda() is for when none is running.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace fake {

struct Launch {
  void const* function;
  dim3 grid, block, cluster;
  std::size_t smem_bytes;
  cudaStream_t stream;
  bool programmatic;
  std::vector<std::byte> params;  // what was there then, as long as any kernel's
  std::uintptr_t params_address;
  int device;                     // current at the launch
  bool loaded;                    // before the launch; otherwise this is what loads the kernel
};

struct Cuda {
  int device_count = 1;
  int current = 0;
  int major = 10, minor = 0;
  int sm_count = 148;
  int max_clusters = 64;
  std::function<int(int ctas)> clusters_of;  // in place of max_clusters, where it is set
  void const* refused = nullptr;             // a function that cudaOccupancyMaxActiveClusters fails for
  void const* missing = nullptr;             // a function without code for the device
  bool driver_has_encoder = true;
  unsigned largest_cluster = 16;  // of more CTAs, cudaOccupancyMaxActiveClusters fails
  std::map<std::string, cudaError_t> failures;  // by the name of the call
  cudaError_t last_error = cudaSuccess;
  std::vector<std::string> calls;
  std::vector<Launch> launches;
  std::map<std::pair<int, void const*>, int> smem;  // (device, function) -> bytes
  std::set<std::pair<int, void const*>> loaded;     // (device, function)
  dim3 occupancy_cluster;

  int count(std::string const& call) const;
};

// The state, fresh after reset().
Cuda& cuda();
void reset();

// What cudaDeviceReset() takes away from every device.
void reset_device();

}  // namespace fake
