// interleave_weights() against CUTLASS's layout of the scale factors on both sides: of N rows before, of 256 for each
// tile of 96 and 96 after.
#include <cute/config.hpp>
// gcc takes rotl and rotr, which call each other, for always_inline functions that it cannot inline.
#undef CUTE_HOST_DEVICE
#define CUTE_HOST_DEVICE inline

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <vector>

#include <cute/tensor.hpp>
#include <cutlass/detail/sm100_blockscaled_layout.hpp>

#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace {

auto scale_layout(int rows, int k, int batch) {
  using Config = cutlass::detail::Sm1xxBlockScaledConfig<NVFP4_SCALE_BLOCK>;
  return Config::tile_atom_to_shape_SFA(cute::make_shape(rows, rows, k, batch));
}

}  // namespace

TEST_CASE("interleaved scales lie where CUTLASS looks for those of tile after tile") {
  struct Shape {
    int n, k, batch;
  };
  constexpr Shape kShapes[] = {{96, 64, 1}, {1, 32, 1}, {97, 96, 2}, {200, 256, 3}, {3072, 512, 1}, {1000, 992, 2}};
  for (auto const& [n, k, batch] : kShapes) {
    CAPTURE(n);
    CAPTURE(k);
    CAPTURE(batch);
    std::mt19937 random(static_cast<unsigned>(n + k));
    int const tiles = (n + NVFP4_INTERLEAVE - 1) / NVFP4_INTERLEAVE;
    auto const before = scale_layout(n, k, batch);
    auto const after = scale_layout(tiles * NVFP4_INTERLEAVED_SCALE_ROWS, k, batch);
    std::vector<std::uint8_t> codes1(nvfp4::codes_bytes(n, k, batch)), codes2(codes1.size());
    std::vector<std::uint8_t> scales1(nvfp4::scales_bytes(n, k, batch)), scales2(scales1.size());
    REQUIRE(scales1.size() == static_cast<std::size_t>(cute::cosize(before)));
    for (auto* const buffer : {&codes1, &codes2, &scales1, &scales2}) {
      for (std::uint8_t& byte : *buffer) {
        byte = static_cast<std::uint8_t>(random());
      }
    }
    std::vector<std::uint8_t> codes(nvfp4::interleaved_codes_bytes(n, k, batch));
    std::vector<std::uint8_t> scales(nvfp4::interleaved_scales_bytes(n, k, batch));
    REQUIRE(scales.size() == static_cast<std::size_t>(cute::cosize(after)));
    nvfp4::interleave_weights(n, k, batch, codes1, scales1, codes2, scales2, codes, scales);
    std::int64_t wrong = 0;
    for (int b = 0; b < batch; ++b) {
      for (int row = 0; row < n; ++row) {
        int const tile_row = row / NVFP4_INTERLEAVE * NVFP4_INTERLEAVED_SCALE_ROWS + row % NVFP4_INTERLEAVE;
        for (int at = 0; at < k; at += NVFP4_SCALE_BLOCK) {
          wrong += scales[after(tile_row, at, b)] != scales1[before(row, at, b)];
          wrong += scales[after(tile_row + NVFP4_INTERLEAVE, at, b)] != scales2[before(row, at, b)];
        }
      }
    }
    CHECK(wrong == 0);
  }
}
