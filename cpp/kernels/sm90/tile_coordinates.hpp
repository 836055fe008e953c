// Which part of the work a CTA has.
#pragma once

#include "cutlass/cutlass.h"

namespace nvfp4::sm90 {

// A cluster of the grid for each tile of C; its CTAs share the K of the tile. Clusters of the same columns follow each
// other, so that weights are read from global memory once.
//
// What takes its place (Tile::Coordinates) is made from the kernel's parameter and says the same of a CTA.
struct GridCoordinates {
  int split;
  int token_tile, column_tile, batch;
  int k_begin, k_end;  // in tiles

  template <class Params>
  CUTLASS_DEVICE explicit GridCoordinates(Params const& params) {
    int cluster = static_cast<int>(blockIdx.x) / params.splits;
    split = static_cast<int>(blockIdx.x) % params.splits;
    token_tile = cluster % params.token_tiles;
    cluster /= params.token_tiles;
    column_tile = cluster % params.column_tiles;
    batch = cluster / params.column_tiles;
    k_begin = params.k_tiles * split / params.splits;
    k_end = params.k_tiles * (split + 1) / params.splits;
  }
};

}  // namespace nvfp4::sm90
