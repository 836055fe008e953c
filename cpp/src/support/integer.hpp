#pragma once

#include <cmath>
#include <type_traits>

namespace nvfp4::detail {

// Of what is not negative.
template <class Integer>
constexpr Integer ceil_div(Integer a, std::type_identity_t<Integer> b) {
  return (a + b - 1) / b;
}

// The same of integers in a model's arithmetic, where no product overflows.
inline double ceil_ratio(double a, double b) { return std::ceil(a / b); }

}  // namespace nvfp4::detail
