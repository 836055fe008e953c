// The kernel's parameter, and which part of the work a CTA has.
#pragma once

#include <cstdint>

#include "cute/arch/cluster_sm90.hpp"
#include "cute/arch/copy_sm90_desc.hpp"
#include "cutlass/cutlass.h"
#include "epilogue/gate_math.hpp"
#include "nvfp4_dual_gemm/abi.h"

namespace nvfp4::sm90 {

struct Params {
  cute::TmaDescriptor tokens;     // fp16: k in groups, row, batch
  cute::TmaDescriptor codes[2];   // gate, up; bytes: k / 2, row, batch
  cute::TmaDescriptor scales[2];  // words of atoms along k, row of atoms, batch
  int m, n;
  int k_tiles;        // of kTileK
  int token_tiles;    // of kTokens
  int column_groups;  // of `multicast` tiles of columns
  int splits;         // CTAs of a cluster that share the K of one tile of C
  int multicast;      // tiles of columns in a cluster, whose CTAs share their tokens
  detail::GateConstants gate;
  nvfp4_output output;
  bool whole_rows;  // rows of C begin at multiples of 16 bytes
  float alpha1, alpha2;
  float const *alpha1_ptr, *alpha2_ptr;  // multiply alpha1 and alpha2; may be null
  char* c;
};

// A cluster is `multicast` neighbouring tiles of columns times `splits` parts of K, the latter next to each other.
// Clusters of the same columns follow each other, so that weights are read from global memory once.
struct Place {
  int split, column_of_cluster;
  int token_tile, column_tile, batch;
  int k_begin, k_end;  // in tiles

  CUTLASS_DEVICE explicit Place(Params const& params) {
    int const size = params.splits * params.multicast;
    int const rank = static_cast<int>(blockIdx.x) % size;
    int cluster = static_cast<int>(blockIdx.x) / size;
    split = rank % params.splits;
    column_of_cluster = rank / params.splits;
    token_tile = cluster % params.token_tiles;
    cluster /= params.token_tiles;
    column_tile = cluster % params.column_groups * params.multicast + column_of_cluster;
    batch = cluster / params.column_groups;
    k_begin = params.k_tiles * split / params.splits;
    k_end = params.k_tiles * (split + 1) / params.splits;
  }
};

}  // namespace nvfp4::sm90
