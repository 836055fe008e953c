// From the sums in registers to C: the parts of K added up over the cluster, alphas, GLU, and rows of C.
//
// The unit of work is a fragment of 8 tokens by 32 columns: of each thread of a warpgroup four sums, a float4 wide. Of w
// warpgroups side by side, fragment f is tokens 8 * (f / w) and the columns of warpgroup f % w. Sums of a part of K are
// partials.
#pragma once

#include <cstdint>

#include "common/glu.hpp"
#include "common/grid_dependency.hpp"
#include "common/output.hpp"
#include "cute/arch/cluster_sm90.hpp"
#include "cutlass/arch/barrier.h"
#include "sm90/barriers.hpp"
#include "sm90/params.hpp"
#include "sm90/tile.hpp"

namespace nvfp4::sm90 {

template <class Tile>
class Epilogue {
  static constexpr int kWarpgroups = Tile::kWarpgroups;
  static constexpr int kColumnWarpgroups = Tile::kColumnWarpgroups;
  static constexpr int kFragments = Tile::kFragments;
  static constexpr int kPartialBytes = 128 * 16;  // of a fragment, from one warpgroup
  // A row of a fragment is 32 floats; the padding keeps the warps' transposed writes off each other's banks.
  static constexpr int kPitch = 32 + 4;
  static constexpr int kFragmentFloats = 8 * kPitch;
  // Where they are staged apart, x2 comes after x1.
  static constexpr int kStagedFloats = detail::kMostParts * kFragmentFloats;

  static constexpr int kPartialsBytes = kFragments * Tile::kSlices * kPartialBytes;
  static constexpr int kStagedBytes = kFragments * kStagedFloats * 4;
  // Sums of two CTAs and more are exchanged, so that none stages more than half of the fragments.
  static_assert(Tile::kResident || kPartialsBytes + kStagedBytes / (Tile::kSlices > 1 ? 1 : 2) <=
                                       static_cast<int>(sizeof(typename Tile::Stages)),
                "more than the memory of the stages");
  static_assert(!Tile::kResident ||
                    (kFragments == 2 && detail::kMaxCluster * Tile::kSlices * kPartialBytes + kStagedBytes / 2 <=
                                        Tile::kEpilogueBytes),
                "one fragment with its parts from all CTAs of a cluster, or both from this one");

  static constexpr int kPairFragments = Tile::kTokens / 16;  // of a warpgroup, for one of two CTAs
  static constexpr int kPairBytes = kWarpgroups * kPairFragments * kPartialBytes;

  struct Range {
    int begin, end;
  };

 public:
  CUTLASS_DEVICE Epilogue(Params const& params, typename Tile::Coordinates const& coordinates, std::uint8_t* memory,
                          int warpgroup)
      : params_(params), coordinates_(coordinates), memory_(memory), warpgroup_(warpgroup),
        thread_(static_cast<int>(threadIdx.x) % 128) {
    // Powers of two, so that nothing is rounded here; the alphas may be anything.
    unscale_ = 1.0f / Tile::kSumUnit;
    // Where tokens come in stages, only the thread that loads them has waited.
    detail::wait_for_prior_grids();
    alpha1_ = detail::times_scalar(params.alpha1, params.factor1);
    alpha2_ = detail::times_scalar(params.alpha2, params.factor2);
  }

  // Whether a thread's sums are those of all K. Otherwise they have to be exchanged.
  CUTLASS_DEVICE bool whole() const { return Tile::kSlices == 1 && params_.splits == 1; }

