// How the CTAs of a cluster share the work.
#pragma once

#include "instance.hpp"

namespace nvfp4::sm90 {

struct TileShape {
  int tokens, columns, k;
};

struct Arrangement {
  int splits;     // CTAs that share the K of a tile of C
  int multicast;  // neighbouring tiles of columns that share their tokens

  constexpr int cluster_size() const { return splits * multicast; }
};

// The arrangement with the least modelled time. Pure; src/select_sm90.cpp has the model.
Arrangement arrange(nvfp4_problem const& problem, TileShape const& tile, detail::Residency const& residency);

}  // namespace nvfp4::sm90
