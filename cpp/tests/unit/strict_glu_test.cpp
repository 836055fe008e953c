// The GLU whose bits are those of the CPU's epilogue. data/strict_glu.txt has them from there; a test of
// src/cpu/epilogue.rs holds the same file against that.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "common/strict_glu.hpp"

namespace {

using nvfp4::detail::strict_glu;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

nvfp4_glu of(nvfp4_glu_kind kind) { return {kind, 7.0f, 1.702f, 1.0f}; }

}  // namespace

TEST_CASE("strict GLU: the bits of the CPU's") {
  std::ifstream file(NVFP4_TEST_DATA "/strict_glu.txt");
  REQUIRE(file.is_open());
  int rows = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    int kind = -1;
    std::uint32_t bits[6] = {};
    words >> kind >> std::hex;
    for (std::uint32_t& word : bits) words >> word;
    REQUIRE(!words.fail());
    auto const value = [&](int i) { return std::bit_cast<float>(bits[i]); };
    nvfp4_glu const glu{static_cast<nvfp4_glu_kind>(kind), value(0), value(1), value(2)};
    float const c = strict_glu(glu, value(3), value(4));
    CAPTURE(line);
    REQUIRE(std::bit_cast<std::uint32_t>(c) == bits[5]);
    ++rows;
  }
  CHECK(rows > 2000);
}

TEST_CASE("strict GLU: close to the true one, and NaN stays NaN") {
  for (nvfp4_glu_kind const kind : {NVFP4_GLU_SWIGLU, NVFP4_GLU_CLAMPED_SWIGLU, NVFP4_GLU_GEGLU_TANH}) {
    nvfp4_glu const glu = of(kind);
    for (int i = -2000; i <= 2000; ++i) {
      double const x1 = static_cast<double>(static_cast<float>(i) * 0.01f), x2 = 1.25;
      double const sigmoid = 1 / (1 + std::exp(-x1)), slow = std::fmin(x1, 7.0);
      double const exact = kind == NVFP4_GLU_SWIGLU ? x1 * sigmoid * x2
                           : kind == NVFP4_GLU_CLAMPED_SWIGLU
                               ? (x2 + 1) * slow / (1 + std::exp(-double{1.702f} * slow))
                               : x1 / (1 + std::exp(-2 * std::sqrt(2 / M_PI) * (x1 + 0.044715 * x1 * x1 * x1))) * x2;
      CAPTURE(i);
      CHECK(std::fabs(strict_glu(glu, static_cast<float>(x1), 1.25f) - exact) <= 3e-5 * std::fabs(exact) + 1.2e-38);
    }
    CHECK(std::isnan(strict_glu(glu, kNan, 1.0f)));
    CHECK(std::isnan(strict_glu(glu, 1.0f, kNan)));
    CHECK(std::isnan(strict_glu(glu, -200.0f, kNan)) == (kind == NVFP4_GLU_CLAMPED_SWIGLU));
  }
}
