// The collective mainloop of the dual GEMM for CUTLASS's SM100 kernel layer: TMA loads of A and of the weights, the
// copy of scale factors to tensor memory, and one or two MMAs per 64 of K. How the weights lie is the arrangement's
// business (weights_*.hpp); everything else is the same for all of them.
#pragma once

#include <cstdint>

#include "cutlass/pipeline/pipeline.hpp"
#include "sm100/mma_issue.hpp"
#include "sm100/scale_copy.hpp"
#include "sm100/stock.hpp"
#include "sm100/tensor_maps.hpp"
#include "sm100/tmem.hpp"

namespace nvfp4::sm100 {

// How long L2 should keep what a load brings.
enum class Keep : std::uint64_t {
  kNormally = static_cast<std::uint64_t>(cute::TMA::CacheHintSm90::EVICT_NORMAL),
  kBriefly = static_cast<std::uint64_t>(cute::TMA::CacheHintSm90::EVICT_FIRST),
  kLong = static_cast<std::uint64_t>(cute::TMA::CacheHintSm90::EVICT_LAST),
};

template <class Stock_, class Weights_, Keep kKeepActivations = Keep::kLong, Keep kKeepWeights = Keep::kBriefly>
class Mainloop {
 public:
  using Stock = Stock_;
  using Weights = Weights_;

  // What the kernel layer asks for.
  using DispatchPolicy = typename Stock::DispatchPolicy;
  using ArchTag = typename Stock::ArchTag;
  using ClusterShape = typename DispatchPolicy::ClusterShape;
  using TileShape = typename Stock::TileShape;
  using TiledMma = typename Stock::TiledMma;
  using AtomThrShapeMNK = typename Stock::AtomThrShapeMNK;
  using CtaShape_MNK = typename Stock::CtaShape_MNK;
  using ElementA = typename Stock::ElementA;
  using ElementB = typename Stock::ElementB;
  using ElementSF = typename Stock::ElementSF;
  using ElementAccumulator = typename Stock::ElementAccumulator;
  using StrideA = typename Stock::StrideA;
  using StrideB = typename Stock::StrideB;
  using LayoutSFA = ScaleLayout;
  using LayoutSFB = ScaleLayout;
  using MainloopPipeline = typename Stock::MainloopPipeline;
  using MainloopPipelineState = typename Stock::MainloopPipelineState;

  using Maps = TensorMaps<Stock, Weights>;
  using Params = typename Maps::Params;
  using Arguments = Params;  // tensor maps, encoded before (operand_maps.hpp)
  using TensorMemory = Tmem<Stock, Weights>;

  static constexpr int kSms = cute::size(typename TiledMma::AtomThrID{});
  static constexpr int kStages = DispatchPolicy::Stages;
  static constexpr int kMatrices = Weights::kMatrices;
  static constexpr int kAccumulators = Weights::kAccumulators;

  static_assert(cute::is_static_v<ClusterShape>, "multicast masks and tensor maps are those of one cluster shape");
  static_assert(cute::size<0>(ClusterShape{}) <= 4 && cute::size<1>(ClusterShape{}) <= 4,
                "a tile of scale factors cannot be split over more than 4 CTAs for multicast");
  static_assert(cute::size<0>(ClusterShape{}) % kSms == 0, "the CTAs of an MMA are neighbours along M in a cluster");
  static_assert(cute::size<2>(TileShape{}) == NVFP4_TILE_K, "rows of a tile are one swizzle span of 128 bytes");

  // In shared memory.
  using SmemLayoutA = typename Stock::SmemLayoutA;
  using SmemLayoutSFA = typename Stock::SmemLayoutSFA;
  using SmemLayoutB = typename Weights::CodesForMma;
  using SmemLayoutSFB = typename Weights::ScalesForMma;

  // Aligned to the period of the 128-byte swizzle, so that TMA's and the MMA's patterns begin with the tile.
  struct alignas(1024) TensorStorage {
    cute::ArrayEngine<typename Stock::SmemAllocTypeA, cute::cosize_v<SmemLayoutA>> a;
    cute::ArrayEngine<typename Stock::SmemAllocTypeB, cute::cosize_v<SmemLayoutB>> b;
    cute::ArrayEngine<ElementSF, cute::cosize_v<SmemLayoutSFA>> sfa;
    cute::ArrayEngine<ElementSF, cute::cosize_v<SmemLayoutSFB>> sfb;
  };
  using PipelineStorage = typename MainloopPipeline::SharedStorage;

