// The tile of one CTA: what is in shared memory, and who works on it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cutlass/arch/barrier.h"
#include "cutlass/cutlass.h"
#include "nvfp4_dual_gemm/types.h"
#include "select/sm90_tile.hpp"
#include "sm90/activations.hpp"
#include "sm90/params.hpp"
#include "sm90/row_store.hpp"
#include "sm90/tile_coordinates.hpp"

namespace nvfp4::sm90 {

// K that four threads of a fragment's row hold between them: 8 bytes of codes, one scale block each. A row of widened
// tokens is one 128-byte swizzled row long.
inline constexpr int kGroupK = 64;
inline constexpr int kGroupCodeBytes = kGroupK / 2;
inline constexpr int kGroupTokenBytes = kGroupK * 2;
static_assert(kGroupK == NVFP4_SCALE_ATOM_BLOCKS * NVFP4_SCALE_BLOCK, "a group of K is one atom of scale factors");

// A warpgroup's fragment has 64 rows: these columns of the gate, and the same of the up projection.
inline constexpr int kWarpgroupColumns = 32;

// Registers of a thread after setmaxnreg, by the number of consumer warpgroups.
struct Registers {
  int producer, consumer;
};
constexpr Registers registers(int warpgroups) {
  return warpgroups <= 2 ? Registers{40, 232} : warpgroups == 3 ? Registers{32, 160} : Registers{32, 112};
}

// What a thread has at launch, where there is one CTA on the SM: registers come in eights, 65536 of them on an SM.
constexpr int registers_at_launch(int threads) { return std::min(65536 / threads, 255) / 8 * 8; }

// kTokens rows of C by kColumns columns, and kTileK of K in a stage, whose groups kSlices warpgroups of the same columns
// take in turns. Activations: the type of A. Coordinates: which tile a CTA has. Sink: how elements of C leave it.
template <int kTokens_, int kColumns_, int kTileK_, int kSlices_,
          nvfp4_data_type kActivations_ = NVFP4_DATA_TYPE_NVFP4, class Coordinates_ = GridCoordinates,
          class Sink_ = RowStore>
struct Tile {
  static constexpr nvfp4_data_type kActivations = kActivations_;
  using Element = typename Activations<kActivations>::Element;  // of tokens in shared memory, and of widened weights
  static constexpr float kSumUnit = Activations<kActivations>::kSumUnit;
  using Coordinates = Coordinates_;
  using Sink = Sink_;
  static constexpr int kTokens = kTokens_;
  static constexpr int kColumns = kColumns_;
  static constexpr int kTileK = kTileK_;
  static constexpr int kSlices = kSlices_;
  static constexpr int kGroups = kTileK / kGroupK;
  static constexpr int kColumnWarpgroups = kColumns / kWarpgroupColumns;
  static constexpr int kWarpgroups = kColumnWarpgroups * kSlices;
  static constexpr int kConsumers = kWarpgroups * 128;
  static constexpr int kThreads = kConsumers + 128;
  static_assert(registers(kWarpgroups).producer * 128 + registers(kWarpgroups).consumer * kConsumers <=
                    registers_at_launch(kThreads) * kThreads,
                "setmaxnreg waits for registers that the CTA was not launched with");
  static_assert(kTokens % 8 == 0 && kTokens <= 256, "N of a wgmma");
  static_assert(kColumns % kWarpgroupColumns == 0 && kWarpgroups >= 1 && kWarpgroups <= 4, "one to four warpgroups");
  static_assert(kTileK == 64 || kTileK == 128 || kTileK == 256, "a row of codes is 32 bytes, or a swizzled row of more");
  static_assert(kGroups % kSlices == 0, "each slice has the same groups of every stage");

  // Rows of atoms that columns [i * kColumns, (i + 1) * kColumns) touch, at most.
  static constexpr int kScaleAtoms = NVFP4_SCALE_ATOM_ROWS % kColumns == 0 ? 1 : 2;

  static constexpr bool kResident = kTokens <= kResidentTokens;
  // Another kernel widens A ahead. Values are loaded as they are, and in their own order of K.
  static constexpr bool kWidenedAhead = !kResident && kActivations == NVFP4_DATA_TYPE_NVFP4;
  static constexpr bool kNaturalOrder = !kResident && kActivations != NVFP4_DATA_TYPE_NVFP4;
  static constexpr int kTokenBytes = kResident ? 0 : kTokens * kTileK * 2;  // of a stage
  static constexpr int kResidentGroups = kResident ? kResidentK / kGroupK : 0;
  static constexpr int kResidentBytes = kResidentGroups * kTokens * kGroupTokenBytes;
  static constexpr int kCodeBytes = kColumns * kTileK / 2;  // of one matrix
  static constexpr int kScaleBytes = kScaleAtoms * kGroups * NVFP4_SCALE_ATOM_BYTES;
  static constexpr int kWeightBytes = 2 * kCodeBytes + 2 * kScaleBytes;
  static constexpr int kStageBytes = kTokenBytes + kWeightBytes;
  static constexpr int kBarrierBytes = 1024;
  // Where resident tokens leave room, the epilogue has memory of its own: what other CTAs send then need not wait until
  // this one has read its stages. Two fragments of 8 tokens by 32 columns, or the partials of one from all slices of a
  // cluster.
  static constexpr int kEpilogueBytes = kResident ? 35 * 1024 : 0;
  // More than ten are slower where tiles are small enough for them (docs/hopper-tuning.md).
  static constexpr int kStages =
      std::min(10, (NVFP4_SM90_SMEM_BYTES - kBarrierBytes - kResidentBytes - kEpilogueBytes) / kStageBytes);
  static_assert(kStages >= 4, "fewer stages do not hide the latency of global memory");

  // Of tokens: `kGroups` of each stage, or of all K of the CTA.
  static constexpr int kTokenGroups = kResident ? kResidentGroups : kStages * kGroups;

  struct Stages {
    alignas(1024) std::uint8_t tokens[kTokenGroups][kTokens * kGroupTokenBytes];
    alignas(1024) std::uint8_t codes[kStages][2][kCodeBytes];  // gate, up
    alignas(128) std::uint8_t scales[kStages][2][kScaleBytes];
  };

  // What the epilogue does with its memory, see Epilogue: fragments of 8 tokens by 32 columns.
  static constexpr int kFragments = kTokens / 8 * kColumnWarpgroups;
  static constexpr int kFullBarrierArrivals = kResident ? 1 : 2;  // with the weights, and with the tokens

  struct SharedStorage {
    Stages stages;
    alignas(128) std::uint8_t own_epilogue[kResident ? kEpilogueBytes : 16];
    cutlass::arch::ClusterTransactionBarrier full[kStages];
    cutlass::arch::ClusterBarrier empty[kStages];
    cutlass::arch::ClusterTransactionBarrier exchanged;  // the other CTA's sums are here, see Epilogue::send_to_peer
    Coordinates coordinates;  // for after the main loop, which leaves no register to keep them in

    CUTLASS_DEVICE std::uint8_t* epilogue() {
      return kResident ? own_epilogue : reinterpret_cast<std::uint8_t*>(&stages);
    }
  };
  static_assert(sizeof(SharedStorage) <= NVFP4_SM90_SMEM_BYTES, "more shared memory than a CTA may have");
};

}  // namespace nvfp4::sm90
