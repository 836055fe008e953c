#pragma once

#include <cstdint>
#include <type_traits>

namespace nvfp4::detail {

// Of what is not negative.
template <class Integer>
constexpr Integer ceil_div(Integer a, std::type_identity_t<Integer> b) {
  return (a + b - 1) / b;
}

// The same of integers in a model's arithmetic, where their products do not overflow. The ratio is below 2^63. (Launches
// ask the models: this is faster than std::ceil.)
constexpr double ceil_ratio(double a, double b) {
  return static_cast<double>(static_cast<std::int64_t>((a + (b - 1)) / b));
}

}  // namespace nvfp4::detail