  // Of all CTAs of an MMA: the barrier is the leader's.
  static constexpr std::uint32_t kStageBytesA = cute::cosize_v<SmemLayoutA> / 2 / kStages;
  static constexpr std::uint32_t kStageBytesB = cute::cosize_v<SmemLayoutB> / 2 / kStages;
  static constexpr std::uint32_t kStageBytesScales =
      (cute::cosize_v<SmemLayoutSFA> + cute::cosize_v<SmemLayoutSFB>) / kStages;
  static constexpr std::uint32_t kStageBytes = kStageBytesA + kStageBytesB + kStageBytesScales;
  static constexpr std::uint32_t TmaTransactionBytes = kSms * kStageBytes;
  static_assert(sizeof(TensorStorage) == kStages * kStageBytes, "nothing but the operands is in the stages");

  CUTLASS_DEVICE Mainloop(Params const& params, ClusterShape, std::uint32_t rank_in_cluster)
      : params_(params), rank_in_cluster_(rank_in_cluster) {}

  template <class ProblemShape>
  static Params to_underlying_arguments(ProblemShape const&, Arguments const& args, void*,
                                        cutlass::KernelHardwareInfo const& = {}) {
    return args;
  }

  template <class ProblemShape>
  static bool can_implement(ProblemShape const& problem, Arguments const&) {
    auto const [m, n, k, batch] = ProductShape::of<Weights>(problem);
    return m >= 1 && n >= 1 && k >= 1 && batch >= 1 && k % NVFP4_K_MULTIPLE == 0;
  }

  CUTLASS_DEVICE void prefetch_tma_descriptors() const {
    cute::prefetch_tma_descriptor(&params_.tma_a);
    cute::prefetch_tma_descriptor(&params_.tma_sfa);
    CUTLASS_PRAGMA_UNROLL
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
      cute::prefetch_tma_descriptor(&params_.tma_b[matrix]);
      cute::prefetch_tma_descriptor(&params_.tma_sfb[matrix]);
    }
  }

  // ---- Loads: a tile of coordinates in global memory and slots in shared memory for each operand. B1 and B2 have the
  // same coordinates, so that they share theirs.
  template <class GmemA, class SmemA, class GmemSfa, class SmemSfa, class GmemB, class SmemB, class GmemSfb,
            class SmemSfb>
  struct LoadInputs {
    int k_tiles;
    GmemA gmem_a;  // (TMA, m tile, k tile, batch)
    SmemA smem_a;  // (TMA, slot)
    GmemSfa gmem_sfa;
    SmemSfa smem_sfa;
    GmemB gmem_b;
    SmemB smem_b;
    GmemSfb gmem_sfb;
    SmemSfb smem_sfb;
    std::uint16_t mask_a, mask_b, mask_sfb;  // CTAs of the cluster that receive what this one loads
  };

