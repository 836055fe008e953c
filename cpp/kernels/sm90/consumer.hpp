// A warpgroup that widens its 64 rows of weights in registers and multiplies them by the tokens.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cute/atom/mma_atom.hpp"
#include "cute/atom/mma_traits_sm90_gmma.hpp"
#include "cute/tensor.hpp"
#include "sm90/params.hpp"
#include "sm90/promoted_accumulator.hpp"
#include "sm90/tile.hpp"
#include "sm90/weights.hpp"
#include "sm90/wide_promoted_accumulator.hpp"

namespace nvfp4::sm90 {

template <int kTokens, class Element>
struct WeightsByTokens;
#define NVFP4_WEIGHTS_BY_TOKENS_OF(tokens, element, types)                        \
  template <>                                                                     \
  struct WeightsByTokens<tokens, element> {                                       \
    using Op = cute::SM90_64x##tokens##x16_##types##_RS<cute::SM90::GMMA::Major::K, \
                                                        cute::SM90::GMMA::Major::K>; \
  };
#define NVFP4_WEIGHTS_BY_TOKENS(tokens)                                   \
  NVFP4_WEIGHTS_BY_TOKENS_OF(tokens, cutlass::half_t, F32F16F16)          \
  NVFP4_WEIGHTS_BY_TOKENS_OF(tokens, cutlass::bfloat16_t, F32BF16BF16)
NVFP4_WEIGHTS_BY_TOKENS(8)
NVFP4_WEIGHTS_BY_TOKENS(16)
NVFP4_WEIGHTS_BY_TOKENS(32)
NVFP4_WEIGHTS_BY_TOKENS(64)
NVFP4_WEIGHTS_BY_TOKENS(128)
NVFP4_WEIGHTS_BY_TOKENS(256)
#undef NVFP4_WEIGHTS_BY_TOKENS
#undef NVFP4_WEIGHTS_BY_TOKENS_OF

// Sums of widened tokens have a range that is known. Those of other activations may be of any size, which takes two bytes
// of each where there are registers for them, beside the sums and two fragments.
template <class Tile>
inline constexpr bool kRoomToPromote =
    registers(Tile::kWarpgroups).consumer - Tile::kTokens / 2 - 2 * 16 - Tile::kTokens / 4 >= 40;
template <class Tile>
using Promoted = std::conditional_t<
    Tile::kActivations == NVFP4_DATA_TYPE_NVFP4, PromotedAccumulator<Tile::kTokens / 2>,
    std::conditional_t<kRoomToPromote<Tile>, WidePromotedAccumulator<Tile::kTokens / 2>,
                       ScaledPromotedAccumulator<Tile::kTokens / 2>>>;

// Weights are the M operand, from registers; tokens are N, from shared memory. Rows j and j + 8 of a warp's sixteen are
// column j of the gate and of the up projection, so that a thread gets both sums of an element: accumulator registers
// 4u..4u+3 are tokens 8u + 2c and 8u + 2c + 1 of the gate, then of the up projection.
template <class Tile>
class Consumer {
  using SharedStorage = typename Tile::SharedStorage;
  using TiledMma = decltype(cute::make_tiled_mma(
      typename WeightsByTokens<Tile::kTokens, typename Tile::Element>::Op{}));
  using Element = typename Tile::Element;
  using TokenAtom = cute::SM90::GMMA::Layout_K_SW128_Atom<Element>;
  using TokenLayout = decltype(cute::tile_to_shape(
      TokenAtom{},
      cute::Shape<cute::Int<Tile::kTokens>, cute::Int<kGroupK>, cute::Int<Tile::kTokenGroups>>{}));
  static constexpr int kInstructions = kGroupK / 16;
  static constexpr int kOwnGroups = Tile::kGroups / Tile::kSlices;  // of a stage
  // See PromotedAccumulator. Where tokens are few, longer chains save nothing.
  static constexpr int kChainGroups = Tile::kTokens < 128 ? 16 : 20;

 public:
  static constexpr int kAccumulators = Tile::kTokens / 2;  // of a thread

  CUTLASS_DEVICE Consumer(Params const& params, typename Tile::Coordinates const& coordinates, SharedStorage& shared,
                          int warpgroup)
      : params_(params), shared_(shared), lane_(static_cast<int>(threadIdx.x) % 32),
        k_tiles_(coordinates.k_end - coordinates.k_begin), tile_(0), stage_(0), phase_(0),
        slice_(Tile::kSlices == 1 ? 0 : warpgroup / Tile::kColumnWarpgroups),
        weights_(weights_of(coordinates, warpgroup)) {}

  // The sums of all K of this CTA, in units of Tile::kSumUnit.
  CUTLASS_DEVICE void run(float (&sums)[kAccumulators]) {
    using namespace cute;
    TiledMma mma;
    Tensor tokens = make_tensor(make_smem_ptr(reinterpret_cast<Element*>(shared_.stages.tokens)), TokenLayout{});
    Tensor token_fragments = mma.get_slice(0).partition_fragment_B(tokens);  // descriptors: (N, 1, k, slot)
    Tensor accumulator = make_tensor(make_rmem_ptr(&sums[0]),
                                     partition_shape_C(mma, Shape<_64, Int<Tile::kTokens>>{}));
    static_assert(decltype(size(accumulator))::value == kAccumulators, "another accumulator than expected");
    using Fragment = decltype(make_tensor<Element>(Shape<Shape<_2, _2, _2>, _1, Int<kInstructions>>{}));
    Fragment fragments[2];
    mma.accumulate_ = GMMA::ScaleOut::Zero;

    // The tensor cores multiply one group while the next is widened into the other fragment. A warp that issues an
    // instruction with operands in registers waits until the tensor cores take it: codes of the next group are on their
    // way from shared memory meanwhile.
    shared_.full[stage_].wait(phase_);
    auto codes = weights_.load(shared_.stages, stage_, 0);
    auto const step = [&](Fragment& fragment, auto own_group, bool first, bool last) {
      constexpr int kGroup = decltype(own_group)::value;
      constexpr int kNext = (kGroup + 1) % kOwnGroups;
      weights_.widen_group(recast<std::uint32_t>(fragment), codes, shared_.stages, stage_, kGroup);
      int const stage = stage_;
      int const slot = (Tile::kResident ? tile_ : stage) * Tile::kGroups + kGroup * Tile::kSlices + slice_;
      if (kNext == 0) {
        advance();
      }
      if (!last) {
        if (kNext == 0) {
          shared_.full[stage_].wait(phase_);
        }
        codes = weights_.load(shared_.stages, stage_, kNext);
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
    Promoted<Tile> promoted;
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
  static CUTLASS_DEVICE ThreadWeights<Tile> weights_of(typename Tile::Coordinates const& coordinates, int warpgroup) {
    int const lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32 % 4;
    int const column = warpgroup % Tile::kColumnWarpgroups * kWarpgroupColumns + warp * 8 + lane / 4;
    int const first = coordinates.column_tile * Tile::kColumns % NVFP4_SCALE_ATOM_ROWS;
    return {column, first + column, lane % 4, warpgroup / Tile::kColumnWarpgroups};
  }

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

  Params const& params_;
  SharedStorage& shared_;
  int lane_, k_tiles_, tile_, stage_;
  std::uint32_t phase_;
  int slice_;
  ThreadWeights<Tile> weights_;
};

}  // namespace nvfp4::sm90
