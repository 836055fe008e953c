// NVFP4 from its definition, in arithmetic that has nothing to do with the code under test: values of formats in tables,
// and the nearest by comparison.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nvfp4::test {

inline constexpr std::array<double, 8> kE2m1 = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

inline double e2m1_value(unsigned code) { return (code & 8 ? -1 : 1) * kE2m1[code & 7]; }

inline double ue4m3_value(unsigned byte) {
  int const exponent = static_cast<int>(byte >> 3), mantissa = static_cast<int>(byte & 7);
  return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
}

// Of numbers in ascending order, the index of the nearest; of two, the even one.
template <class Value>
unsigned nearest(double x, unsigned count, Value const& value) {
  unsigned above = 0;
  while (above < count && value(above) < x) {
    ++above;
  }
  if (above == 0) {
    return 0;
  }
  if (above == count) {
    return count - 1;
  }
  double const low = x - value(above - 1), high = value(above) - x;
  return high < low || (high == low && above % 2 == 0) ? above : above - 1;
}

// 0x7f is NaN.
inline unsigned nearest_ue4m3(double x) {
  return nearest(x, 0x7f, [](unsigned byte) { return ue4m3_value(byte); });
}
inline unsigned nearest_e2m1(double magnitude) {
  return nearest(magnitude, 8, [](unsigned code) { return kE2m1[code]; });
}

struct ReferenceBlock {
  std::array<unsigned, 16> codes;
  unsigned scale;
};

// Of finite values. Quotients and products are those of f32, each rounded once: a quotient or product of two f32 in f64
// is so near to the exact one that rounding it again changes nothing.
inline ReferenceBlock quantize_reference(float const* values, float global) {
  float amax = 0;
  for (int i = 0; i < 16; ++i) {
    amax = std::fmax(amax, std::fabs(values[i]));
  }
  ReferenceBlock block{};
  float const sixth = static_cast<float>(double{amax} / 6);
  float const wanted = static_cast<float>(double{sixth} / double{global});
  block.scale = nearest_ue4m3(wanted);
  if (block.scale == 0 && amax > 0) {
    block.scale = 1;
  }
  float const unit = static_cast<float>(ue4m3_value(block.scale) * double{global});
  for (std::size_t i = 0; i < 16; ++i) {
    float const magnitude = std::fabs(values[i]);
    float const quotient = magnitude == 0 ? 0.0f : static_cast<float>(double{magnitude} / double{unit});
    block.codes[i] = nearest_e2m1(quotient) | (std::signbit(values[i]) ? 8u : 0u);
  }
  return block;
}

// The 128x4 layout: where the scale factor of a block of a row is.
inline std::size_t scale_offset(std::size_t rows, std::size_t columns, std::size_t batch, std::size_t row,
                                std::size_t block) {
  std::size_t const row_atoms = (rows + 127) / 128, column_atoms = (columns + 63) / 64;
  return ((batch * row_atoms + row / 128) * column_atoms + block / 4) * 512 + row % 32 * 16 + row % 128 / 32 * 4 +
         block % 4;
}

}  // namespace nvfp4::test