  template <class ProblemShape>
  CUTLASS_DEVICE auto load_init(ProblemShape const& problem, TensorStorage& storage) const {
    using namespace cute;
    using X = Underscore;
    auto const [m, n, k, batch] = ProductShape::of<Weights>(problem);
    auto const tiles = make_coord(_, _, _);
    Atoms const tma{};

    auto const mma = TiledMma{}.get_slice(rank_in_cluster_ % kSms);
    auto const codes_mma = typename Weights::CodesMma{}.get_slice(
        rank_in_cluster_ % size(typename Weights::CodesMma::AtomThrID{}));
    auto const scales_mma = typename Weights::ScalesMma{}.get_slice(0);

    Tensor a = mma.partition_A(
        local_tile(tma.a.get_tma_tensor(make_shape(m, k, batch)), TileShape{}, tiles, Step<_1, X, _1>{}));
    Tensor sfa = mma.partition_A(local_tile(tma.sfa.get_tma_tensor(shape(scale_layout(m, k, batch))),
                                            TileShape{}, tiles, Step<_1, X, _1>{}));
    Tensor b = codes_mma.partition_B(
        local_tile(tma.b.get_tma_tensor(make_shape(Weights::code_rows(n), k, batch)),
                   typename Weights::CodesTile{}, tiles, Step<X, _1, _1>{}));
    Tensor sfb = scales_mma.partition_B(
        local_tile(tma.sfb.get_tma_tensor(shape(scale_layout(Weights::scale_rows(n), k, batch))),
                   typename Weights::ScalesTile{}, tiles, Step<X, _1, _1>{}));

    Tensor slots_a = make_tensor(make_smem_ptr(storage.a.begin()), SmemLayoutA{});
    Tensor slots_sfa = make_tensor(make_smem_ptr(storage.sfa.begin()), SmemLayoutSFA{});
    Tensor slots_b = make_tensor(make_smem_ptr(storage.b.begin()), typename Weights::CodeSlots{});
    Tensor slots_sfb = make_tensor(make_smem_ptr(storage.sfb.begin()), typename Weights::ScaleSlots{});

    // A is shared by the CTAs along N of the cluster, the weights by those along M. Each loads a part for all.
    typename Maps::MmaClusterLayout const cluster{};
    typename Maps::ScalesClusterLayout const scales_cluster{};
    auto const place = cluster.get_flat_coord(rank_in_cluster_);
    auto const scales_place = scales_cluster.get_flat_coord(rank_in_cluster_);
    auto const along_n = make_layout(size<2>(cluster));
    auto const along_m = make_layout(size<1>(cluster));
    auto const scales_along_m = make_layout(size<1>(scales_cluster));

    auto [gmem_a, smem_a] =
        tma_partition(tma.a, get<2>(place), along_n, group_modes<0, 3>(slots_a), group_modes<0, 3>(a));
    auto [gmem_sfa, smem_sfa] =
        tma_partition(tma.sfa, get<2>(place), along_n, group_modes<0, 3>(slots_sfa), group_modes<0, 3>(sfa));
    auto [gmem_b, smem_b] =
        tma_partition(tma.b, get<1>(place), along_m, group_modes<0, 3>(slots_b), group_modes<0, 3>(b));
    auto [gmem_sfb, smem_sfb] = tma_partition(tma.sfb, get<1>(scales_place), scales_along_m,
                                              group_modes<0, 3>(slots_sfb), group_modes<0, 3>(sfb));

    return LoadInputs<decltype(gmem_a), decltype(smem_a), decltype(gmem_sfa), decltype(smem_sfa), decltype(gmem_b),
                      decltype(smem_b), decltype(gmem_sfb), decltype(smem_sfb)>{
        ceil_div(k, NVFP4_TILE_K),
        gmem_a,
        smem_a,
        gmem_sfa,
        smem_sfa,
        gmem_b,
        smem_b,
        gmem_sfb,
        smem_sfb,
        create_tma_multicast_mask<2>(cluster, place),
        create_tma_multicast_mask<1>(cluster, place),
        create_tma_multicast_mask<1>(scales_cluster, scales_place)};
  }

  // The producer's part of `k_tiles` tiles, from *k_tile on.
  template <class Inputs, class TileCoord, class KTileIterator>
  CUTLASS_DEVICE auto load(MainloopPipeline pipeline, MainloopPipelineState state, Inputs const& in,
                           TileCoord const& coord, KTileIterator k_tile, int k_tiles) const {
    using namespace cute;
    auto const m = get<0>(coord) / kSms;
    auto const n = get<1>(coord);
    auto const l = get<3>(coord);
    Tensor gmem_a = in.gmem_a(_, m, _, l);
    Tensor gmem_sfa = in.gmem_sfa(_, m, _, l);
    Tensor gmem_b = in.gmem_b(_, n, _, l);
    Tensor gmem_sfb = in.gmem_sfb(_, Weights::scale_tile(n), _, l);
    int const own_matrix = static_cast<int>(rank_in_cluster_ % kSms);
    Atoms const tma{};

    auto token = pipeline.producer_try_acquire(state);
    CUTLASS_PRAGMA_NO_UNROLL
    for (; k_tiles > 0; --k_tiles, ++k_tile) {
      pipeline.producer_acquire(state, token);
      auto& barrier = *pipeline.producer_get_barrier(state);
      int const stage = state.index();
      ++state;
      token = pipeline.producer_try_acquire(state);
      if (elect_one_sync()) {
        Hint const activations = static_cast<Hint>(kKeepActivations);
        Hint const weights = static_cast<Hint>(kKeepWeights);
        copy(tma.a.with(&params_.tma_a, barrier, in.mask_a, activations), gmem_a(_, *k_tile), in.smem_a(_, stage));
        copy(tma.sfa.with(&params_.tma_sfa, barrier, in.mask_a, activations), gmem_sfa(_, *k_tile),
             in.smem_sfa(_, stage));
        CUTLASS_PRAGMA_UNROLL
        for (int matrix = 0; matrix < kMatrices; ++matrix) {
          if (Weights::kCodesPerCta == kMatrices || matrix == own_matrix) {
            int const slot = Weights::kCodesPerCta * stage + (Weights::kCodesPerCta == kMatrices ? matrix : 0);
            copy(tma.b.with(&params_.tma_b[matrix], barrier, in.mask_b, weights), gmem_b(_, *k_tile),
                 in.smem_b(_, slot));
          }
          copy(tma.sfb.with(&params_.tma_sfb[matrix], barrier, in.mask_sfb, weights), gmem_sfb(_, *k_tile),
               in.smem_sfb(_, kMatrices * stage + matrix));
        }
      }
    }
    return cute::make_tuple(state, k_tile);
  }

