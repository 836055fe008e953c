// Sizes and interleaving, against indices written from the definitions: the 128x4 layout of scale factors, and tiles of
// 96 gate rows followed by 96 up rows.
#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "nvfp4_dual_gemm/dual_gemm.hpp"

using Bytes = std::vector<std::uint8_t>;

namespace {

// offset(r, c) = ((r / 128) * KT + c / 4) * 512 + (r % 32) * 16 + ((r / 32) % 4) * 4 + c % 4, KT = ceil(K / 64)
std::size_t scale_offset(std::size_t row, std::size_t column, std::size_t k) {
  std::size_t const k_tiles = (k + 63) / 64;
  return ((row / 128) * k_tiles + column / 4) * 512 + (row % 32) * 16 + ((row / 32) % 4) * 4 + column % 4;
}

std::size_t round_up(std::size_t value, std::size_t to) { return (value + to - 1) / to * to; }

Bytes random_bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (auto& byte : bytes) {
    byte = static_cast<std::uint8_t>(1 + random() % 255);  // never 0, so that padding shows
  }
  return bytes;
}

struct Interleaved {
  Bytes codes, scales;
};

// Row by row, code by code: what each row of the result is.
Interleaved naive(int n, int k, int batch, Bytes const (&codes)[2], Bytes const (&scales)[2]) {
  std::size_t const rows = static_cast<std::size_t>(n), depth = static_cast<std::size_t>(k);
  std::size_t const tiles = round_up(rows, 96) / 96;
  std::size_t const scales_in = round_up(rows, 128) * round_up((depth + 15) / 16, 4);
  std::size_t const scales_out = tiles * 256 * round_up((depth + 15) / 16, 4);
  Interleaved out{Bytes(tiles * 192 * depth / 2 * static_cast<std::size_t>(batch)),
                  Bytes(scales_out * static_cast<std::size_t>(batch))};
  for (std::size_t b = 0; b < static_cast<std::size_t>(batch); ++b) {
    for (std::size_t row = 0; row < tiles * 192; ++row) {
      std::size_t const tile = row / 192, in_tile = row % 192, half = in_tile / 96;
      std::size_t const source = tile * 96 + in_tile % 96;
      if (source >= rows) continue;
      for (std::size_t byte = 0; byte < depth / 2; ++byte) {
        out.codes[(b * tiles * 192 + row) * depth / 2 + byte] = codes[half][(b * rows + source) * depth / 2 + byte];
      }
      for (std::size_t block = 0; block < depth / 16; ++block) {
        out.scales[b * scales_out + scale_offset(tile * 256 + in_tile, block, depth)] =
            scales[half][b * scales_in + scale_offset(source, block, depth)];
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("sizes") {
  CHECK(nvfp4::codes_bytes(256, 7168, 1) == 256 * 3584);
  CHECK(nvfp4::codes_bytes(3, 32, 5) == 3 * 16 * 5);
  CHECK(nvfp4::scales_bytes(1, 32, 1) == 512);        // one atom, padded in both directions
  CHECK(nvfp4::scales_bytes(128, 64, 1) == 512);
  CHECK(nvfp4::scales_bytes(129, 64, 1) == 1024);
  CHECK(nvfp4::scales_bytes(128, 96, 3) == 3 * 1024);
  CHECK(nvfp4::scales_bytes(4096, 7168, 2) == 2 * std::size_t{4096} * 448);
  CHECK(nvfp4::interleaved_codes_bytes(96, 64, 1) == 192 * 32);
  CHECK(nvfp4::interleaved_codes_bytes(97, 64, 2) == 2 * 384 * 32);
  CHECK(nvfp4::interleaved_scales_bytes(96, 64, 1) == 1024);
  CHECK(nvfp4::interleaved_scales_bytes(97, 32, 2) == 2 * 2 * 1024);
  // Beyond 32 bits.
  CHECK(nvfp4::codes_bytes(1 << 20, 1 << 20, 4) == std::size_t{1} << 41);
  CHECK(nvfp4::scales_bytes(1 << 20, 1 << 20, 4) == std::size_t{1} << 38);
  CHECK(nvfp4::interleaved_codes_bytes(96 << 14, 1 << 20, 4) == (std::size_t{192} << 14) * (1 << 19) * 4);
  for (int const bad : {0, -1}) {
    CHECK(nvfp4::codes_bytes(bad, 64, 1) == 0);
    CHECK(nvfp4::scales_bytes(64, bad, 1) == 0);
    CHECK(nvfp4::interleaved_codes_bytes(64, 64, bad) == 0);
    CHECK(nvfp4::interleaved_scales_bytes(bad, 64, 1) == 0);
  }
}

TEST_CASE("interleaving equals the definition") {
  unsigned seed = 1;
  for (int const n : {1, 31, 95, 96, 97, 128, 192, 200, 384, 500}) {
    for (int const k : {32, 64, 96, 160, 256, 288}) {
      for (int const batch : {1, 3}) {
        CAPTURE(n);
        CAPTURE(k);
        CAPTURE(batch);
        Bytes const codes[2] = {random_bytes(nvfp4::codes_bytes(n, k, batch), seed),
                                random_bytes(nvfp4::codes_bytes(n, k, batch), seed + 1)};
        Bytes const scales[2] = {random_bytes(nvfp4::scales_bytes(n, k, batch), seed + 2),
                                 random_bytes(nvfp4::scales_bytes(n, k, batch), seed + 3)};
        seed += 4;
        Interleaved const expected = naive(n, k, batch, codes, scales);
        // Garbage in the target must not survive in the padding.
        Bytes out_codes(nvfp4::interleaved_codes_bytes(n, k, batch), 0xff);
        Bytes out_scales(nvfp4::interleaved_scales_bytes(n, k, batch), 0xff);
        nvfp4::interleave_weights(n, k, batch, codes[0], scales[0], codes[1], scales[1], out_codes, out_scales);
        REQUIRE(out_codes.size() == expected.codes.size());
        REQUIRE(out_scales.size() == expected.scales.size());
        CHECK(out_codes == expected.codes);
        CHECK(out_scales == expected.scales);
      }
    }
  }
}

TEST_CASE("interleaving refuses wrong sizes by name") {
  int const n = 100, k = 96, batch = 2;
  Bytes const codes(nvfp4::codes_bytes(n, k, batch)), scales(nvfp4::scales_bytes(n, k, batch));
  Bytes out_codes(nvfp4::interleaved_codes_bytes(n, k, batch));
  Bytes out_scales(nvfp4::interleaved_scales_bytes(n, k, batch));
  auto const message = [&](int wrong, int delta, int n_, int k_, int batch_) {
    Bytes inputs[6] = {codes, scales, codes, scales, out_codes, out_scales};
    if (wrong >= 0) inputs[wrong].resize(inputs[wrong].size() + static_cast<std::size_t>(delta));
    try {
      nvfp4::interleave_weights(n_, k_, batch_, inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5]);
    } catch (nvfp4::Error const& error) {
      CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(message(-1, 0, n, k, batch) == "");
  char const* const names[6] = {"b1.codes", "b1.scales", "b2.codes", "b2.scales", "codes", "scales"};
  for (int wrong = 0; wrong < 6; ++wrong) {
    for (int const delta : {-1, 1, -16}) {
      CHECK(message(wrong, delta, n, k, batch).find(std::string(": ") + names[wrong] + ": ") != std::string::npos);
    }
  }
  CHECK(message(0, 1, n, k, batch) ==
        "interleave_weights: b1.codes: 9601 bytes where N = 100, K = 96, batch = 2 take 9600");
  CHECK(message(-1, 0, 0, k, batch).find("N = 0") != std::string::npos);
  CHECK(message(-1, 0, n, 48, batch).find("K = 48") != std::string::npos);
  CHECK(message(-1, 0, n, -32, batch).find("K = -32") != std::string::npos);
  CHECK(message(-1, 0, n, k, 0).find("batch = 0") != std::string::npos);
}
