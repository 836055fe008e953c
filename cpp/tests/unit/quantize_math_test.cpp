// The quantizer's arithmetic on the host, which is that of the device operation by operation, against the definitions
// of the formats.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "quantize/arithmetic.hpp"

using nvfp4::detail::bits_of;
using nvfp4::detail::block_scale;
using nvfp4::detail::BlockScale;
using nvfp4::detail::e2m1_code;
using nvfp4::detail::float_of;
using nvfp4::detail::global_of_amax;
using nvfp4::detail::quotient;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Midpoints of neighboring codes; the even code takes them.
std::uint32_t code_of(float q) {
  return static_cast<std::uint32_t>((q > 0.25f) + (q >= 0.75f) + (q > 1.25f) + (q >= 1.75f) + (q > 2.5f) +
                                    (q >= 3.5f) + (q > 5.0f));
}

double ue4m3_value(int byte) {
  int const exponent = byte >> 3;
  return exponent == 0 ? std::ldexp(byte & 7, -9) : std::ldexp(8 + (byte & 7), exponent - 10);
}

// The nearest number, ties to the even byte.
std::uint32_t ue4m3_of(double value) {
  if (value >= 448) {
    return 126;
  }
  int above = 1;
  while (ue4m3_value(above) < value) {
    ++above;
  }
  double const low = value - ue4m3_value(above - 1);
  double const high = ue4m3_value(above) - value;
  bool const up = high < low || (high == low && above % 2 == 0);
  return static_cast<std::uint32_t>(up ? above : above - 1);
}

BlockScale of_unit(float unit) { return {1, unit, 1.0f / unit, true}; }

}  // namespace

TEST_CASE("codes of quotients are rounded to nearest even") {
  for (std::uint32_t bits = 0; bits < bits_of(kInf); bits += 977) {
    REQUIRE(e2m1_code(float_of(bits)) == code_of(float_of(bits)));
  }
  for (float const tie : {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f}) {
    for (std::uint32_t bits = bits_of(tie) - 100; bits < bits_of(tie) + 100; ++bits) {
      REQUIRE(e2m1_code(float_of(bits)) == code_of(float_of(bits)));
    }
  }
  CHECK(e2m1_code(0.0f) == 0);
  CHECK(e2m1_code(kInf) == 7);
}

// One step of Newton's iteration does not always round correctly; near a tie it does. Both significands count alone,
// the exponents do not: nothing under- or overflows in plain blocks. So all magnitudes of [1, 2), with the units around
// magnitude / tie, are all there is.
TEST_CASE("quotients of plain blocks fall on the right side of every tie") {
  for (float const tie : {1.0f, 1.5f, 1.25f, 1.75f}) {
    for (std::uint32_t bits = bits_of(1.0f); bits < bits_of(2.0f); ++bits) {
      float const magnitude = float_of(bits);
      std::uint32_t const nearest = bits_of(magnitude / tie);
      for (std::uint32_t unit_bits = nearest - 3; unit_bits <= nearest + 3; ++unit_bits) {
        float const unit = float_of(unit_bits);
        float const exact = magnitude / unit;
        float const ours = quotient<true>(magnitude, of_unit(unit));
        if ((ours > tie) != (exact > tie) || (ours < tie) != (exact < tie)) {
          FAIL(magnitude, " / ", unit, " is ", ours, ", exactly rounded ", exact);
        }
      }
    }
  }
}

TEST_CASE("quotients of plain blocks give the codes of the division at both ends of their range") {
  std::mt19937 random(1);
  for (float const scale : {0x1p-100f, 0x1p-30f, 1.0f, 0x1p99f}) {
    for (int i = 0; i < 2'000'000; ++i) {
      float const unit = scale * float_of(bits_of(1.0f) | (random() & 0x7fffff));
      float const magnitude = unit * 0x1p-3f * static_cast<float>(random() % (1 << 24)) * 0x1p-18f;
      REQUIRE(e2m1_code(quotient<true>(magnitude, of_unit(unit))) == code_of(magnitude / unit));
    }
    for (float const magnitude : {0.0f, 0x1p-149f, 0x1p-126f, scale * 0x1p20f}) {
      REQUIRE(e2m1_code(quotient<true>(magnitude, of_unit(scale))) == code_of(magnitude / scale));
    }
  }
  CHECK(e2m1_code(quotient<false>(0.0f, of_unit(0.0f))) == 0);
  CHECK(e2m1_code(quotient<false>(0x1p-149f, of_unit(0.0f))) == 7);
}

TEST_CASE("scale factors are rounded to nearest even and never 0 beside a value") {
  auto const check = [](float amax, float global) {
    BlockScale const scale = block_scale(amax, global);
    double const wanted = static_cast<double>(amax / 6.0f / global);
    std::uint32_t const byte = std::max(ue4m3_of(wanted), amax > 0 ? 1u : 0u);
    REQUIRE(scale.byte == byte);
    REQUIRE(bits_of(scale.unit) == bits_of(static_cast<float>(ue4m3_value(static_cast<int>(byte))) * global));
  };
  std::mt19937 random(2);
  for (int i = 0; i < 500'000; ++i) {
    float const global = float_of(bits_of(0x1p-20f) + (random() % (40u << 23)));
    check(global * float_of(bits_of(0x1p-12f) + (random() % (25u << 23))), global);
  }
  // Every number, every midpoint, and their neighbors.
  for (int byte = 0; byte < 126; ++byte) {
    for (double const of : {ue4m3_value(byte), (ue4m3_value(byte) + ue4m3_value(byte + 1)) / 2}) {
      float const amax = static_cast<float>(6 * of);
      for (float const near : {std::nextafter(amax, 0.0f), amax, std::nextafter(amax, kInf)}) {
        check(near, 1.0f);
        check(near * 0x1p-100f, 0x1p-100f);
      }
    }
  }
  for (float const amax : {0.0f, 0x1p-149f, 0x1p-126f, 1.0f, 2688.0f, 3e38f}) {
    for (float const global : {0x1p-149f, 0x1p-126f, 1e-3f, 1.0f, 3e38f}) {
      check(amax, global);
    }
  }
}

TEST_CASE("blocks whose quotients or remainders leave the range of f32 are not plain") {
  CHECK(block_scale(1.0f, 1.0f / 2688).plain);
  CHECK(block_scale(2688.0f * 100, 1.0f).plain);
  CHECK(!block_scale(0.0f, 1.0f).plain);
  CHECK(!block_scale(1e38f, 1e-20f).plain);
  CHECK(!block_scale(0x1p-110f, 0x1p-110f).plain);
  CHECK(!block_scale(0x1p110f, 0x1p110f).plain);
}

TEST_CASE("the global scale is never 0") {
  CHECK(global_of_amax(0.0f) == 1.0f);
  CHECK(global_of_amax(2688.0f) == 1.0f);
  CHECK(global_of_amax(1.0f) == 1.0f / 2688.0f);
  CHECK(bits_of(global_of_amax(0x1p-149f)) == 1);
}