  // No CTA leaves while its peers may still arrive on its barriers.
  CUTLASS_DEVICE void load_tail(MainloopPipeline pipeline, MainloopPipelineState state) const {
    pipeline.producer_tail(state);
  }

  // ---- Tensor memory
  template <class EpilogueTile, bool kOverlap = false>
  CUTLASS_DEVICE static auto init_tmem_tensors(EpilogueTile) {
    return TensorMemory::template tensors<EpilogueTile, kOverlap>();
  }

  template <class Tensors>
  CUTLASS_DEVICE static void set_tmem_offsets(Tensors& tensors, std::uint32_t base) {
    TensorMemory::place(tensors, base);
  }

  // Rank 3, or 4 where there are two accumulators. A choice between two addresses, not a product with the stage: the
  // static verifier follows only sums.
  template <class Tensors>
  CUTLASS_DEVICE static auto slice_accumulator(Tensors const& tensors, int stage) {
    using namespace cute;
    auto const of_stage = [&](auto number) {
      if constexpr (kAccumulators == 1) {
        return tensors.accumulators(_, _, _, number);
      } else {
        return tensors.accumulators(_, _, _, _, number);
      }
    };
    auto slice = of_stage(_0{});
    CUTE_STATIC_ASSERT_V(size<rank_v<decltype(tensors.accumulators)> - 1>(tensors.accumulators) == _2{},
                         "accumulators have two places, in two stages or in one that overlaps with itself");
    if (stage != 0) {
      slice.data() = of_stage(_1{}).data();
    }
    return cute::make_tuple(slice);
  }

  // ---- MMA
  template <class A, class B, class Sfa, class Sfb, class CopySfa, class CopySfb>
  struct MmaInputs {
    A a;      // descriptors (MMA, MMA_M, MMA_K, stage)
    B b;      // descriptors (MMA, MMA_N, MMA_K, slot)
    Sfa sfa;  // in tensor memory
    Sfb sfb;
    CopySfa copy_sfa;
    CopySfb copy_sfb;  // one for each accumulator
  };

  template <class Tensors>
  CUTLASS_DEVICE auto mma_init(Tensors const& tmem, TensorStorage& storage) const {
    using namespace cute;
    Tensor a = TiledMma::make_fragment_A(make_tensor(make_smem_ptr(storage.a.begin()), SmemLayoutA{}));
    Tensor b = TiledMma::make_fragment_B(make_tensor(make_smem_ptr(storage.b.begin()), SmemLayoutB{}));
    Tensor smem_sfa = make_tensor(make_smem_ptr(storage.sfa.begin()), SmemLayoutSFA{});
    Tensor smem_sfb = make_tensor(make_smem_ptr(storage.sfb.begin()), SmemLayoutSFB{});
    auto const copy_sfa = make_scale_copy<kSms>(smem_sfa, tmem.a_scales);
    auto const copy_sfb = transform(make_seq<kAccumulators>{}, [&](auto accumulator) {
      return make_scale_copy<kSms>(smem_sfb, tmem.b_scales(_, _, _, accumulator));
    });
    return MmaInputs<decltype(a), decltype(b), remove_cvref_t<decltype(tmem.a_scales)>,
                     remove_cvref_t<decltype(tmem.b_scales)>, remove_cvref_t<decltype(copy_sfa)>,
                     remove_cvref_t<decltype(copy_sfb)>>{a, b, tmem.a_scales, tmem.b_scales, copy_sfa, copy_sfb};
  }

