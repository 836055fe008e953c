// The host's side of a compiled kernel: its row of the table, and its parameter and launch shape for given operands.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <type_traits>

#include "grid_limits.hpp"
#include "instance.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "sm100/kernel.hpp"
#include "tensor_map_encoder.hpp"

namespace nvfp4::sm100 {

// A tensor map that could not be encoded stays zero.
inline void require_encoded(cute::TmaDescriptor const& map, char const* operand) {
  static constexpr unsigned char kZeros[sizeof(map)] = {};
  if (std::memcmp(&map, kZeros, sizeof(map)) == 0) {
    throw Error(NVFP4_STATUS_CUDA, 0, std::string("cuTensorMapEncodeTiled refused the tensor map of ") + operand);
  }
}

template <class Params>
void require_encoded(Params const& params) {
  static constexpr char const* kCodes[] = {"B1", "B2"};
  static constexpr char const* kScales[] = {"the scales of B1", "the scales of B2"};
  require_encoded(params.tma_a, "A");
  require_encoded(params.tma_sfa, "the scales of A");
  for (std::size_t matrix = 0; matrix < std::size(params.tma_b); ++matrix) {
    require_encoded(params.tma_b[matrix], kCodes[matrix]);
    require_encoded(params.tma_sfb[matrix], kScales[matrix]);
  }
}

template <class Config>
void require_schedulable(nvfp4_problem const& problem) {
  struct Row {
    int sms, tile_m, tile_n, cluster_m, cluster_n;
  };
  constexpr Row kRow{Config::kSms, Config::kTileM, Config::kTileN, Config::kClusterM, Config::kClusterN};
  detail::TileGrid const grid = detail::tile_grid(problem, kRow);
  if (!detail::schedulable(grid, Config::kScheduler)) {
    throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0,
                "too many tiles: " + std::to_string(grid.m) + " x " + std::to_string(grid.n) + " x " +
                    std::to_string(grid.batch) + " CTAs");
  }
}

template <class Config>
void encode(nvfp4_config const& config, nvfp4_operands const& operands, detail::Residency const& residency,
            detail::EncodedPlan& plan) {
  using Kernel = typename Config::Kernel;
  using Params = typename Kernel::Params;
  static_assert(std::is_trivially_copyable_v<Params>, "the parameter is handed over as bytes");

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
  require_schedulable<Config>(config.problem);

  typename Kernel::Arguments args{};
  args.mode = cutlass::gemm::GemmUniversalMode::kGemm;
  args.problem_shape = Config::problem_shape(config.problem);
  args.mainloop = {operands.a_codes,  operands.a_scales, operands.b1_codes,
                   operands.b1_scales, operands.b2_codes, operands.b2_scales};
  args.epilogue = {config.gate,          config.output,        operands.alpha1, operands.alpha2,
                   operands.alpha1_ptr, operands.alpha2_ptr, operands.c};
  args.hw_info.sm_count = clusters * kClusterSize;
  args.hw_info.max_active_clusters = clusters;
  args.hw_info.cluster_shape = dim3(Config::kClusterM, Config::kClusterN, 1);
  args.hw_info.cluster_shape_fallback = args.hw_info.cluster_shape;
  if (!Kernel::can_implement(args)) {
    throw Error(NVFP4_STATUS_CUTLASS, 0,
                std::string("CUTLASS: ") + cutlass::cutlassGetStatusString(cutlass::Status::kErrorInvalidProblem));
  }

  // CUTLASS asks the runtime for it as well and, where that fails, prints and goes on.
  static_cast<void>(detail::tensor_map_encoder());
  Params const params = Kernel::to_underlying_arguments(args, nullptr);
  require_encoded(params.mainloop);
  std::memcpy(plan.params, &params, sizeof(params));  // the type may want more alignment than the memory has

  dim3 const grid = Kernel::get_grid_shape(params);
  dim3 const block = Kernel::get_block_shape();
  plan.shape = {{grid.x, grid.y, grid.z},
                {block.x, block.y, block.z},
                {Config::kClusterM, Config::kClusterN, 1},
                static_cast<std::uint32_t>(Kernel::SharedStorageSize)};
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
  info.compute_capability = 100;
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
  return {info, function, nullptr, 0, nullptr, &encode<Config>};
}

}  // namespace nvfp4::sm100
