// Shared and tensor memory of every kernel of the table, as CuTe lays them out, evaluated on the host and compared with
// the definitions: what TMA writes is what the MMA reads, and nothing overlaps.
#include <cute/config.hpp>
// gcc takes rotl and rotr, which call each other, for always_inline functions that it cannot inline.
#undef CUTE_HOST_DEVICE
#define CUTE_HOST_DEVICE inline __host__ __device__

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "sm100/kernel.hpp"

using namespace nvfp4;

namespace {

constexpr int kKBlocks = NVFP4_TILE_K / 64;  // MMAs per tile
constexpr int kAtomBytes = NVFP4_SCALE_ATOM_BYTES;

// Code (row, k) of a slot: rows of 256 codes, in order. The 128-byte swizzle comes on top, in TMA and MMA alike.
template <class Layout>
std::int64_t code_at(Layout const& layout, int row, int k, int slot) {
  return layout.layout_b()(cute::make_coord(row, k % 64), 0, k / 64, slot);
}

// Scale j of 64 of K, of an atom of 128 rows.
template <class Layout>
std::int64_t scale_at(Layout const& layout, int row, int k_block, int j, int slot) {
  auto const in_atom = cute::make_coord(row % 32, row / 32 % 4);
  return layout(cute::make_coord(cute::make_coord(in_atom, row / 128), cute::make_coord(0, j)), 0,
                cute::make_coord(0, k_block), slot);
}

// Byte of the 128x4 layout.
int in_atom(int row, int j) { return row % 32 * 16 + row / 32 % 4 * 4 + j; }

template <class Config>
struct Checks {
  using Weights = typename Config::Weights;
  using Mainloop = typename Config::CollectiveMainloop;
  using Stock = typename Config::StockCollective;
  static constexpr int kStages = Config::kStages;
  static constexpr int kSms = Config::kSms;
  static constexpr int kTileN = Config::kTileN;
  static constexpr bool kStacked = Config::kMainloop == NVFP4_MAINLOOP_STACKED;
  static constexpr bool kInterleaved = Config::kMainloop == NVFP4_MAINLOOP_INTERLEAVED;
  // Rows of one TMA slot of codes, and of what one MMA reads of a CTA.
  static constexpr int kSlotRows = kStacked ? kTileN : kInterleaved ? 2 * kTileN / kSms : kTileN / kSms;
  static constexpr int kMmaRows = Config::kMmaN / kSms;

  static void codes() {
    using Swizzle = cute::remove_cvref_t<decltype(typename Weights::CodeSlots{}.layout_a())>;
    static_assert(cute::is_same_v<Swizzle, cute::Swizzle<3, 4, 3>>, "TMA swizzles over 128 bytes");
    static_assert(cute::is_same_v<Swizzle, cute::remove_cvref_t<decltype(typename Weights::CodesForMma{}.layout_a())>>);
    typename Weights::CodeSlots const slots;
    typename Weights::CodesForMma const mma;
    constexpr int kSlots = Weights::kCodesPerCta * kStages;
    std::int64_t wrong = 0, checked = 0;
    for (int slot = 0; slot < kSlots; ++slot) {
      for (int row = 0; row < kSlotRows; ++row) {
        for (int k = 0; k < NVFP4_TILE_K; ++k, ++checked) {
          std::int64_t const written = code_at(slots, row, k, slot);
          // TMA fills a box row by row.
          wrong += written != (std::int64_t{slot} * kSlotRows + row) * NVFP4_TILE_K + k;
          // Where the MMA looks for it: in the tile of its stage, B1 above B2, or in the tile of its matrix.
          int const mma_slot = kStacked ? slot / Weights::kCodesPerCta : slot;
          int const mma_row = kStacked ? slot % Weights::kCodesPerCta * kTileN + row : row;
          wrong += written != code_at(mma, mma_row, k, mma_slot);
        }
      }
    }
    CHECK(checked == std::int64_t{kSlots} * kSlotRows * NVFP4_TILE_K);
    CHECK(wrong == 0);
    CHECK(cute::cosize_v<typename Weights::CodesForMma> == checked);
    CHECK(kMmaRows * (kStacked ? 1 : Config::kAccumulators) * kStages == kSlots * kSlotRows);
  }

