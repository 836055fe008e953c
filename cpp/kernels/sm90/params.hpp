// The kernel's parameter.
#pragma once

#include <cstdint>

#include "cute/arch/copy_sm90_desc.hpp"
#include "cutlass/cutlass.h"
#include "common/glu.hpp"
#include "common/output.hpp"
#include "nvfp4_dual_gemm/types.h"

namespace nvfp4::sm90 {

// A as it comes.
struct PackedTokens {
  std::uint8_t const* codes;   // batch x rows x row_bytes
  std::uint8_t const* scales;  // 128x4 atoms of each batch
  int row_bytes, groups;       // of a row

  // The scale factors of a group: one for each of its four owners.
  CUTLASS_DEVICE std::uint8_t const* group_scales(std::int64_t batch, int rows, int row, int group) const {
    std::int64_t const row_atoms = (rows + NVFP4_SCALE_ATOM_ROWS - 1) / NVFP4_SCALE_ATOM_ROWS;
    std::int64_t const atom = (batch * row_atoms + row / NVFP4_SCALE_ATOM_ROWS) * groups + group;
    int const row_of_atom = row % NVFP4_SCALE_ATOM_ROWS;
    return scales + atom * NVFP4_SCALE_ATOM_BYTES + row_of_atom % 32 * 16 + row_of_atom / 32 * 4;
  }
};

// A of 16 bits an element.
struct TokenValues {
  std::uint8_t const* values;  // batch x rows x row_bytes
  std::int64_t row_bytes;      // from row to row
  int k;
};

struct Params {
  cute::TmaDescriptor tokens;     // of 16 bits: k, row, batch; not where they are resident
  cute::TmaDescriptor codes[2];   // gate, up; bytes: k / 2, row, batch
  cute::TmaDescriptor scales[2];  // words of atoms along k, row of atoms, batch
  int m;
  int k_tiles;        // of kTileK
  int token_tiles;    // of kTokens
  int column_tiles;   // of kColumns
  int splits;         // CTAs of a cluster, that share the K of one tile of C
  detail::GluConstants glu;
  bool whole_rows;      // rows of C's parts begin and end at multiples of 16 bytes
  bool whole_residual;  // and those of the residual
  float alpha1, alpha2;
  float const *factor1, *factor2;  // device scalars that multiply alpha1 and alpha2; may be null
  float const* bias[2];            // of x1 and x2, or both null
  PackedTokens a;                  // where tokens are resident: A in NVFP4,
  TokenValues values;              // or of 16 bits
  detail::Output c;
};

}  // namespace nvfp4::sm90
