// A warpgroup that widens its 64 rows of weights in registers and multiplies them by the tokens.
#pragma once

#include <cstdint>

#include "cute/atom/mma_atom.hpp"
#include "cute/atom/mma_traits_sm90_gmma.hpp"
#include "cute/tensor.hpp"
#include "sm90/promoted_accumulator.hpp"
#include "sm90/params.hpp"
#include "sm90/tile.hpp"
#include "sm90/widening.hpp"

namespace nvfp4::sm90 {

template <int kTokens>
struct WeightsByTokens;
#define NVFP4_WEIGHTS_BY_TOKENS(tokens)                                                       \
  template <>                                                                                 \
  struct WeightsByTokens<tokens> {                                                            \
    using Op = cute::SM90_64x##tokens##x16_F32F16F16_RS<cute::SM90::GMMA::Major::K,           \
                                                        cute::SM90::GMMA::Major::K>;          \
  };
NVFP4_WEIGHTS_BY_TOKENS(8)
NVFP4_WEIGHTS_BY_TOKENS(16)
NVFP4_WEIGHTS_BY_TOKENS(32)
NVFP4_WEIGHTS_BY_TOKENS(64)
NVFP4_WEIGHTS_BY_TOKENS(128)
NVFP4_WEIGHTS_BY_TOKENS(256)
#undef NVFP4_WEIGHTS_BY_TOKENS

// Weights are the M operand, from registers; tokens are N, from shared memory. Rows j and j + 8 of a warp's sixteen are
// column j of the gate and of the up projection, so that a thread gets both sums of an element: accumulator registers
// 4u..4u+3 are tokens 8u + 2c and 8u + 2c + 1 of the gate, then of the up projection.
template <class Tile>
class Consumer {
  using SharedStorage = typename Tile::SharedStorage;
  using TiledMma = decltype(cute::make_tiled_mma(typename WeightsByTokens<Tile::kTokens>::Op{}));
  using TokenAtom = cute::SM90::GMMA::Layout_K_SW128_Atom<cute::half_t>;
  using TokenLayout = decltype(cute::tile_to_shape(
      TokenAtom{},
      cute::Shape<cute::Int<Tile::kTokens>, cute::Int<kGroupK>, cute::Int<Tile::kTokenGroups>>{}));
  static constexpr int kInstructions = kGroupK / 16;
  static constexpr int kOwnGroups = Tile::kGroups / Tile::kSlices;  // of a stage
  // See PromotedAccumulator. Where tokens are few, longer chains save nothing.
  static constexpr int kChainGroups = Tile::kTokens < 128 ? 16 : 20;

 public:
  static constexpr int kAccumulators = Tile::kTokens / 2;  // of a thread

  CUTLASS_DEVICE Consumer(Params const& params, typename Tile::Coordinates const& coordinates, SharedStorage& shared, int warpgroup)
      : params_(params), shared_(shared), lane_(static_cast<int>(threadIdx.x) % 32),
        k_tiles_(coordinates.k_end - coordinates.k_begin), tile_(0), stage_(0), phase_(0) {
    int const owner = lane_ % 4;
    int const warp = static_cast<int>(threadIdx.x) / 32 % 4;
    int const column = warpgroup % Tile::kColumnWarpgroups * kWarpgroupColumns + warp * 8 + lane_ / 4;
    slice_ = warpgroup / Tile::kColumnWarpgroups;
    // In swizzled rows the number of a 16-byte piece is exclusive-ored with bits 7.. of the address: two bits where rows
    // have 64 bytes, three where they have 128.
    int const swizzle = Tile::kTileK == 64 ? 0 : Tile::kTileK == 128 ? column / 2 % 4 : column % 8;
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kOwnGroups; ++i) {
      int const group = i * Tile::kSlices + slice_;
      code_offset_[i] = column * (Tile::kTileK / 2) + ((group * 2 + owner / 2) ^ swizzle) * 16 + owner % 2 * 8;
    }
    int const first = coordinates.column_tile * Tile::kColumns % NVFP4_SCALE_ATOM_ROWS;
    int const row = first + column;
    scale_offset_ = row / NVFP4_SCALE_ATOM_ROWS * (Tile::kGroups * NVFP4_SCALE_ATOM_BYTES) + row % 32 * 16 +
                    row % NVFP4_SCALE_ATOM_ROWS / 32 * 4 + owner + slice_ * NVFP4_SCALE_ATOM_BYTES;
  }