  static void a_codes() {
    typename Mainloop::SmemLayoutA const layout;
    std::int64_t wrong = 0;
    for (int stage = 0; stage < kStages; ++stage) {
      for (int row = 0; row < 128; ++row) {
        for (int k = 0; k < NVFP4_TILE_K; ++k) {
          wrong += code_at(layout, row, k, stage) != (std::int64_t{stage} * 128 + row) * NVFP4_TILE_K + k;
        }
      }
    }
    CHECK(wrong == 0);
  }

  static void scales() {
    typename Weights::ScaleSlots const slots;
    typename Weights::ScalesForMma const mma;
    constexpr int kSlotAtoms = kInterleaved ? 2 : 1;  // of rows
    constexpr int kSlots = Weights::kMatrices * kStages;
    std::int64_t wrong = 0;
    std::vector<bool> used(static_cast<std::size_t>(kSlots * kSlotAtoms * kKBlocks * kAtomBytes));
    for (int slot = 0; slot < kSlots; ++slot) {
      for (int row = 0; row < 128 * kSlotAtoms; ++row) {
        for (int k_block = 0; k_block < kKBlocks; ++k_block) {
          for (int j = 0; j < NVFP4_SCALE_ATOM_BLOCKS; ++j) {
            std::int64_t const written = scale_at(slots, row, k_block, j, slot);
            // Whole atoms, as they are in global memory.
            wrong += written % kAtomBytes != in_atom(row, j);
            int const mma_slot = kStacked ? slot / 2 : slot;
            int const mma_row = kStacked ? slot % 2 * 128 + row : row;
            wrong += written != scale_at(mma, mma_row, k_block, j, mma_slot);
            REQUIRE(written < static_cast<std::int64_t>(used.size()));
            wrong += used[static_cast<std::size_t>(written)];
            used[static_cast<std::size_t>(written)] = true;
          }
        }
      }
      if (kSlotAtoms == 1) {  // one box: the atoms of a slot follow each other along K
        std::int64_t const first = std::int64_t{slot} * kKBlocks * kAtomBytes;
        wrong += scale_at(slots, 0, 0, 0, slot) != first;
        wrong += scale_at(slots, 0, kKBlocks - 1, 0, slot) != first + (kKBlocks - 1) * kAtomBytes;
      }
    }
    CHECK(wrong == 0);
    CHECK(std::count(used.begin(), used.end(), false) == 0);
  }

  static void transaction_bytes() {
    constexpr int kCodes = NVFP4_TILE_K / 2, kScales = NVFP4_TILE_K / NVFP4_SCALE_BLOCK;
    constexpr int kWeightScaleRows = kInterleaved ? NVFP4_INTERLEAVED_SCALE_ROWS : 2 * 128;
    // A's rows and the weights' codes are divided among the SMs of an MMA, the weights' scales are on each of them.
    constexpr int kBytes = 128 * kSms * (kCodes + kScales) + 2 * kTileN * kCodes + kSms * kWeightScaleRows * kScales;
    CHECK(Mainloop::TmaTransactionBytes == kBytes);
    // Barriers count up to 2^20 - 1 bytes.
    CHECK(Mainloop::TmaTransactionBytes < (1 << 20));
  }

