// Shape to kernel. The expectations are those of the design: which tile, which cluster, and why.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "registry/table.hpp"
#include "select/select.hpp"
#include "select/sm90_tile.hpp"

using nvfp4::GemmShape;

namespace {

constexpr int kB200 = 148;

// The name; "" where there is none.
std::string select_kernel(GemmShape const& shape, nvfp4_weight_format weights, int compute_capability, int sms,
                          nvfp4_data_type activations = NVFP4_DATA_TYPE_NVFP4) {
  char const* const name =
      nvfp4::select_kernel(shape, NVFP4_OPERATION_DUAL_GEMM, activations, weights, compute_capability, sms);
  if (name == nullptr) return "";
  CHECK(nvfp4::find_kernel(name) != nullptr);
  return name;
}

nvfp4::detail::KernelRow const& row_of(std::string const& kernel) {
  int const index = nvfp4::detail::kernel_index(kernel);
  REQUIRE(index >= 0);
  REQUIRE(index < nvfp4::detail::kKernelCount);
  return nvfp4::detail::kKernelTable[index];
}

std::string separate(int m, int n, int k, int batch = 1, int sms = kB200) {
  std::string const kernel = select_kernel({m, n, k, batch}, NVFP4_WEIGHTS_SEPARATE, 100, sms);
  REQUIRE(row_of(kernel).compute_capability == 100);
  return kernel;
}

}  // namespace

TEST_CASE("select: the contest's benchmarks") {
  // 256 rows: 128 columns of C a pair would leave half of the SMs idle.
  CHECK(separate(256, 4096, 7168) == "sm100_twoacc_2sm_256x64_c2x2_static");
  CHECK(separate(256, 3072, 4096) == "sm100_twoacc_2sm_256x64_c2x2_static");
  // 512 rows: the wide tile in one wave, weights multicast to both row tiles.
  CHECK(separate(512, 4096, 7168) == "sm100_stacked_2sm_256x128_c4x1_static");
  CHECK(separate(512, 3072, 7168) == "sm100_stacked_2sm_256x128_c4x1_static");
}

TEST_CASE("select: the contest's tests") {
  CHECK(separate(1536, 512, 7168) == "sm100_twoacc_2sm_256x64_c2x2_static");
  CHECK(separate(256, 512, 256) == "sm100_twoacc_2sm_256x64_c2x2_static");
  CHECK(separate(3072, 1024, 1536) == "sm100_twoacc_2sm_256x64_c2x2_static");
  CHECK(separate(7168, 1024, 256) == "sm100_twoacc_2sm_256x64_c2x2_static");
  CHECK(separate(7168, 2304, 2048) == "sm100_stacked_2sm_256x128_c2x1_clc");
  CHECK(separate(4608, 384, 7168) == "sm100_stacked_2sm_256x128_c4x1_static");
  CHECK(separate(7168, 384, 2304) == "sm100_twoacc_2sm_256x64_c2x2_static");
  CHECK(separate(512, 768, 7168) == "sm100_twoacc_2sm_256x64_c2x2_static");
  CHECK(separate(4096, 768, 512) == "sm100_twoacc_2sm_256x64_c2x2_static");
}

TEST_CASE("select: decode takes one SM, more rows two") {
  for (int const m : {1, 2, 4, 8, 16, 64, 127, 128}) {
    CHECK(separate(m, 4096, 7168) == "sm100_twoacc_1sm_128x64_c1x1_static");
  }
  CHECK(separate(129, 4096, 7168) == "sm100_twoacc_2sm_256x64_c2x2_static");
  // 296 tiles of 64 columns are two waves, 148 of 128 are one.
  CHECK(separate(128, 18944, 3584) == "sm100_stacked_1sm_128x128_c1x1_static");
}

TEST_CASE("select: tails") {
  CHECK(separate(1, 1, 32) == "sm100_twoacc_1sm_128x64_c1x1_static");
  CHECK(separate(100, 100, 64) == "sm100_twoacc_1sm_128x64_c1x1_static");
  CHECK(separate(300, 100, 64) == "sm100_twoacc_2sm_256x64_c2x2_static");
  // One column of tiles: nothing to share A with.
  CHECK(separate(257, 1, 32) == "sm100_twoacc_2sm_256x64_c2x1_static");
}

