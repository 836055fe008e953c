#include "plan/launch.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

#include "support/error.hpp"

namespace nvfp4::detail {

namespace {

dim3 to_dim3(std::uint32_t const (&extent)[3]) { return dim3(extent[0], extent[1], extent[2]); }

// Everything that a launch changes is on the stack: several threads may launch one plan.
void launch(Launch const& launch, KernelInfo const& kernel, cudaStream_t stream) {
  std::array<cudaLaunchAttribute, 2> attributes{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = launch.shape.cluster[0];
  attributes[0].val.clusterDim.y = launch.shape.cluster[1];
  attributes[0].val.clusterDim.z = launch.shape.cluster[2];
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;

  cudaLaunchConfig_t config{};
  config.gridDim = to_dim3(launch.shape.grid);
  config.blockDim = to_dim3(launch.shape.block);
  config.dynamicSmemBytes = launch.shape.smem_bytes;
  config.stream = stream;
  config.attrs = attributes.data();
  config.numAttrs = launch.programmatic ? 2 : 1;
  void* arguments[] = {const_cast<std::byte*>(launch.params.bytes)};  // the runtime copies them
  cudaError_t const error = cudaLaunchKernelExC(&config, launch.function, arguments);
  if (error != cudaSuccess) {
    fail_cuda(error, words("cudaLaunchKernelExC(", launch.role, kernel.name, ")"));
  }
}

}  // namespace

void launch(Launches const& launches, KernelInfo const& kernel, cudaStream_t stream) {
  for (int i = 0; i < launches.count; ++i) {
    launch(launches.list[i], kernel, stream);
  }
}

}  // namespace nvfp4::detail