  static void tensor_memory(KernelInfo const& info) {
    using Columns = typename Config::TmemColumns;
    constexpr int kBuffers = 2;
    constexpr int kWidth = Config::kMmaN * Config::kAccumulators;  // of one buffer
    constexpr bool kOverlapping = kBuffers * kWidth + 16 + 32 > NVFP4_TMEM_COLUMNS;
    CHECK(Columns::kAccumulatorColumns == kBuffers * kWidth - (kOverlapping ? 64 : 0));
    // 4 columns for 128 rows by 64 of K.
    CHECK(Columns::kScaleColumnsA == 4 * kKBlocks);
    CHECK(Columns::kScaleColumnsB == 2 * 4 * kKBlocks);
    CHECK(Columns::kTotal <= NVFP4_TMEM_COLUMNS);
    CHECK(info.tmem_columns == Columns::kTotal);

    constexpr std::uint32_t kBase = 0;
    using TensorMemory = typename Mainloop::TensorMemory;
    auto tensors = TensorMemory::template tensors<typename Config::CollectiveEpilogue::EpilogueTile,
                                                  Stock::DispatchPolicy::IsOverlappingAccum>();
    TensorMemory::place(tensors, kBase);
    // A column belongs to one thing; overlapping buffers share theirs with each other only.
    std::vector<std::string> owner(NVFP4_TMEM_COLUMNS);
    auto const claim = [&](std::uint32_t column, int count, std::string const& name) {
      for (int i = 0; i < count; ++i) {
        REQUIRE(column + static_cast<std::uint32_t>(i) < NVFP4_TMEM_COLUMNS);
        std::string& present = owner[column + static_cast<std::uint32_t>(i)];
        bool const shared = kOverlapping && present == "accumulator" && name == "accumulator";
        CHECK_MESSAGE((present.empty() || shared), "column " << column + static_cast<std::uint32_t>(i) << " is of "
                                                             << present << " and " << name);
        present = name;
      }
    };
    for (int k_block = 0; k_block < kKBlocks; ++k_block) {
      claim(cute::raw_pointer_cast(tensors.a_scales(cute::_, cute::_, k_block).data()), 4, "scales of A");
      for (int accumulator = 0; accumulator < Config::kAccumulators; ++accumulator) {
        claim(cute::raw_pointer_cast(tensors.b_scales(cute::_, cute::_, k_block, accumulator).data()),
              8 / Config::kAccumulators, "scales of weights " + std::to_string(accumulator));
      }
    }
    // Buffers that do not overlap are stages of the accumulator's tensor; the kernel layer moves the second of two that
    // do by their width less the overlap.
    for (int buffer = 0; buffer < (kOverlapping ? 1 : kBuffers); ++buffer) {
      for (int accumulator = 0; accumulator < Config::kAccumulators; ++accumulator) {
        std::uint32_t column = 0;
        if constexpr (Config::kAccumulators == 2) {
          column = cute::raw_pointer_cast(tensors.accumulators(cute::_, cute::_, cute::_, accumulator, buffer).data());
        } else {
          column = cute::raw_pointer_cast(tensors.accumulators(cute::_, cute::_, cute::_, buffer).data());
        }
        claim(column, Config::kMmaN, "accumulator " + std::to_string(buffer) + "." + std::to_string(accumulator));
      }
    }
    if (kOverlapping) {
      claim(kWidth, kWidth - 64, "accumulator of the second buffer");
    }
    CHECK(std::count(owner.begin(), owner.end(), std::string()) == NVFP4_TMEM_COLUMNS - Columns::kTotal);
  }

  static void described(KernelInfo const& info) {
    CHECK(info.stages == kStages);
    CHECK(info.smem_bytes == Config::Kernel::SharedStorageSize);
    CHECK(info.params_bytes == sizeof(typename Config::Kernel::Params));
    CHECK(info.threads == 256);
    CHECK(info.tile_m == Config::kTileM);
    CHECK(info.tile_n == Config::kTileN);
    CHECK(info.sms == kSms);
  }
};

// Calls check(Checks<Config>{}, info) for every kernel.
template <class Check>
void for_all_kernels(Check const& check) {
#define X(symbol, mainloop, sms, tile_m, tile_n, cluster_m, cluster_n, scheduler)                                   \
  {                                                                                                                 \
    INFO(#symbol);                                                                                                  \
    check(Checks<sm100::DualGemm<NVFP4_MAINLOOP_##mainloop, sms, tile_m, tile_n, cluster_m, cluster_n,              \
                                 NVFP4_SCHEDULER_##scheduler>>{},                                                   \
          *find_kernel(#symbol));                                                                                   \
  }
#include "registry/sm100.def"
}

}  // namespace

TEST_CASE("the MMA finds the codes of the weights where TMA puts them") {
  for_all_kernels([](auto checks, KernelInfo const&) { checks.codes(); });
}

TEST_CASE("the MMA finds the codes of A where TMA puts them") {
  for_all_kernels([](auto checks, KernelInfo const&) { checks.a_codes(); });
}

TEST_CASE("the scales of the weights are whole atoms, each in one place") {
  for_all_kernels([](auto checks, KernelInfo const&) { checks.scales(); });
}

TEST_CASE("a stage's barrier expects what a stage holds") {
  for_all_kernels([](auto checks, KernelInfo const&) { checks.transaction_bytes(); });
}

TEST_CASE("accumulators and scales share no column of tensor memory") {
  for_all_kernels([](auto checks, KernelInfo const& info) { checks.tensor_memory(info); });
}

TEST_CASE("the table of kernels says what was compiled") {
  for_all_kernels([](auto checks, KernelInfo const& info) { checks.described(info); });
}
