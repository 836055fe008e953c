// How the CTAs of a cluster share the work.
#pragma once

#include "nvfp4_dual_gemm/abi.h"

namespace nvfp4::sm90 {

struct TileShape {
  int tokens, columns, k;
};

struct Arrangement {
  int splits;     // CTAs that share the K of a tile of C
  int multicast;  // neighbouring tiles of columns that share their tokens

  constexpr int cluster_size() const { return splits * multicast; }
};

// Portable clusters have at most eight CTAs (CUDA programming guide, thread block clusters).
inline constexpr int kMaxCluster = 8;

// The arrangement with the least modelled time. max_clusters[s]: clusters of s CTAs that are resident at once; 0: none.
// Pure; src/select_sm90.cpp has the model.
Arrangement arrange(nvfp4_problem const& problem, TileShape const& tile, int const (&max_clusters)[kMaxCluster + 1]);

}  // namespace nvfp4::sm90
