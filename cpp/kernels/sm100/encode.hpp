// The host's side of a compiled kernel: its row of the table, and its parameter and launch shape for given operands.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "common/glu.hpp"
#include "common/output.hpp"
#include "nvfp4_dual_gemm/error.hpp"
#include "registry/instance.hpp"
#include "select/grid_limits.hpp"
#include "sm100/kernel.hpp"
#include "sm100/operand_maps.hpp"

namespace nvfp4::sm100 {

template <class Config>
void require_schedulable(nvfp4_shape const& shape) {
  struct Row {
    int sms, tile_m, tile_n, cluster_m, cluster_n;
  };
  constexpr Row kRow{Config::kSms, Config::kTileM, Config::kTileN, Config::kClusterM, Config::kClusterN};
  detail::TileGrid const grid = detail::tile_grid(shape, kRow);
  if (!detail::schedulable(grid, Config::kScheduler)) {
    throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0,
                "too many tiles: " + std::to_string(grid.m) + " x " + std::to_string(grid.n) + " x " +
                    std::to_string(grid.batch) + " CTAs");
  }
}

// Of the weights: what encode_weights() leaves for encode_io().
template <class Config>
struct Encoded {
  typename OperandMaps<Config>::Params maps;  // without A's
  detail::GluConstants glu;
  float const* bias[2];
};

template <class Config>
void encode_weights(detail::TensorMapEncoder const& encoder, nvfp4_spec const& spec, nvfp4_weights const& weights,
                    detail::ParamsBytes& encoded) {
  static_assert(std::is_trivially_copyable_v<Encoded<Config>> && sizeof(Encoded<Config>) <= sizeof(encoded.bytes));
  Encoded<Config> result{};
  OperandMaps<Config>::encode_weights(encoder, spec, weights, result.maps);
  result.glu = detail::glu_constants(spec);
  result.bias[0] = weights.bias1;
  result.bias[1] = weights.bias2;
  std::memcpy(encoded.bytes, &result, sizeof(result));
}

// The arguments that depend on sizes and the device alone.
template <class Config>
typename Config::Kernel::Arguments arguments(nvfp4_shape const& shape, detail::Residency const& residency) {
  // Clusters that are resident at once; a device whose GPCs they do not divide holds fewer than it has SMs for.
  constexpr int kClusterSize = Config::kClusterM * Config::kClusterN;
  int clusters = residency.sm_count / kClusterSize;
  if (int const resident = residency.max_clusters[kClusterSize]; resident > 0) {
    clusters = std::min(clusters, resident);
  }
  if (clusters < 1) {
    throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0,
                "clusters of " + std::to_string(kClusterSize) + " CTAs do not run on " +
                    std::to_string(residency.sm_count) + " SMs");
  }
  require_schedulable<Config>(shape);
  typename Config::Kernel::Arguments args{};
  args.mode = cutlass::gemm::GemmUniversalMode::kGemm;
  args.problem_shape = Config::problem_shape(shape);
  args.hw_info.sm_count = clusters * kClusterSize;
  args.hw_info.max_active_clusters = clusters;
  args.hw_info.cluster_shape = dim3(Config::kClusterM, Config::kClusterN, 1);
  args.hw_info.cluster_shape_fallback = args.hw_info.cluster_shape;
  return args;
}

template <class Config>
typename Config::Kernel::Params params_of(typename Config::Kernel::Arguments const& args) {
  if (!Config::Kernel::can_implement(args)) {
    throw Error(NVFP4_STATUS_CUTLASS, 0,
                std::string("CUTLASS: ") + cutlass::cutlassGetStatusString(cutlass::Status::kErrorInvalidProblem));
  }
  return Config::Kernel::to_underlying_arguments(args, nullptr);
}

template <class Config>
nvfp4_launch_shape shape_of(typename Config::Kernel::Params const& params) {
  dim3 const grid = Config::Kernel::get_grid_shape(params);
  dim3 const block = Config::Kernel::get_block_shape();
  return {{grid.x, grid.y, grid.z},
          {block.x, block.y, block.z},
          {Config::kClusterM, Config::kClusterN, 1},
          static_cast<std::uint32_t>(Config::Kernel::SharedStorageSize)};
}

template <class Config>
nvfp4_launch_shape launch_shape(nvfp4_spec const& spec, int rows, detail::Residency const& residency) {
  return shape_of<Config>(params_of<Config>(arguments<Config>(detail::products(spec, rows), residency)));
}

template <class Config>
void encode_io(detail::KernelInstance const& kernel, detail::TensorMapEncoder const& encoder, nvfp4_spec const& spec,
               nvfp4_io const& io, detail::Residency const& residency, detail::ParamsBytes const& encoded,
               detail::Launches& launches) {
  using Params = typename Config::Kernel::Params;
  static_assert(std::is_trivially_copyable_v<Params> && sizeof(Params) <= sizeof(detail::ParamsBytes::bytes),
                "the parameter is handed over as bytes");
  auto args = arguments<Config>(detail::products(spec, io.rows), residency);
  Encoded<Config> weights;
  std::memcpy(&weights, encoded.bytes, sizeof(weights));
  args.mainloop = weights.maps;
  OperandMaps<Config>::encode_activations(encoder, spec, io, args.mainloop);
  args.epilogue = {weights.glu, detail::output_of(spec, io), {weights.bias[0], weights.bias[1]},
                   io.alpha1,   io.alpha2,                   io.factor1,
                   io.factor2};
  Params const params = params_of<Config>(args);

  detail::Launch& launch = launches.list[0];
  launches.count = 1;
  launch.function = kernel.function;
  launch.role = "";
  launch.programmatic = spec.programmatic_launch != 0;
  launch.shape = shape_of<Config>(params);
  std::memcpy(launch.params.bytes, &params, sizeof(params));  // the type may want more alignment than the memory has
}

template <class Config>
detail::KernelInstance instance(char const* name, void const* function) {
  using Kernel = typename Config::Kernel;
  nvfp4_kernel_info info{};
  info.name = name;
  info.mainloop = Config::kMainloop;
  info.scheduler = Config::kScheduler;
  info.weights =
      Config::kMainloop == NVFP4_MAINLOOP_INTERLEAVED ? NVFP4_WEIGHTS_INTERLEAVED : NVFP4_WEIGHTS_SEPARATE;
  info.activations = NVFP4_DATA_TYPE_NVFP4;
  info.compute_capability = 100;
  info.family = NVFP4_SM100_FAMILY;
  info.sms = Config::kSms;
  info.tile_m = Config::kTileM;
  info.tile_n = Config::kTileN;
  info.tile_k = NVFP4_TILE_K;
  info.cluster_m = Config::kClusterM;
  info.cluster_n = Config::kClusterN;
  info.threads = Kernel::MaxThreadsPerBlock;
  info.stages = Config::kStages;
  info.accumulator_stages = Config::CollectiveMainloop::TensorMemory::kStages;
  info.smem_bytes = Kernel::SharedStorageSize;
  info.tmem_columns = Config::TmemColumns::kTotal;
  info.params_bytes = sizeof(typename Kernel::Params);
  return {info, function, nullptr, nullptr, &encode_weights<Config>, &launch_shape<Config>, &encode_io<Config>};
}

}  // namespace nvfp4::sm100