  // The consumer's part: all of K for one tile, by the MMA warp of the leading CTA.
  template <class AccumulatorPipeline, class Engine, class Layout, class Inputs, class TileCoord>
  CUTLASS_DEVICE auto mma(
      cute::tuple<MainloopPipeline, AccumulatorPipeline> pipelines,
      cute::tuple<MainloopPipelineState, typename AccumulatorPipeline::PipelineState> states,
      cute::tuple<cute::Tensor<Engine, Layout>> const& accumulators, Inputs const& in, TileCoord const& coord,
      int k_tiles) const {
    using namespace cute;
    auto [pipeline, accumulator_pipeline] = pipelines;
    auto [state, accumulator_state] = states;
    auto const tile = get<0>(accumulators);
    TiledMma const tiled_mma{};
    auto const instruction = static_cast<std::uint32_t>(tiled_mma.idesc_);
    auto const shift = static_cast<std::uint32_t>(Weights::scale_column_shift(get<1>(coord)));

    std::uint32_t accumulate = 0;
    auto token = pipeline.consumer_try_wait(state, k_tiles <= 0);
    CUTLASS_PRAGMA_NO_UNROLL
    while (k_tiles > 0) {
      pipeline.consumer_wait(state, token);
      auto const current = state;
      int const stage = state.index();
      ++state;
      --k_tiles;
      token = pipeline.consumer_try_wait(state, k_tiles <= 0);

      if (elect_one_sync()) {
        in.copy_sfa(stage);
        for_each(make_seq<kAccumulators>{},
                 [&](auto accumulator) { get<accumulator>(in.copy_sfb)(kAccumulators * stage + accumulator); });
      }
      if (accumulate == 0) {  // the scales need not wait for the epilogue of an earlier tile, the MMAs must
        accumulator_pipeline.producer_acquire(accumulator_state);
        asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory");  // its tcgen05.ld come before our writes
      }
      if (elect_one_sync()) {
        CUTLASS_PRAGMA_UNROLL
        for (int block = 0; block < size<2>(in.a); ++block) {
          std::uint64_t const a = in.a(_, _, block, stage)(_0{});
          std::uint32_t const a_scales = raw_pointer_cast(in.sfa(_, _, block).data());
          for_each(make_seq<kAccumulators>{}, [&](auto accumulator) {
            constexpr Collector kCollector = kAccumulators == 1 ? Collector::kDiscard
                                             : accumulator == 0 ? Collector::kFill
                                                                : Collector::kLastUse;
            std::uint64_t const b = in.b(_, _, block, kAccumulators * stage + accumulator)(_0{});
            std::uint32_t const b_scales = raw_pointer_cast(in.sfb(_, _, block, accumulator).data()) + shift;
            issue_mma<kSms, kCollector>(accumulator_address(tile, accumulator), a, b, instruction, accumulate, a_scales,
                                        b_scales);
          });
          accumulate = 1;
        }
      }
      accumulate = 1;
      pipeline.consumer_release(current);
    }
    return state;
  }

 private:
  using Hint = cute::conditional_t<kSms == 2, cute::TMA::CacheHintSm100, cute::TMA::CacheHintSm90>;
  static_assert(static_cast<std::uint64_t>(cute::TMA::CacheHintSm100::EVICT_FIRST) ==
                    static_cast<std::uint64_t>(Keep::kBriefly),
                "the hints of both kinds of TMA atoms are the same numbers");

  // How operands are cut up and loaded; the tensor maps are in the parameter.
  struct Atoms {
    typename Maps::TmaA a;
    typename Maps::TmaSfa sfa;
    typename Maps::TmaB b;
    typename Maps::TmaSfb sfb;
  };

  template <class Accumulators, class Index>
  CUTLASS_DEVICE static std::uint32_t accumulator_address(Accumulators const& tile, Index index) {
    using namespace cute;
    if constexpr (kAccumulators == 1) {
      static_assert(rank_v<Accumulators> == 3);
      return raw_pointer_cast(tile.data());
    } else {
      static_assert(rank_v<Accumulators> == 4);
      return raw_pointer_cast(tile(_, _, _, index).data());
    }
  }

  Params const& params_;
  std::uint32_t rank_in_cluster_;
};

}  // namespace nvfp4::sm100
