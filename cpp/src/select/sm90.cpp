// Which kernel a shape gets on Hopper, and which cluster: the least time of a model whose constants were measured on an
// H100 80GB HBM3 (docs/hopper-tuning.md). Pure.
#include "select/sm90.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "registry/table.hpp"
#include "select/sm90_tile.hpp"
#include "support/integer.hpp"

namespace nvfp4::sm90 {

namespace {

using detail::ceil_ratio;

constexpr double kClocksPerMicrosecond = 1780;  // under load
constexpr double kBytesPerMicrosecond = 2.5e6;  // of packed weights, from DRAM

// Of a warpgroup and 64 of K. Two clocks a token multiply; widening takes a share of the tensor cores' time, which the
// warpgroups divide, and all of it where tokens are few.
constexpr double kMultiplyClocksPerToken = 2;
constexpr double kWidenClocks = 175;
constexpr double kWidenClocksExposed = 140;  // with up to 128 tokens; behind 256 they are hidden

// Of a tile, in microseconds: until the first stage is there, the exchange of sums between the CTAs that split K, and
// the elements of C that are written in one.
constexpr double kPrologue = 2.5;
constexpr double kExchange = 0.9;
constexpr double kExchangeBytesPerMicrosecond = 50e3;
constexpr double kElementsPerMicrosecond = 5.8e3;

// SMs that clusters of three and more can use: they do not divide the GPCs.
constexpr double kShareOfSms = 0.89;

double microseconds(nvfp4_shape const& shape, TileShape const& tile, int splits, int clusters_at_once) {
  double const token_tiles = ceil_ratio(shape.m, tile.tokens);
  double const column_tiles = ceil_ratio(shape.n, tile.columns);
  double const waves = ceil_ratio(token_tiles * column_tiles * shape.batch, clusters_at_once);

  double const warpgroups = tile.columns / 32;
  double const exposed = tile.tokens < 256 ? kWidenClocksExposed / warpgroups : 0;
  double const multiply = kMultiplyClocksPerToken * tile.tokens + exposed;
  double const groups = ceil_ratio(ceil_ratio(shape.k, tile.k), splits) * tile.k / 64;
  double const mainloop = groups * warpgroups * std::max(multiply, kWidenClocks) / kClocksPerMicrosecond;

  double const elements = static_cast<double>(tile.tokens) * tile.columns;
  double const exchange = splits == 1 ? 0 : kExchange + elements * 2 * sizeof(float) / kExchangeBytesPerMicrosecond;
  double const epilogue = exchange + elements / splits / kElementsPerMicrosecond;

  double const weights = 2.0 * shape.batch * shape.n * shape.k * (0.5 + 1.0 / NVFP4_SCALE_BLOCK);
  return std::max(waves * (kPrologue + mainloop + epilogue), kPrologue + weights / kBytesPerMicrosecond + epilogue);
}

struct Choice {
  int splits;  // 0: none
  double microseconds;
};

// The cluster that a plan takes: both the selection and the encoder ask here.
Choice choose(nvfp4_shape const& shape, TileShape const& tile, detail::Residency const& residency) {
  Choice best{0, 0};
  double const k_tiles = ceil_ratio(shape.k, tile.k);
  double const tiles = ceil_ratio(shape.m, tile.tokens) * ceil_ratio(shape.n, tile.columns) * shape.batch;
  for (int splits = 1; splits <= detail::kMaxCluster && splits <= k_tiles; ++splits) {
    if (ceil_ratio(k_tiles, splits) * tile.k > tile.most_k() || residency.max_clusters[splits] < 1) continue;
    if (tiles * splits > std::numeric_limits<std::int32_t>::max()) break;  // of the grid
    int const clusters = std::min(residency.max_clusters[splits], residency.sm_count / splits);
    // The fewest that K allows are taken even where the SMs hold no such cluster.
    if (clusters < 1 && best.splits != 0) continue;
    double const time = microseconds(shape, tile, splits, std::max(1, clusters));
    if (best.splits == 0 || time < best.microseconds) best = {splits, time};
  }
  return best;
}

}  // namespace

int splits(nvfp4_shape const& shape, TileShape const& tile, detail::Residency const& residency) {
  return choose(shape, tile, residency).splits;
}

detail::Residency usual_residency(int sm_count) noexcept {
  detail::Residency residency{sm_count, {}};
  for (int size = 1; size <= detail::kMaxCluster; ++size) {
    double const share = size > 2 ? kShareOfSms : 1.0;
    residency.max_clusters[size] = std::max(1, static_cast<int>(share * sm_count / size));
  }
  return residency;
}

int select_kernel(GemmShape const& shape, detail::Operands const& operands,
                  detail::Residencies const& residencies) noexcept {
  int best = detail::kNoKernel;
  double least = 0;
  for (int i = 0; i < detail::kKernelCount; ++i) {
    detail::KernelRow const& row = detail::kKernelTable[i];
    if (row.compute_capability != 90 || !operands.taken_by(row)) continue;
    Choice const choice =
        choose(shape, {row.tile_m, row.tile_n, row.tile_k}, residencies[static_cast<std::size_t>(i)]);
    if (choice.splits == 0) continue;
    double const time = choice.microseconds;
    // Larger tiles come first in the table: of equal times the smaller one loads less.
    if (best == detail::kNoKernel || time <= least) {
      best = i;
      least = time;
    }
  }
  return best;
}

}  // namespace nvfp4::sm90
