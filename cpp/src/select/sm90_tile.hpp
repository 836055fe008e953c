// What the host must know of the tiles of Hopper's kernels.
#pragma once

#include "nvfp4_dual_gemm/types.h"
#include "registry/instance.hpp"

namespace nvfp4::sm90 {

// Where tokens are so few, a CTA widens those of all its K before the first stage and keeps them: up to this K. Other
// tiles get them a stage at a time, from a kernel that widens A ahead.
inline constexpr int kResidentTokens = 8;
inline constexpr int kResidentK = 4096;

struct TileShape {
  int tokens, columns, k;

  // The most of K that a CTA takes.
  constexpr int most_k() const { return tokens <= kResidentTokens ? kResidentK : 0x7fffffff; }
};

// How many CTAs, a cluster, share the K of a tile of C: as the least modeled time has it, at most `kMaxCluster`; 0 where
// K is more than so many may take, or the device takes no cluster that is large enough. Pure; src/select/sm90.cpp has the
// model.
int splits(nvfp4_shape const& shape, TileShape const& tile, detail::Residency const& residency);

}  // namespace nvfp4::sm90