TEST_CASE("select: many waves take the dynamic schedule, one wave never") {
  CHECK(separate(4096, 18432, 7168) == "sm100_stacked_2sm_256x128_c2x1_clc");
  CHECK(separate(16384, 14336, 4096) == "sm100_stacked_2sm_256x128_c2x1_clc");
  for (int m = 1; m <= 2048; m += 61) {
    for (int n = 1; n <= 2048; n += 53) {
      std::string const kernel = separate(m, n, 512);
      double const pairs = (m + 255) / 256 * ((n + 127) / 128);
      if (pairs <= kB200 / 2) {
        CHECK_MESSAGE(kernel.find("clc") == std::string::npos, m, " x ", n, ": ", kernel);
      }
    }
  }
}

TEST_CASE("select: everything at once rather than two waves of half the work") {
  // 66 pairs with tiles of 128 columns; 99 with tiles of 64, which would move fewer bytes.
  CHECK(separate(2720, 152, 896, 3) == "sm100_stacked_2sm_256x128_c2x1_static");
}

TEST_CASE("select: batches count as tiles") {
  CHECK(separate(256, 512, 7168, 1) == "sm100_twoacc_2sm_256x64_c2x2_static");
  CHECK(separate(128, 2048, 7168, 8) == "sm100_stacked_1sm_128x128_c1x1_static");
}

TEST_CASE("select: small devices") {
  CHECK(separate(512, 4096, 7168, 1, 132) == "sm100_stacked_2sm_256x128_c2x1_static");
  for (int sms = 1; sms <= kB200; ++sms) {
    for (int const m : {1, 128, 129, 512, 4096}) {
      std::string const kernel = select_kernel({m, 4096, 4096, 1}, NVFP4_WEIGHTS_SEPARATE, 100, sms);
      CHECK(row_of(kernel).cluster_size() <= sms);
    }
  }
}

TEST_CASE("select: interleaved weights have their own kernel") {
  for (int const m : {1, 128, 512, 100000}) {
    for (int const n : {1, 96, 3072, 100000}) {
      CHECK(select_kernel({m, n, 7168, 1}, NVFP4_WEIGHTS_INTERLEAVED, 100, kB200) ==
            "sm100_interleaved_2sm_256x96_c2x2_static");
    }
  }
}

