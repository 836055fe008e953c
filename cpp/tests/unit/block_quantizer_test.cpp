// Blocks of C in NVFP4, on the host, against the definition of the format.
#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "common/block_quantizer.hpp"
#include "support/nvfp4_reference.hpp"

using nvfp4::detail::quantize_block;
using nvfp4::detail::QuantizedBlock;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

using Values = float[16];

unsigned code(QuantizedBlock const& block, int i) { return block.codes[i / 8] >> (4 * (i % 8)) & 15; }

bool same_as_reference(Values const& values, float global) {
  QuantizedBlock const block = quantize_block(values, global, NVFP4_ROUND_FIRST_NONE);
  nvfp4::test::ReferenceBlock const reference = nvfp4::test::quantize_reference(values, global);
  bool same = block.scale == reference.scale;
  for (int i = 0; i < 16; ++i) same = same && code(block, i) == reference.codes[static_cast<std::size_t>(i)];
  return same;
}

float next(float value, int ulps) {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) + static_cast<std::uint32_t>(ulps));
}

constexpr std::array<float, 6> kGlobals = {1.0f, 0.37f, 3.3e-5f, 1.7e4f, 0x1p-126f, 0x1.fffffep-3f};

}  // namespace

TEST_CASE("block: every code, every tie and its neighbors, under every scale") {
  int blocks = 0;
  for (float const global : kGlobals) {
    for (unsigned byte = 1; byte < 0x7f; ++byte) {
      float const unit = static_cast<float>(nvfp4::test::ue4m3_value(byte)) * global;
      std::array<float, 15 * 8> interesting{};
      std::size_t count = 0;
      for (float const tie : {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f}) {
        for (int const ulps : {-2, -1, 0, 1, 2}) interesting[count++] = next(tie * unit, ulps);
      }
      for (float const exact : {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, 5.999f, 0.001f}) {
        interesting[count++] = exact * unit;
      }
      for (std::size_t first = 0; first < count; first += 15) {
        Values values{6.0f * unit};
        for (std::size_t i = 0; i < 15; ++i) {
          float const value = interesting[first + i];
          values[1 + i] = (first + i) % 3 == 0 ? -value : value;
        }
        CAPTURE(global);
        CAPTURE(byte);
        REQUIRE(quantize_block(values, global, NVFP4_ROUND_FIRST_NONE).scale == byte);
        REQUIRE(same_as_reference(values, global));
        ++blocks;
      }
    }
  }
  CHECK(blocks == 6 * 126 * 3);
}

TEST_CASE("block: scales between two bytes, at the tie and beside it") {
  for (float const global : kGlobals) {
    for (unsigned byte = 0; byte < 0x7e; ++byte) {
      double const middle = (nvfp4::test::ue4m3_value(byte) + nvfp4::test::ue4m3_value(byte + 1)) / 2;
      float const amax = static_cast<float>(middle * 6 * double{global});
      for (int ulps = -4; ulps <= 4; ++ulps) {
        Values values{0.5f * amax, -next(amax, ulps), 0.1f * amax};
        CAPTURE(global);
        CAPTURE(byte);
        CAPTURE(ulps);
        REQUIRE(same_as_reference(values, global));
      }
    }
  }
  // Of a power of two the tie is exact, and the even byte takes it.
  for (unsigned byte = 1; byte < 0x7e; ++byte) {
    double const middle = (nvfp4::test::ue4m3_value(byte) + nvfp4::test::ue4m3_value(byte + 1)) / 2;
    Values const values{static_cast<float>(middle * 6)};
    CHECK(quantize_block(values, 1.0f, NVFP4_ROUND_FIRST_NONE).scale == byte + byte % 2);
  }
}

TEST_CASE("block: zeros, what is too small, and what is too large") {
  QuantizedBlock const zeros = quantize_block({0.0f, -0.0f}, 1.0f, NVFP4_ROUND_FIRST_NONE);
  CHECK(zeros.scale == 0);
  CHECK(zeros.codes[0] == 0x80);
  CHECK(zeros.codes[1] == 0);
  // Whatever is not 0 gets the smallest scale at least: 2^-9.
  for (float const tiny : {0x1p-149f, 0x1p-126f, 1e-30f, 6 * 0x1p-10f, 6 * 0x1.8p-10f}) {
    Values const values{tiny, -tiny};
    QuantizedBlock const block = quantize_block(values, 1.0f, NVFP4_ROUND_FIRST_NONE);
    CHECK(block.scale == 1);
    CHECK(same_as_reference(values, 1.0f));
  }
  CHECK(code(quantize_block({6 * 0x1p-10f, -6 * 0x1p-10f}, 1.0f, NVFP4_ROUND_FIRST_NONE), 1) == (8 | 5));
  // The largest that a global scale holds, and beyond.
  Values const most{448 * 6, -448 * 5, 448 * 2.5f};
  CHECK(quantize_block(most, 1.0f, NVFP4_ROUND_FIRST_NONE).scale == 0x7e);
  CHECK(same_as_reference(most, 1.0f));
  for (float const huge : {2689.0f, 1e6f, 1e30f, FLT_MAX}) {
    Values const values{huge, -huge, 448 * 3.0f};
    QuantizedBlock const block = quantize_block(values, 1.0f, NVFP4_ROUND_FIRST_NONE);
    CHECK(block.scale == 0x7e);
    CHECK(block.codes[0] == 0x5f7);
    CHECK(same_as_reference(values, 1.0f));
  }
}

