// Shape to kernel. The expectations are those of the design: which tile, which cluster, and why.
#include <doctest/doctest.h>

#include <string>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "sm90/arrangement.hpp"
#include "table.hpp"

using nvfp4::Problem;
using nvfp4::select_kernel;

namespace {

constexpr int kB200 = 148;

std::string separate(int m, int n, int k, int batch = 1, int sms = kB200) {
  nvfp4_kernel const kernel = select_kernel({m, n, k, batch}, NVFP4_WEIGHTS_SEPARATE, 100, sms);
  REQUIRE(kernel >= 0);
  REQUIRE(kernel < NVFP4_KERNEL_COUNT);
  return nvfp4::detail::kKernelNames[kernel];
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
      nvfp4_kernel const kernel = select_kernel({m, 4096, 4096, 1}, NVFP4_WEIGHTS_SEPARATE, 100, sms);
      REQUIRE(kernel >= 0);
      CHECK(nvfp4::detail::kKernelTable[kernel].cluster_size() <= sms);
    }
  }
}

TEST_CASE("select: interleaved weights have their own kernel") {
  for (int const m : {1, 128, 512, 100000}) {
    for (int const n : {1, 96, 3072, 100000}) {
      CHECK(select_kernel({m, n, 7168, 1}, NVFP4_WEIGHTS_INTERLEAVED, 100, kB200) ==
            NVFP4_KERNEL_sm100_interleaved_2sm_256x96_c2x2_static);
    }
  }
}

TEST_CASE("select: on a B200 always some kernel for those weights, at any size") {
  for (int const m : {1, 255, 65536, INT32_MAX}) {
    for (int const n : {1, 96, 65536, INT32_MAX}) {
      for (int const k : {32, 7168, INT32_MAX}) {
        for (int const batch : {1, 65535}) {
          for (nvfp4_weight_format const weights : {NVFP4_WEIGHTS_SEPARATE, NVFP4_WEIGHTS_INTERLEAVED}) {
            for (int const sms : {0, 1, 3, 148, INT32_MAX}) {
              nvfp4_kernel const kernel = select_kernel({m, n, k, batch}, weights, 100, sms);
              REQUIRE(kernel >= 0);
              CHECK(nvfp4::detail::kKernelTable[kernel].weights() == weights);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("select: Hopper has kernels of its own, for separate weights") {
  for (int const m : {1, 8, 9, 100, 256, 257, 100000}) {
    nvfp4_kernel const kernel = select_kernel({m, 4096, 7168, 1}, NVFP4_WEIGHTS_SEPARATE, 90, 132);
    REQUIRE(kernel >= 0);
    CHECK(nvfp4::detail::kKernelTable[kernel].compute_capability == 90);
    CHECK(select_kernel({m, 4096, 7168, 1}, NVFP4_WEIGHTS_INTERLEAVED, 90, 132) == NVFP4_KERNEL_AUTO);
  }
}

// What was the fastest on an H100 (docs/hopper-tuning.md).
TEST_CASE("select: Hopper's choice for measured shapes") {
  struct Row {
    Problem problem;
    nvfp4_kernel kernel;
    int splits;
  };
  constexpr Row kRows[] = {
      {{256, 4096, 7168, 1}, NVFP4_KERNEL_sm90_widened_256x64_k64_s1, 2},
      {{512, 4096, 7168, 1}, NVFP4_KERNEL_sm90_widened_256x64_k64_s1, 1},
      {{256, 3072, 4096, 1}, NVFP4_KERNEL_sm90_widened_128x96_k64_s1, 2},
      {{512, 3072, 7168, 1}, NVFP4_KERNEL_sm90_widened_128x96_k64_s1, 1},
      {{1, 4096, 7168, 1}, NVFP4_KERNEL_sm90_widened_8x64_k128_s2, 2},
      {{8, 4096, 7168, 1}, NVFP4_KERNEL_sm90_widened_8x64_k128_s2, 2},
      {{16, 4096, 7168, 1}, NVFP4_KERNEL_sm90_widened_16x64_k128_s2, 2},
      {{32, 4096, 7168, 1}, NVFP4_KERNEL_sm90_widened_32x64_k128_s2, 2},
      {{64, 4096, 7168, 1}, NVFP4_KERNEL_sm90_widened_64x64_k128_s2, 2},
  };
  // As an H100 reports them.
  nvfp4::detail::Residency const residency{132, {0, 132, 66, 39, 30, 22, 18, 16, 15}};
  for (Row const& row : kRows) {
    CAPTURE(row.problem.m);
    CAPTURE(row.problem.n);
    CHECK(select_kernel(row.problem, NVFP4_WEIGHTS_SEPARATE, 90, 132) == row.kernel);
    nvfp4::detail::KernelRow const& kernel = nvfp4::detail::kKernelTable[row.kernel];
    CHECK(nvfp4::sm90::splits(row.problem, {kernel.tile_m, kernel.tile_n, kernel.tile_k}, residency) == row.splits);
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
        NVFP4_KERNEL_sm90_widened_8x64_k128_s2);
  CHECK(select_kernel({8, 64, 8 * 4096, 1}, NVFP4_WEIGHTS_SEPARATE, 90, 132) ==
        NVFP4_KERNEL_sm90_widened_8x64_k128_s2);
  // Clusters of four and more leave SMs idle: a tile of 16 tokens needs only two.
  CHECK(select_kernel({8, 4096, 14336, 1}, NVFP4_WEIGHTS_SEPARATE, 90, 132) ==
        NVFP4_KERNEL_sm90_widened_16x64_k128_s2);
  CHECK(select_kernel({8, 4096, 8 * 4096 + 32, 1}, NVFP4_WEIGHTS_SEPARATE, 90, 132) ==
        NVFP4_KERNEL_sm90_widened_16x64_k128_s2);
}

TEST_CASE("select: no kernel for other architectures") {
  for (int const capability : {-1, 0, 80, 89, 91, 99, 101, 103, 120, INT32_MAX}) {
    CAPTURE(capability);
    for (nvfp4_weight_format const weights : {NVFP4_WEIGHTS_SEPARATE, NVFP4_WEIGHTS_INTERLEAVED}) {
      CHECK(select_kernel({256, 4096, 7168, 1}, weights, capability, 132) == NVFP4_KERNEL_AUTO);
    }
  }
}
