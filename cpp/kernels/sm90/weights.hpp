// What a consumer's thread has of the weights of a group: from a stage to the words of its fragment.
//
// A fragment is four registers for each of four instructions. Registers 0 and 2 are the thread's row of the gate, 1 and 3
// that of the up projection.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cutlass/cutlass.h"
#include "sm90/tile.hpp"
#include "sm90/widening.hpp"

namespace nvfp4::sm90 {

// Where 16 bytes of codes of a column lie in a stage: piece 2g is the first half of group g. In swizzled rows the number
// of a piece is exclusive-ored with bits 7.. of the address: two bits where rows have 64 bytes, three where they have 128.
template <class Tile>
CUTLASS_DEVICE int piece_offset(int column, int piece) {
  int const swizzle = Tile::kTileK == 64 ? 0 : Tile::kTileK == 128 ? column / 2 % 4 : column % 8;
  return column * (Tile::kTileK / 2) + (piece ^ swizzle) * 16;
}

// The four scale factors of group 0 of a row, counted from the first row of the stage's atoms.
template <class Tile>
CUTLASS_DEVICE int scales_offset(int row) {
  return row / NVFP4_SCALE_ATOM_ROWS * (Tile::kGroups * NVFP4_SCALE_ATOM_BYTES) + row % 32 * 16 +
         row % NVFP4_SCALE_ATOM_ROWS / 32 * 4;
}

// In the K order of owners: of each of its two rows a thread has one scale block.
template <class Tile>
class OwnedWeights {
  using Scheme = Activations<Tile::kActivations>;
  using Scales = typename Scheme::Scales;
  using Stages = typename Tile::Stages;
  static constexpr int kOwnGroups = Tile::kGroups / Tile::kSlices;  // of a stage

 public:
  struct Codes {
    uint2 gate, up;
    std::uint32_t gate_scale, up_scale;
  };

  // `row`: of `column`, counted from the first row of the stage's atoms.
  CUTLASS_DEVICE OwnedWeights(int column, int row, int owner, int slice) {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kOwnGroups; ++i) {
      int const group = i * Tile::kSlices + slice;
      code_offset_[i] = piece_offset<Tile>(column, group * 2 + owner / 2) + owner % 2 * 8;
    }
    scale_offset_ = scales_offset<Tile>(row) + owner + slice * NVFP4_SCALE_ATOM_BYTES;
  }

  CUTLASS_DEVICE Codes load(Stages const& stages, int stage, int own_group) const {
    std::uint8_t const(&codes)[2][Tile::kCodeBytes] = stages.codes[stage];
    std::uint8_t const(&scales)[2][Tile::kScaleBytes] = stages.scales[stage];
    int const scale_offset = scale_offset_ + own_group * Tile::kSlices * NVFP4_SCALE_ATOM_BYTES;
    return {*reinterpret_cast<uint2 const*>(&codes[0][code_offset_[own_group]]),
            *reinterpret_cast<uint2 const*>(&codes[1][code_offset_[own_group]]), scales[0][scale_offset],
            scales[1][scale_offset]};
  }

  template <class Words>
  CUTLASS_DEVICE void widen_group(Words&& words, Codes const& codes, Stages const&, int, int) const {
    Scales const scales = Scheme::widen_scales(codes.gate_scale | codes.up_scale << 16);
    widen_row(words, 0, codes.gate.x, Scheme::first(scales));
    widen_row(words, 1, codes.up.x, Scheme::second(scales));
    widen_row(words, 8, codes.gate.y, Scheme::first(scales));
    widen_row(words, 9, codes.up.y, Scheme::second(scales));
  }

 private:
  // A word of one row: registers r and r + 2 of two instructions of four registers each.
  template <class Words>
  static CUTLASS_DEVICE void widen_row(Words&& words, int first, std::uint32_t codes, Scales scale) {
    Pairs const pairs = widen(codes, scale);
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < 4; ++i) {
      words(first + i * 2) = pairs.pair[i];
    }
  }

  int code_offset_[kOwnGroups];
  int scale_offset_;
};