  // The sums of all K of this CTA, in units of kWidenedUnit^2.
  CUTLASS_DEVICE void run(float (&sums)[kAccumulators]) {
    using namespace cute;
    TiledMma mma;
    Tensor tokens = make_tensor(make_smem_ptr(reinterpret_cast<half_t*>(shared_.stages.tokens)), TokenLayout{});
    Tensor token_fragments = mma.get_slice(0).partition_fragment_B(tokens);  // descriptors: (N, 1, k, slot)
    Tensor accumulator = make_tensor(make_rmem_ptr(&sums[0]),
                                     partition_shape_C(mma, Shape<_64, Int<Tile::kTokens>>{}));
    static_assert(decltype(size(accumulator))::value == kAccumulators, "another accumulator than expected");
    using Fragment = decltype(make_tensor<half_t>(Shape<Shape<_2, _2, _2>, _1, Int<kInstructions>>{}));
    Fragment fragments[2];
    mma.accumulate_ = GMMA::ScaleOut::Zero;

    // The tensor cores multiply one group while the next is widened into the other fragment. A warp that issues an
    // instruction with operands in registers waits until the tensor cores take it: codes of the next group are on their
    // way from shared memory meanwhile.
    shared_.full[stage_].wait(phase_);
    Codes codes = load(0);
    auto const step = [&](Fragment& fragment, auto own_group, bool first, bool last) {
      constexpr int kGroup = decltype(own_group)::value;
      constexpr int kNext = (kGroup + 1) % kOwnGroups;
      widen_group(recast<std::uint32_t>(fragment), codes);
      int const stage = stage_;
      int const slot = (Tile::kResident ? tile_ : stage) * Tile::kGroups + kGroup * Tile::kSlices + slice_;
      if (kNext == 0) {
        advance();
      }
      if (!last) {
        if (kNext == 0) {
          shared_.full[stage_].wait(phase_);
        }
        codes = load(kNext);
      }
      warpgroup_fence_operand(accumulator);
      warpgroup_fence_operand(fragment);
      warpgroup_arrive();
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kInstructions; ++i) {
        gemm(mma, fragment(_, _, i), token_fragments(_, _, i, slot), accumulator);
        mma.accumulate_ = GMMA::ScaleOut::One;
      }
      warpgroup_commit_batch();
      warpgroup_wait<1>();  // for the group before
      warpgroup_fence_operand(accumulator);
      if (kGroup == 0 && !first) {
        release(previous(stage));
      }
    };
    // An even number of groups a turn of the loop, so that each finds its fragment at compile time.
    constexpr int kStepsPerTurn = kOwnGroups == 1 ? 2 : kOwnGroups;
    constexpr int kTilesPerTurn = kStepsPerTurn / kOwnGroups;
    constexpr int kTilesPerChain = kChainGroups / kOwnGroups;
    static_assert(kTilesPerChain % kTilesPerTurn == 0);
    PromotedAccumulator<kAccumulators> promoted;
    int tile = 0;
    while (true) {
      int const end = k_tiles_ - tile < kTilesPerChain ? k_tiles_ : tile + kTilesPerChain;
      for (; tile + kTilesPerTurn <= end; tile += kTilesPerTurn) {
        for_each(make_seq<kStepsPerTurn>{}, [&](auto i) {
          step(fragments[i % 2], Int<i % kOwnGroups>{}, tile == 0 && i == 0,
               tile + kTilesPerTurn == k_tiles_ && i == kStepsPerTurn - 1);
        });
      }
      if (kTilesPerTurn > 1 && tile < end) {
        step(fragments[0], Int<0>{}, tile == 0, true);
      }
      warpgroup_wait<0>();
      warpgroup_fence_operand(accumulator);
      if (end == k_tiles_) {
        break;
      }
      promoted.promote(sums);
    }
    promoted.add_to(sums);
  }

 private:
  static CUTLASS_DEVICE int previous(int stage) { return stage == 0 ? Tile::kStages - 1 : stage - 1; }

  // All reads of the stage by this warp are over.
  CUTLASS_DEVICE void release(int stage) {
    if (lane_ == 0) {
      shared_.empty[stage].arrive();
    }
  }

  CUTLASS_DEVICE void advance() {
    if (Tile::kResident) {
      ++tile_;
    }
    if (++stage_ == Tile::kStages) {
      stage_ = 0;
      phase_ ^= 1;
    }
  }

  // A thread's part of a group: 16 codes and a scale factor of each of its two rows.
  struct Codes {
    uint2 gate, up;
    std::uint32_t gate_scale, up_scale;
  };

  CUTLASS_DEVICE Codes load(int own_group) const {
    std::uint8_t const(&codes)[2][Tile::kCodeBytes] = shared_.stages.codes[stage_];
    std::uint8_t const(&scales)[2][Tile::kScaleBytes] = shared_.stages.scales[stage_];
    int const scale_offset = scale_offset_ + own_group * Tile::kSlices * NVFP4_SCALE_ATOM_BYTES;
    return {*reinterpret_cast<uint2 const*>(&codes[0][code_offset_[own_group]]),
            *reinterpret_cast<uint2 const*>(&codes[1][code_offset_[own_group]]), scales[0][scale_offset],
            scales[1][scale_offset]};
  }

  template <class Words>
  static CUTLASS_DEVICE void widen_group(Words&& words, Codes const& codes) {
    __half2 const scale = widen_scales(codes.gate_scale | codes.up_scale << 16);
    widen_row(words, 0, codes.gate.x, __low2half2(scale));
    widen_row(words, 1, codes.up.x, __high2half2(scale));
    widen_row(words, 8, codes.gate.y, __low2half2(scale));
    widen_row(words, 9, codes.up.y, __high2half2(scale));
  }

  // A word of one row: registers r and r + 2 of two instructions of four registers each.
  template <class Words>
  static CUTLASS_DEVICE void widen_row(Words&& words, int first, std::uint32_t codes, __half2 scale) {
    Pairs const pairs = widen(codes, scale);
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < 4; ++i) {
      words(first + i * 2) = pairs.pair[i];
    }
  }

  Params const& params_;
  SharedStorage& shared_;
  int lane_, k_tiles_, tile_, stage_;
  std::uint32_t phase_;
  int code_offset_[kOwnGroups];
  int scale_offset_;
  int slice_;
};

}  // namespace nvfp4::sm90