TEST_CASE("block: what is not finite is beyond all numbers, and no scale is NaN") {
  for (float const bad : {kInf, std::numeric_limits<float>::quiet_NaN()}) {
    for (float const sign : {1.0f, -1.0f}) {
      Values const values{1.0f, std::copysign(bad, sign), -448 * 2.0f};
      QuantizedBlock const block = quantize_block(values, 1.0f, NVFP4_ROUND_FIRST_NONE);
      CHECK(block.scale == 0x7e);
      CHECK(block.codes[0] == (sign > 0 ? 0xc70u : 0xcf0u));
      CHECK(block.codes[1] == 0);
    }
  }
}

TEST_CASE("block: values of all magnitudes") {
  std::mt19937 random(17);
  for (int repeat = 0; repeat < 300'000; ++repeat) {
    Values values;
    int const around = static_cast<int>(random() % 60) - 40, spread = static_cast<int>(random() % 12) + 1;
    for (float& value : values) {
      float const significand = 1.0f + static_cast<float>(random() % (1 << 23)) * 0x1p-23f;
      value = std::ldexp(significand, around - static_cast<int>(random()) % spread) * (random() % 2 ? 1.0f : -1.0f);
    }
    float const global = std::ldexp(1.0f + static_cast<float>(random() % (1 << 23)) * 0x1p-23f,
                                    static_cast<int>(random() % 60) - 45);
    CAPTURE(repeat);
    REQUIRE(same_as_reference(values, global));
  }
}

TEST_CASE("block: values that are rounded first") {
  // 1 + 2^-11 is the tie of f16 above 1, 1 + 2^-8 that of bf16; 65520 is beyond f16.
  struct Row {
    nvfp4_round_first round;
    float value, as;
  };
  for (Row const& row : {Row{NVFP4_ROUND_FIRST_F16, 0x1.002p0f, 1.0f}, {NVFP4_ROUND_FIRST_F16, 0x1.002002p0f, 0x1.004p0f},
                         {NVFP4_ROUND_FIRST_F16, 0x1.006p0f, 0x1.008p0f}, {NVFP4_ROUND_FIRST_F16, 0x1p-25f, 0.0f},
                         {NVFP4_ROUND_FIRST_F16, 65519.0f, 65504.0f}, {NVFP4_ROUND_FIRST_F16, 65520.0f, kInf},
                         {NVFP4_ROUND_FIRST_BF16, 0x1.01p0f, 1.0f}, {NVFP4_ROUND_FIRST_BF16, 0x1.010002p0f, 0x1.02p0f},
                         {NVFP4_ROUND_FIRST_BF16, 65520.0f, 65536.0f}}) {
    // As the largest of its block it decides the scale, and with it the codes of what is near a tie.
    for (float const share : {0.25f / 6, 0.75f / 6, 1.25f / 6, 2.5f / 6, 5.0f / 6}) {
      CAPTURE(row.value);
      float const other = std::isinf(row.as) ? 0.0f : std::ldexp(1.0f, std::ilogb(row.value)) * share * 0x1p-3f;
      auto const plain = [&](float value) { return quantize_block({value, other}, 0.01f, NVFP4_ROUND_FIRST_NONE); };
      QuantizedBlock const block = quantize_block({row.value, 0.0f}, 0.01f, row.round);
      CHECK(block.scale == quantize_block({row.as, 0.0f}, 0.01f, NVFP4_ROUND_FIRST_NONE).scale);
      CHECK(code(block, 0) == code(plain(row.as), 0));
    }
  }
  // A value that only the rounding brings over a tie: 2.5 units are code 4, what is above is 5.
  Values const values{6.0f, 0x1.402p1f, 0x1.402p1f - 0x1p-12f};
  float const global = 1.0f;
  CHECK(code(quantize_block(values, global, NVFP4_ROUND_FIRST_NONE), 1) == 5);
  CHECK(code(quantize_block(values, global, NVFP4_ROUND_FIRST_F16), 1) == 4);
  CHECK(code(quantize_block(values, global, NVFP4_ROUND_FIRST_BF16), 1) == 4);
}