// In natural K order: of each of its two rows a thread has a byte of every word, and four scale factors.
//
// The four threads of a row load the same 16 bytes and select theirs, which takes four instructions for two codes, beside
// their product, where owners take 2.75. What that saves is a kernel that permutes the tokens ahead, with its launch and its
// workspace.
template <class Tile>
class NaturalWeights {
  using Scheme = Activations<Tile::kActivations>;
  using Scales = typename Scheme::Scales;
  using Stages = typename Tile::Stages;
  static constexpr int kOwnGroups = Tile::kGroups / Tile::kSlices;  // of a stage

 public:
  // The first half of a group. The second is loaded while this one is widened: registers are scarce.
  struct Codes {
    uint4 gate, up;
    std::uint32_t gate_scales, up_scales;
  };

  CUTLASS_DEVICE NaturalWeights(int column, int row, int owner, int slice) : selector_(byte_selector(owner)) {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kOwnGroups; ++i) {
      code_offset_[i] = piece_offset<Tile>(column, (i * Tile::kSlices + slice) * 2);
    }
    scale_offset_ = scales_offset<Tile>(row) + slice * NVFP4_SCALE_ATOM_BYTES;
  }

  CUTLASS_DEVICE Codes load(Stages const& stages, int stage, int own_group) const {
    int const scale_offset = scale_offset_ + own_group * Tile::kSlices * NVFP4_SCALE_ATOM_BYTES;
    auto const scales = [&](int matrix) {
      return *reinterpret_cast<std::uint32_t const*>(&stages.scales[stage][matrix][scale_offset]);
    };
    int const offset = code_offset_[own_group];
    return {piece(stages, stage, 0, offset), piece(stages, stage, 1, offset), scales(0), scales(1)};
  }

  // With `codes` from `load` of the same stage and group.
  template <class Words>
  CUTLASS_DEVICE void widen_group(Words&& words, Codes const& codes, Stages const& stages, int stage,
                                  int own_group) const {
    int const offset = code_offset_[own_group] ^ 16;  // the other piece of the group, swizzled or not
    uint4 const gate = piece(stages, stage, 0, offset), up = piece(stages, stage, 1, offset);
    // Instruction i has scale block i: of blocks 0 and 2, and of 1 and 3.
    Scales const gate_scales[] = {Scheme::widen_scales(codes.gate_scales),
                                  Scheme::widen_scales(codes.gate_scales >> 8)};
    Scales const up_scales[] = {Scheme::widen_scales(codes.up_scales), Scheme::widen_scales(codes.up_scales >> 8)};
    widen_instruction(words, 0, codes.gate.x, codes.gate.y, Scheme::first(gate_scales[0]));
    widen_instruction(words, 1, codes.up.x, codes.up.y, Scheme::first(up_scales[0]));
    widen_instruction(words, 4, codes.gate.z, codes.gate.w, Scheme::first(gate_scales[1]));
    widen_instruction(words, 5, codes.up.z, codes.up.w, Scheme::first(up_scales[1]));
    widen_instruction(words, 8, gate.x, gate.y, Scheme::second(gate_scales[0]));
    widen_instruction(words, 9, up.x, up.y, Scheme::second(up_scales[0]));
    widen_instruction(words, 12, gate.z, gate.w, Scheme::second(gate_scales[1]));
    widen_instruction(words, 13, up.z, up.w, Scheme::second(up_scales[1]));
  }

 private:
  static CUTLASS_DEVICE uint4 piece(Stages const& stages, int stage, int matrix, int offset) {
    return *reinterpret_cast<uint4 const*>(&stages.codes[stage][matrix][offset]);
  }

  // Registers r and r + 2 of an instruction.
  template <class Words>
  CUTLASS_DEVICE void widen_instruction(Words&& words, int first, std::uint32_t low, std::uint32_t high,
                                        Scales scale) const {
    BytePairs const pairs = widen_bytes(low, high, selector_, scale);
    words(first) = pairs.pair[0];
    words(first + 2) = pairs.pair[1];
  }

  int code_offset_[kOwnGroups];
  int scale_offset_;
  std::uint32_t selector_;
};

template <class Tile>
using ThreadWeights = std::conditional_t<Tile::kNaturalOrder, NaturalWeights<Tile>, OwnedWeights<Tile>>;

}  // namespace nvfp4::sm90