TEST_CASE("select: on a B200 always some kernel for those weights, at any size that a grid has room for") {
  for (int const m : {0, 1, 255, 65536, 1 << 29}) {
    for (int const n : {1, 96, 65536, 1 << 29}) {
      for (int const k : {32, 7168, INT32_MAX}) {
        for (int const batch : {1, 65535}) {
          for (nvfp4_weight_format const weights : {NVFP4_WEIGHTS_SEPARATE, NVFP4_WEIGHTS_INTERLEAVED}) {
            for (int const sms : {0, 1, 3, 4, 148, INT32_MAX}) {
              // In tiles of 256 x 96 and 256 x 128, the largest of each kind.
              double const tiles = std::max(1.0, m / 256.0) * 2 * std::max(1.0, n / 96.0) * batch;
              if (tiles > INT32_MAX / 4) continue;
              std::string const kernel = select_kernel({m, n, k, batch}, weights, 100, sms);
              bool const room = sms >= (weights == NVFP4_WEIGHTS_INTERLEAVED ? 4 : 1);
              CHECK((kernel != "") == room);
              if (room) CHECK(row_of(kernel).weights() == weights);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("select: Hopper has kernels of its own, for separate weights") {
  for (int const m : {1, 8, 9, 100, 256, 257, 100000}) {
    std::string const kernel = select_kernel({m, 4096, 7168, 1}, NVFP4_WEIGHTS_SEPARATE, 90, 132);
    CHECK(row_of(kernel).compute_capability == 90);
    CHECK(select_kernel({m, 4096, 7168, 1}, NVFP4_WEIGHTS_INTERLEAVED, 90, 132) == "");
  }
}

// What was the fastest on an H100 (docs/hopper-tuning.md).
TEST_CASE("select: Hopper's choice for measured shapes") {
  struct Row {
    GemmShape shape;
    char const* kernel;
    int splits;
  };
  constexpr Row kRows[] = {
      {{256, 4096, 7168, 1}, "sm90_widened_256x64_k64_s1", 2},
      {{512, 4096, 7168, 1}, "sm90_widened_256x64_k64_s1", 1},
      {{256, 3072, 4096, 1}, "sm90_widened_128x96_k64_s1", 2},
      {{512, 3072, 7168, 1}, "sm90_widened_128x96_k64_s1", 1},
      {{1, 4096, 7168, 1}, "sm90_widened_8x64_k128_s2", 2},
      {{8, 4096, 7168, 1}, "sm90_widened_8x64_k128_s2", 2},
      {{16, 4096, 7168, 1}, "sm90_widened_16x64_k128_s2", 2},
      {{32, 4096, 7168, 1}, "sm90_widened_32x64_k128_s2", 2},
      {{64, 4096, 7168, 1}, "sm90_widened_64x64_k128_s2", 2},
  };
  // As an H100 reports them.
  nvfp4::detail::Residency const residency{132, {0, 132, 66, 39, 30, 22, 18, 16, 15}};
  for (Row const& row : kRows) {
    CAPTURE(row.shape.m);
    CAPTURE(row.shape.n);
    CHECK(select_kernel(row.shape, NVFP4_WEIGHTS_SEPARATE, 90, 132) == row.kernel);
    nvfp4::detail::KernelRow const& kernel = row_of(row.kernel);
    CHECK(nvfp4::sm90::splits(row.shape, {kernel.tile_m, kernel.tile_n, kernel.tile_k}, residency) == row.splits);
  }
}

// By the same model: the tiles that there are, each for the rows that need it.
TEST_CASE("select: Hopper's kernels for 16-bit activations") {
  struct Row {
    GemmShape shape;
    char const* tile;
  };
  constexpr Row kRows[] = {
      {{1, 4096, 7168, 1}, "8x64_k128_s2"},      {{8, 4096, 7168, 1}, "8x64_k128_s2"},
      {{9, 4096, 7168, 1}, "16x64_k128_s2"},     {{16, 4096, 7168, 1}, "16x64_k128_s2"},
      {{17, 4096, 7168, 1}, "64x64_k128_s2"},    {{64, 4096, 7168, 1}, "64x64_k128_s2"},
      {{65, 4096, 7168, 1}, "128x64_k64_s1"},    {{256, 4096, 7168, 1}, "256x64_k64_s1"},
      {{512, 4096, 7168, 1}, "256x64_k64_s1"},   {{4096, 14336, 4096, 1}, "256x64_k64_s1"},
      {{8, 4096, 8 * 4096 + 32, 1}, "16x64_k128_s2"},
  };
  for (Row const& row : kRows) {
    CAPTURE(row.shape.m);
    CAPTURE(row.shape.k);
    CHECK(select_kernel(row.shape, NVFP4_WEIGHTS_SEPARATE, 90, 132, NVFP4_DATA_TYPE_F16) ==
          std::string("sm90_f16_") + row.tile);
    CHECK(select_kernel(row.shape, NVFP4_WEIGHTS_SEPARATE, 90, 132, NVFP4_DATA_TYPE_BF16) ==
          std::string("sm90_bf16_") + row.tile);
    for (nvfp4_data_type const activations : {NVFP4_DATA_TYPE_F16, NVFP4_DATA_TYPE_BF16}) {
      CHECK(select_kernel(row.shape, NVFP4_WEIGHTS_INTERLEAVED, 90, 132, activations) == "");
      CHECK(select_kernel(row.shape, NVFP4_WEIGHTS_SEPARATE, 100, 148, activations) == "");
      CHECK(select_kernel(row.shape, NVFP4_WEIGHTS_INTERLEAVED, 100, 148, activations) == "");
    }
  }
}

TEST_CASE("select: Hopper splits no K that is not there, and no cluster that does not fit") {
  nvfp4::detail::Residency const one{132, {0, 132}};
  CHECK(nvfp4::sm90::splits({16, 64, 7168, 1}, {16, 64, 128}, one) == 1);
  CHECK(nvfp4::sm90::splits({8, 64, 4096, 1}, {8, 64, 128}, one) == 1);
  CHECK(nvfp4::sm90::splits({8, 64, 7168, 1}, {8, 64, 128}, one) == 0);  // would need two CTAs
  nvfp4::detail::Residency const all{132, {0, 132, 66, 39, 30, 22, 18, 16, 15}};
  CHECK(nvfp4::sm90::splits({8, 64, 128, 1}, {8, 64, 128}, all) == 1);
  CHECK(nvfp4::sm90::splits({8, 64, 160, 1}, {8, 64, 128}, all) <= 2);
}

TEST_CASE("select: Hopper's CTA keeps the tokens of 4096 of K at most, where they are eight") {
  nvfp4::detail::Residency const all{132, {0, 132, 66, 39, 30, 22, 18, 16, 15}};
  // So many tiles that no split is worth it.
  auto const splits = [&](int k) { return nvfp4::sm90::splits({8, 64 * 132 * 8, k, 1}, {8, 64, 128}, all); };
  CHECK(splits(4096) == 1);
  CHECK(splits(4096 + 32) == 2);
  CHECK(splits(14336) == 4);
  CHECK(splits(8 * 4096) == 8);
  CHECK(splits(8 * 4096 + 32) == 0);
  CHECK(nvfp4::sm90::splits({16, 64 * 132 * 8, 8 * 4096 + 32, 1}, {16, 64, 128}, all) == 1);
  // A plan for one SM has to take two, one after the other.
  nvfp4::detail::Residency const one{1, {0, 132, 66, 39, 30, 22, 18, 16, 15}};
  CHECK(nvfp4::sm90::splits({8, 64, 7168, 1}, {8, 64, 128}, one) == 2);

  CHECK(select_kernel({8, 4096, 2 * 4096, 1}, NVFP4_WEIGHTS_SEPARATE, 90, 132) ==
        "sm90_widened_8x64_k128_s2");
  CHECK(select_kernel({8, 64, 8 * 4096, 1}, NVFP4_WEIGHTS_SEPARATE, 90, 132) ==
        "sm90_widened_8x64_k128_s2");
  // Clusters of four and more leave SMs idle: a tile of 16 tokens needs only two.
  CHECK(select_kernel({8, 4096, 14336, 1}, NVFP4_WEIGHTS_SEPARATE, 90, 132) ==
        "sm90_widened_16x64_k128_s2");
  CHECK(select_kernel({8, 4096, 8 * 4096 + 32, 1}, NVFP4_WEIGHTS_SEPARATE, 90, 132) ==
        "sm90_widened_16x64_k128_s2");
}

// A device may hold any number of clusters of any size: what is selected runs there, and something is selected where
// anything runs.
TEST_CASE("select: whatever the device holds, a kernel that runs is found") {
  using nvfp4::detail::kKernelTable;
  std::mt19937 random(12);
  auto const below = [&](int end) { return std::uniform_int_distribution<int>(0, end - 1)(random); };
  auto const size = [&](int bits) { return 1 + below(1 << below(bits + 1)); };
  for (int repeat = 0; repeat < 50'000; ++repeat) {
    GemmShape const shape{below(10) == 0 ? 0 : size(30), size(30), 32 * size(16), size(16)};
    int const capability = below(2) == 0 ? 90 : 100;
    bool const within = below(4) == 0;
    auto const weights = below(4) == 0 ? NVFP4_WEIGHTS_INTERLEAVED : NVFP4_WEIGHTS_SEPARATE;
    auto const activations = below(2) == 0   ? NVFP4_DATA_TYPE_NVFP4
                             : below(2) == 0 ? NVFP4_DATA_TYPE_F16
                                             : NVFP4_DATA_TYPE_BF16;
    nvfp4::detail::Residencies residencies{};
    for (auto& residency : residencies) {
      residency.sm_count = size(8);
      for (int& clusters : residency.max_clusters) clusters = below(3) == 0 ? size(7) : 0;
      residency.max_clusters[0] = 0;
    }
    auto const runs = [&](int kernel) {
      nvfp4::detail::KernelRow const& row = kKernelTable[static_cast<std::size_t>(kernel)];
      auto const& residency = residencies[static_cast<std::size_t>(kernel)];
      if (row.compute_capability != capability || row.weights() != weights) return false;
      if (row.activations != activations) return false;
      if (within && row.scheduler != NVFP4_SCHEDULER_STATIC) return false;
      GemmShape const rows{std::max(shape.m, 1), shape.n, shape.k, shape.batch};
      if (capability == 90) return nvfp4::sm90::splits(rows, {row.tile_m, row.tile_n, row.tile_k}, residency) > 0;
      // CTAs along M and N in whole clusters.
      auto const up = [](std::int64_t value, int unit) { return (value + unit - 1) / unit; };
      double const m = static_cast<double>(up(up(rows.m, row.tile_m) * row.sms, row.cluster_m) * row.cluster_m);
      double const n = static_cast<double>(up(up(rows.n, row.tile_n), row.cluster_n) * row.cluster_n);
      bool const counted = m * n * rows.batch <= INT32_MAX;
      bool const grid = row.scheduler != NVFP4_SCHEDULER_CLC || std::max(m, n) <= 65535;
      return counted && grid && residency.max_clusters[row.cluster_size()] > 0 &&
             residency.sm_count >= row.cluster_size();
    };
    int const kernel =
        nvfp4::detail::select_kernel(shape, {activations, weights}, capability, residencies, within);
    bool any = false;
    for (int i = 0; i < nvfp4::detail::kKernelCount; ++i) any = any || runs(i);
    CAPTURE(shape.m);
    CAPTURE(shape.n);
    CAPTURE(shape.k);
    CAPTURE(shape.batch);
    REQUIRE((kernel != nvfp4::detail::kNoKernel) == any);
    if (any) REQUIRE(runs(kernel));
  }
}

TEST_CASE("select: no rows are planned like one") {
  for (int const capability : {90, 100}) {
    CHECK(select_kernel({0, 4096, 7168, 1}, NVFP4_WEIGHTS_SEPARATE, capability, 132) ==
          select_kernel({1, 4096, 7168, 1}, NVFP4_WEIGHTS_SEPARATE, capability, 132));
  }
}

TEST_CASE("select: a GEMM gets the kernel of the dual GEMM over its weights") {
  for (int const capability : {90, 100}) {
    for (int const n : {1, 127, 128, 129, 4096, 18432}) {
      for (int const m : {1, 64, 256, 4096}) {
        CAPTURE(n);
        CAPTURE(m);
        for (int const odd : {0, 1}) {
          if (2 * n - odd < 1) continue;
          char const* const name =
              nvfp4::select_kernel({m, 2 * n - odd, 7168, 1}, NVFP4_OPERATION_GEMM, NVFP4_DATA_TYPE_NVFP4,
                                   NVFP4_WEIGHTS_SEPARATE, capability, 132);
          REQUIRE(name != nullptr);
          CHECK(name == select_kernel({m, n, 7168, 1}, NVFP4_WEIGHTS_SEPARATE, capability, 132));
        }
      }
    }
  }
}

TEST_CASE("select: a kernel takes the activations that it is for") {
  for (nvfp4_data_type const activations : {NVFP4_DATA_TYPE_F16, NVFP4_DATA_TYPE_BF16, NVFP4_DATA_TYPE_F32}) {
    for (int const capability : {90, 100}) {
      for (nvfp4_weight_format const weights : {NVFP4_WEIGHTS_SEPARATE, NVFP4_WEIGHTS_INTERLEAVED}) {
        char const* const name = nvfp4::select_kernel({256, 4096, 7168, 1}, NVFP4_OPERATION_DUAL_GEMM, activations,
                                                      weights, capability, 132);
        bool any = false;
        for (nvfp4::KernelInfo const& info : nvfp4::kernels()) {
          any = any || (info.compute_capability == capability && info.activations == activations &&
                        info.weights == weights);
        }
        CHECK((name != nullptr) == any);
        if (name != nullptr) CHECK(nvfp4::find_kernel(name)->activations == activations);
      }
    }
  }
}

TEST_CASE("select: no kernel for other architectures") {
  for (int const capability : {-1, 0, 80, 89, 91, 99, 101, 103, 120, INT32_MAX}) {
    CAPTURE(capability);
    for (nvfp4_weight_format const weights : {NVFP4_WEIGHTS_SEPARATE, NVFP4_WEIGHTS_INTERLEAVED}) {
      CHECK(select_kernel({256, 4096, 7168, 1}, weights, capability, 132) == "");
    }
  }
}
