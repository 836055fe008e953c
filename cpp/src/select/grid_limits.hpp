// Which problems a grid has room for: for encoders, and for the selection, which must not pick a kernel that they refuse.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "nvfp4_dual_gemm/types.h"
#include "support/integer.hpp"

namespace nvfp4::detail {

// CTAs of an SM100 kernel, one for each tile and SM of an MMA, in whole clusters.
struct TileGrid {
  std::int64_t m, n, batch;
};

// `Row` has the columns of the table of kernels.
template <class Row>
constexpr TileGrid tile_grid(nvfp4_shape const& shape, Row const& row) {
  auto const ctas = [](std::int64_t extent, std::int64_t tile, std::int64_t ctas_per_tile, std::int64_t cluster) {
    return ceil_div(ceil_div(extent, tile) * ctas_per_tile, cluster) * cluster;
  };
  return {ctas(shape.m, row.tile_m, row.sms, row.cluster_m), ctas(shape.n, row.tile_n, 1, row.cluster_n),
          shape.batch};
}

// CUTLASS's schedulers count in 32 bits; cluster launch control has every tile in the grid, whose y and z end at 65535.
// Its raster may exchange x and y.
constexpr bool schedulable(TileGrid const& grid, nvfp4_scheduler scheduler) {
  std::int64_t const most = std::numeric_limits<std::int32_t>::max();
  bool const countable = grid.m <= most / grid.n / grid.batch;
  return countable && (scheduler != NVFP4_SCHEDULER_CLC ||
                       (std::max(grid.m, grid.n) <= 65535 && grid.batch <= NVFP4_MAX_BATCH));
}

}  // namespace nvfp4::detail