  // Where the memory is that of the stages, all of them must have been read before any of the following.
  CUTLASS_DEVICE void store(float const (&sums)[Tile::kTokens / 2]) const {
    float* const staged = reinterpret_cast<float*>(memory_) + warpgroup_ * (Tile::kTokens / 8) * kStagedFloats;
    Bias const bias = bias_of(warpgroup_);
    with_kind([&](auto kind) {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < Tile::kTokens / 8; ++i) {
        stage<decltype(kind)::value>(staged + i * kStagedFloats, bias,
                                     make_float4(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]));
      }
    });
    write(staged, {warpgroup_, kFragments});
  }

  // With memory of its own. Gives each CTA of the cluster all partials of its share of the fragments. A barrier of all
  // threads that send to it, then `store_received`.
  CUTLASS_DEVICE void send_partials(float const (&sums)[Tile::kTokens / 2]) const {
    int owner = 0;
    Range owned = share(owner);
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < Tile::kTokens / 8; ++i) {
      int const fragment = i * kColumnWarpgroups + warpgroup_ % kColumnWarpgroups;
      while (fragment >= owned.end) {
        owned = share(++owner);
      }
      std::uint8_t* const target =
          memory_ + received_offset(fragment - owned.begin, coordinates_.split, warpgroup_ / kColumnWarpgroups);
      if (owner == coordinates_.split) {
        *reinterpret_cast<float4*>(target) =
            make_float4(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]);
      } else {
        asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address_of(target, owner)),
                     "f"(sums[4 * i]), "f"(sums[4 * i + 1]), "f"(sums[4 * i + 2]), "f"(sums[4 * i + 3])
                     : "memory");
      }
    }
  }

  CUTLASS_DEVICE void store_received() const {
    Range const own = share(coordinates_.split);
    std::uint8_t* const after = memory_ + (own.end - own.begin) * params_.splits * Tile::kSlices * kPartialBytes;
    float* const staged = add_up(own, after, [&](int fragment, int split, int slice) {
      return *reinterpret_cast<float4 const*>(memory_ + received_offset(fragment - own.begin, split, slice));
    });
    write(staged, {own.begin + warpgroup_, own.end});
  }

  // With the stages' memory, which another CTA may not write to before this one is done. Leaves a warpgroup's sums where
  // the CTA that finishes them looks for them. A barrier of all threads of the cluster, then `store_partials`.
  CUTLASS_DEVICE void write_partials(float const (&sums)[Tile::kTokens / 2]) const {
    int const slice = warpgroup_ / kColumnWarpgroups;
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < Tile::kTokens / 8; ++i) {
      int const fragment = i * kColumnWarpgroups + warpgroup_ % kColumnWarpgroups;
      *reinterpret_cast<float4*>(memory_ + partial_offset(fragment, slice)) =
          make_float4(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]);
    }
  }

  // Two CTAs with half of K each finish half of the tokens each. A thread of one has the same fragments as its
  // counterpart: what the other needs goes over in one copy a warpgroup.
  CUTLASS_DEVICE void stage_for_peer(float const (&sums)[Tile::kTokens / 2]) const {
    bool const second = coordinates_.split == 1;
    float4* const target =
        reinterpret_cast<float4*>(memory_ + kPairBytes) + warpgroup_ * kPairFragments * 128 + thread_;
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kPairFragments; ++i) {
      target[i * 128] = half(sums, i, !second);
    }
    cutlass::arch::fence_view_async_shared();
    warpgroup_barrier();
  }

  CUTLASS_DEVICE void send_to_peer(cutlass::arch::ClusterTransactionBarrier& exchanged) const {
    if (thread_ != 0) {
      return;
    }
    constexpr std::uint32_t kBytes = kPairFragments * kPartialBytes;
    if (warpgroup_ == 0) {
      exchanged.arrive_and_expect_tx(kPairBytes);
    }
    std::uint32_t const peer = static_cast<std::uint32_t>(1 - coordinates_.split);
    std::uint32_t const target = cute::cast_smem_ptr_to_uint(memory_ + warpgroup_ * kBytes);
    std::uint32_t const barrier = cute::cast_smem_ptr_to_uint(&exchanged);
    asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     cute::set_block_rank(target, peer)),
                 "r"(target + kPairBytes), "r"(kBytes), "r"(cute::set_block_rank(barrier, peer))
                 : "memory");
  }

  CUTLASS_DEVICE void store_pair(float const (&sums)[Tile::kTokens / 2]) const {
    bool const second = coordinates_.split == 1;
    float4 const* const from = reinterpret_cast<float4 const*>(memory_) + warpgroup_ * kPairFragments * 128 + thread_;
    float* const staged =
        reinterpret_cast<float*>(memory_ + 2 * kPairBytes) + warpgroup_ * kPairFragments * kStagedFloats;
    Bias const bias = bias_of(warpgroup_);
    with_kind([&](auto kind) {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kPairFragments; ++i) {
        float4 sum = half(sums, i, second);
        float4 const value = from[i * 128];
        sum.x += value.x;
        sum.y += value.y;
        sum.z += value.z;
        sum.w += value.w;
        stage<decltype(kind)::value>(staged + i * kStagedFloats, bias, sum);
      }
    });
    int const begin = coordinates_.split * kPairFragments * kWarpgroups + warpgroup_;
    write(staged, {begin, begin + kPairFragments * kWarpgroups - warpgroup_});
  }

  // `fetched` is called when nothing is read from other CTAs any more.
  template <class Fetched>
  CUTLASS_DEVICE void store_partials(Fetched&& fetched) const {
    Range const own = share(coordinates_.split);
    float* const staged = add_up(own, memory_ + kPartialsBytes,
                                 [&](int fragment, int split, int slice) { return partial(fragment, split, slice); });
    fetched();
    write(staged, {own.begin + warpgroup_, own.end});
  }

  // The scale factors of C in NVFP4 that pad its rows to whole atoms: those in its columns are written by the first CTA
  // of the last tile of tokens.
  CUTLASS_DEVICE void pad_scales() const {
    if (params_.c.type != NVFP4_DATA_TYPE_NVFP4 || coordinates_.split != 0 ||
        coordinates_.token_tile != params_.token_tiles - 1) {
      return;
    }
    constexpr int kBlocks = Tile::kColumns / NVFP4_SCALE_BLOCK;
    int const missing = (NVFP4_SCALE_ATOM_ROWS - params_.m % NVFP4_SCALE_ATOM_ROWS) % NVFP4_SCALE_ATOM_ROWS;
    for (int i = warpgroup_ * 128 + thread_; i < missing * kBlocks * params_.c.parts(); i += Tile::kConsumers) {
      int const part = i / (missing * kBlocks);
      int const column = coordinates_.column_tile * Tile::kColumns + i % kBlocks * NVFP4_SCALE_BLOCK;
      if (column < params_.c.columns[part]) {
        int const row = params_.m + i % (missing * kBlocks) / kBlocks;
        int const block = (params_.c.first_column(part) + column) / NVFP4_SCALE_BLOCK;
        detail::store_scale(params_.c, coordinates_.batch, params_.m, row, block, 0);
      }
    }
  }

 private:
  CUTLASS_DEVICE void warpgroup_barrier() const {
    named_barrier(128, kWarpgroupBarrier + static_cast<std::uint32_t>(warpgroup_));
  }

  CUTLASS_DEVICE int received_offset(int owned_fragment, int split, int slice) const {
    return ((owned_fragment * params_.splits + split) * Tile::kSlices + slice) * kPartialBytes + thread_ * 16;
  }

  CUTLASS_DEVICE int partial_offset(int fragment, int slice) const {
    return (fragment * Tile::kSlices + slice) * kPartialBytes + thread_ * 16;
  }

  // The shared memory of the CTA that has part `split` of K.
  static CUTLASS_DEVICE std::uint32_t address_of(void const* here, int split) {
    return cute::set_block_rank(cute::cast_smem_ptr_to_uint(here), static_cast<std::uint32_t>(split));
  }

  CUTLASS_DEVICE float4 partial(int fragment, int split, int slice) const {
    std::uint8_t const* const here = memory_ + partial_offset(fragment, slice);
    if (split == coordinates_.split) {
      return *reinterpret_cast<float4 const*>(here);
    }
    float4 value;
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "r"(address_of(here, split))
                 : "memory");
    return value;
  }

  // Stages this warpgroup's fragments of `own`, in memory from `staged` on: their partials in the order of K, whichever
  // came first.
  template <class Load>
  CUTLASS_DEVICE float* add_up(Range own, std::uint8_t* staged, Load&& load) const {
    int const most = (own.end - own.begin + kWarpgroups - 1) / kWarpgroups;  // fragments of a warpgroup
    float* const first = reinterpret_cast<float*>(staged) + warpgroup_ * most * kStagedFloats;
    Bias const bias = bias_of(own.begin + warpgroup_);
    with_kind([&](auto kind) {
      float* target = first;
      for (int fragment = own.begin + warpgroup_; fragment < own.end; fragment += kWarpgroups) {
        float4 sum = load(fragment, 0, 0);
        for (int split = 0; split < params_.splits; ++split) {
          CUTLASS_PRAGMA_UNROLL
          for (int slice = 0; slice < Tile::kSlices; ++slice) {
            if (split == 0 && slice == 0) continue;
            float4 const value = load(fragment, split, slice);
            sum.x += value.x;
            sum.y += value.y;
            sum.z += value.z;
            sum.w += value.w;
          }
        }
        stage<decltype(kind)::value>(target, bias, sum);
        target += kStagedFloats;
      }
    });
    return first;
  }

  // The fragments that a CTA finishes.
  CUTLASS_DEVICE Range share(int split) const {
    return {kFragments * split / params_.splits, kFragments * (split + 1) / params_.splits};
  }

  // Unit i of the first or the second half of the tokens.
  static CUTLASS_DEVICE float4 half(float const (&sums)[Tile::kTokens / 2], int i, bool second) {
    float const* const first = &sums[4 * i];
    float const* const other = &sums[4 * (i + kPairFragments)];
    return second ? make_float4(other[0], other[1], other[2], other[3])
                  : make_float4(first[0], first[1], first[2], first[3]);
  }

  static constexpr int kApart = -1;  // none of nvfp4_glu_kind: x1 and x2 are staged, and joined later if at all

  // The kind is the same for the whole launch: it is decided outside of the elements.
  template <class Body>
  CUTLASS_DEVICE void with_kind(Body&& body) const {
    if (!params_.c.dual() || params_.c.strict()) {
      body(cute::C<kApart>{});
      return;
    }
    switch (params_.glu.kind) {
      case NVFP4_GLU_SWIGLU:
        body(cute::C<int{NVFP4_GLU_SWIGLU}>{});
        break;
      case NVFP4_GLU_CLAMPED_SWIGLU:
        body(cute::C<int{NVFP4_GLU_CLAMPED_SWIGLU}>{});
        break;
      case NVFP4_GLU_GEGLU_TANH:
        body(cute::C<int{NVFP4_GLU_GEGLU_TANH}>{});
        break;
    }
  }

  // The column of a fragment whose sums a thread has.
  CUTLASS_DEVICE int own_column() const { return thread_ / 32 * 8 + thread_ % 32 / 4; }

  struct Bias {
    float x1, x2;
  };

  // Of this thread's column in `fragment`, which is the same in all fragments of its warpgroup. None is -0: a fused
  // multiplication and addition of it is the multiplication.
  CUTLASS_DEVICE Bias bias_of(int fragment) const {
    Bias bias{-0.0f, -0.0f};
    if (params_.bias[0] != nullptr) {
      int const column = coordinates_.column_tile * Tile::kColumns +
                         fragment % kColumnWarpgroups * kWarpgroupColumns + own_column();
      auto const load = [&](int product) {
        int const columns = params_.c.columns[product];
        std::int64_t const at = std::int64_t{coordinates_.batch} * columns + column;
        return column < columns ? detail::load_float(params_.bias[product] + at) : 0.0f;
      };
      bias = {load(0), load(1)};
    }
    return bias;
  }

  // Two elements of C, or of x1 and of x2: one column of tokens 2c and 2c + 1, transposed into rows of tokens.
  template <int kKind>
  CUTLASS_DEVICE void stage(float* fragment, Bias const& bias, float4 const& sums) const {
    float* const target = fragment + thread_ % 4 * 2 * kPitch + own_column();
    auto const x1 = [&](float sum) { return __fmaf_rn(alpha1_, sum * unscale_, bias.x1); };
    auto const x2 = [&](float sum) { return __fmaf_rn(alpha2_, sum * unscale_, bias.x2); };
    if constexpr (kKind == kApart) {
      target[0] = x1(sums.x);
      target[kPitch] = x1(sums.y);
      target[kFragmentFloats] = x2(sums.z);
      target[kFragmentFloats + kPitch] = x2(sums.w);
    } else {
      constexpr auto kGlu = static_cast<nvfp4_glu_kind>(kKind);
      target[0] = detail::apply_glu<kGlu, detail::DeviceMath>(params_.glu, x1(sums.x), x2(sums.z));
      target[kPitch] = detail::apply_glu<kGlu, detail::DeviceMath>(params_.glu, x1(sums.y), x2(sums.w));
    }
  }

  // Fragments fragments.begin, fragments.begin + kWarpgroups, ... of this warpgroup.
  CUTLASS_DEVICE void write(float const* staged, Range fragments) const {
    warpgroup_barrier();
    if (params_.c.type == NVFP4_DATA_TYPE_NVFP4) {
      for_each_piece<NVFP4_SCALE_BLOCK>(staged, fragments, [&](float const* from, Place const& place, int) {
        Tile::Sink::store_block(params_, from, from + kFragmentFloats, place);
      });
    } else {
      for_each_piece<8>(staged, fragments, [&](float const* from, Place const& place, int valid) {
        Tile::Sink::store(params_, from, place, valid);
      });
    }
  }

  // So many columns of a token at a time, of each part.
  template <int kPieceColumns, class Body>
  CUTLASS_DEVICE void for_each_piece(float const* staged, Range fragments, Body&& body) const {
    constexpr int kPiecesOfRow = kWarpgroupColumns / kPieceColumns;
    constexpr int kPieces = 8 * kPiecesOfRow;  // of a fragment
    int const pieces = (fragments.end - fragments.begin + kWarpgroups - 1) / kWarpgroups * kPieces;
    for (int i = thread_; i < pieces * params_.c.parts(); i += 128) {
      int const part = i < pieces ? 0 : 1;
      int const piece = i - part * pieces;
      int const fragment = fragments.begin + piece / kPieces * kWarpgroups;
      int const row = piece % kPieces / kPiecesOfRow;
      int const column_of_fragment = piece % kPiecesOfRow * kPieceColumns;
      int const token = coordinates_.token_tile * Tile::kTokens + fragment / kColumnWarpgroups * 8 + row;
      int const column = coordinates_.column_tile * Tile::kColumns +
                         fragment % kColumnWarpgroups * kWarpgroupColumns + column_of_fragment;
      int const valid = params_.c.columns[part] - column;
      if (token < params_.m && valid > 0) {
        body(staged + piece / kPieces * kStagedFloats + part * kFragmentFloats + row * kPitch + column_of_fragment,
             Place{coordinates_.batch, token, part, column}, valid);
      }
    }
  }

  Params const& params_;
  typename Tile::Coordinates const coordinates_;
  std::uint8_t* memory_;
  int warpgroup_, thread_;
  float unscale_, alpha1_, alpha2_;
};

}  // namespace nvfp4::sm90
