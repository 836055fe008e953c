// The epilogue's arithmetic on the host: the same formula as on the device, with the largest errors that the PTX ISA
// (9.2, 9.7.3) allows ex2.approx.ftz.f32 (2 ulp) and rcp.approx.ftz.f32 (1 ulp) put in by hand, against double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>

#include "common/glu.hpp"

using nvfp4::detail::apply_glu;
using nvfp4::detail::glu_constants;
using nvfp4::detail::GluConstants;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr nvfp4_glu kSilu{NVFP4_GLU_SWIGLU, 0, 0, 0};
constexpr nvfp4_glu kGptOss{NVFP4_GLU_CLAMPED_SWIGLU, 7.0f, 1.702f, 1.0f};
constexpr nvfp4_glu kGelu{NVFP4_GLU_GEGLU_TANH, 0, 0, 0};

float flushed(double value) {
  float const rounded = static_cast<float>(value);
  return std::fabs(rounded) < FLT_MIN ? std::copysign(0.0f, rounded) : rounded;
}

// The device's operations with relative errors of kExp * 2^-22 and kReciprocal * 2^-23; 2 and 1 ulp are at most that.
template <int kExp, int kReciprocal>
struct WithErrors {
  static float exp2(float x) { return flushed(std::exp2(static_cast<double>(x)) * (1 + kExp * 0x1p-22)); }
  static float reciprocal(float x) { return flushed(1 / static_cast<double>(x) * (1 + kReciprocal * 0x1p-23)); }
  static float fma(float a, float b, float c) { return std::fma(a, b, c); }
  static float min(float a, float b) { return std::isnan(a) || std::isnan(b) ? kNaN : std::fmin(a, b); }
  static float max(float a, float b) { return std::isnan(a) || std::isnan(b) ? kNaN : std::fmax(a, b); }
};

template <class Math>
float apply(GluConstants const& glu, float x1, float x2) {
  switch (glu.kind) {
    case NVFP4_GLU_CLAMPED_SWIGLU: return apply_glu<NVFP4_GLU_CLAMPED_SWIGLU, Math>(glu, x1, x2);
    case NVFP4_GLU_GEGLU_TANH: return apply_glu<NVFP4_GLU_GEGLU_TANH, Math>(glu, x1, x2);
    case NVFP4_GLU_SWIGLU: break;
  }
  return apply_glu<NVFP4_GLU_SWIGLU, Math>(glu, x1, x2);
}

// From the definitions, in double.
double exact(nvfp4_glu const& glu, double x1, double x2) {
  switch (glu.kind) {
    case NVFP4_GLU_CLAMPED_SWIGLU: {
      double const limit = glu.limit, g = std::min(x1, limit), u = std::clamp(x2, -limit, limit);
      return (u + glu.offset) * g / (1 + std::exp(-static_cast<double>(glu.slope) * g));
    }
    case NVFP4_GLU_GEGLU_TANH: {
      // 1 + tanh(y) = 2 / (1 + e^-2y), which does not cancel.
      double const y = std::sqrt(2 / 3.14159265358979323846) * (x1 + 0.044715 * x1 * x1 * x1);
      return x1 / (1 + std::exp(-2 * y)) * x2;
    }
    case NVFP4_GLU_SWIGLU: break;
  }
  return x1 / (1 + std::exp(-x1)) * x2;
}

// The number of a half on the line of all halves, -0 and 0 being one; the one nearest to `value`, ties to even.
int nearest_half(double value) {
  double const magnitude = std::fabs(value);
  int number = 0x7c00;  // infinity
  if (magnitude < 65520.0) {
    int const exponent = magnitude == 0 ? -14 : std::max(std::ilogb(magnitude), -14);
    // In units of the last place; a carry into the next binade is the next number.
    number = static_cast<int>(std::nearbyint(std::ldexp(magnitude, 10 - exponent))) + (exponent + 14) * 1024;
  }
  return std::signbit(value) ? -number : number;
}

struct Count {
  std::int64_t samples = 0, differ = 0;
  int worst = 0;  // in ulp of half
};

template <class Math>
void compare(Count& count, GluConstants const& glu, int correct, float x1, float x2) {
  int const ulp = std::abs(nearest_half(apply<Math>(glu, x1, x2)) - correct);
  count.samples += 1;
  count.differ += ulp != 0;
  count.worst = std::max(count.worst, ulp);
}

// Every sample with all four pairs of signs: 2e7 results with the largest errors for each gate and spread.
void check_accuracy(nvfp4_glu const& glu) {
  GluConstants const constants = glu_constants(glu);
  std::mt19937_64 random(2026);
  for (double const spread : {1.0, 24.7}) {  // the second is that of the contest's sums
    std::normal_distribution<float> sums(0, static_cast<float>(spread));
    Count count;
    for (int i = 0; i < 5'000'000; ++i) {
      float const x1 = sums(random), x2 = sums(random);
      int const correct = nearest_half(exact(glu, x1, x2));
      compare<WithErrors<1, 1>>(count, constants, correct, x1, x2);
      compare<WithErrors<1, -1>>(count, constants, correct, x1, x2);
      compare<WithErrors<-1, 1>>(count, constants, correct, x1, x2);
      compare<WithErrors<-1, -1>>(count, constants, correct, x1, x2);
    }
    MESSAGE("gate ", static_cast<int>(glu.kind), ", spread ", spread, ": ", count.differ, " of ", count.samples,
            " halves are not the correctly rounded one, worst ", count.worst, " ulp");
    CHECK(count.worst <= 1);
    // The errors put in and the four roundings come to less than 2^-21 of the value wherever the gate is not closed.
    // Only a value that near to the middle between two halves can round to the wrong one; middles are at least 2^-11
    // of the value apart, so that at most 2 * 2^-21 / 2^-11 of evenly spread values are.
    CHECK(static_cast<double>(count.differ) < 0x1p-9 * static_cast<double>(count.samples));
  }
}

// Without errors: what the table of special values is checked with.
using Exact = WithErrors<0, 0>;

}  // namespace

TEST_CASE("nearest half") {
  CHECK(nearest_half(1.0) == 0x3c00);
  CHECK(nearest_half(-2.0) == -0x4000);
  CHECK(nearest_half(65504.0) == 0x7bff);
  CHECK(nearest_half(65519.9) == 0x7bff);
  CHECK(nearest_half(65520.0) == 0x7c00);
  CHECK(nearest_half(0x1p-24) == 1);
  CHECK(nearest_half(0x1p-25) == 0);
  CHECK(nearest_half(0x1.8p-24) == 2);
  CHECK(nearest_half(0x1p-14) == 0x400);
  CHECK(nearest_half(0x1.ff8p-15) == 0x3ff);
  CHECK(nearest_half(1 + 0x1p-11) == 0x3c00);
  CHECK(nearest_half(1 + 0x1.8p-10) == 0x3c02);
  CHECK(nearest_half(2 - 0x1p-12) == 0x4000);
}

TEST_CASE("accuracy: SiLU") { check_accuracy(kSilu); }
TEST_CASE("accuracy: clamped SwiGLU") { check_accuracy(kGptOss); }
TEST_CASE("accuracy: GELU") { check_accuracy(kGelu); }

TEST_CASE("the definition of GELU by tanh") {
  for (double x = -4; x <= 4; x += 0.01) {
    double const by_tanh = x / 2 * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    CHECK(exact(kGelu, x, 1) == doctest::Approx(by_tanh).epsilon(1e-9));
  }
}

TEST_CASE("f32 results") {
  // The exponent t * log2(e) is rounded, so that the relative error grows with |t|: 2^-24 each for the product and its
  // constant, three roundings more within the cubic.
  for (nvfp4_glu const& glu : {kSilu, kGptOss, kGelu}) {
    GluConstants const constants = glu_constants(glu);
    for (int i = -800; i <= 800; ++i) {
      float const x1 = static_cast<float>(i) / 100;
      double const correct = exact(glu, x1, 3);
      double const t = glu.kind == NVFP4_GLU_GEGLU_TANH ? 1.6 * (x1 + 0.0447 * std::pow(x1, 3)) : 1.702 * x1;
      double const bound = (0x1p-21 + std::fabs(t) * 0x1p-22) * std::fabs(correct);
      CHECK(std::fabs(apply<WithErrors<1, -1>>(constants, x1, 3) - correct) <= bound);
      CHECK(std::fabs(apply<WithErrors<-1, 1>>(constants, x1, 3) - correct) <= bound);
    }
  }
}

namespace {

// x1 where t(x1) * -log2(e) is `exponent`, from the definition.
double x1_of_exponent(nvfp4_glu const& glu, double exponent) {
  double const t = -exponent / std::log2(std::exp(1.0));
  if (glu.kind == NVFP4_GLU_SWIGLU) return t;
  if (glu.kind == NVFP4_GLU_CLAMPED_SWIGLU) return t / static_cast<double>(glu.slope);
  double low = -100, high = 100;  // the cubic grows
  for (int i = 0; i < 100; ++i) {
    double const x = (low + high) / 2;
    double const y = 2 * std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    (y < t ? low : high) = x;
  }
  return high;
}

// Everything around the tail, with any x2 whose result is a normal f32: what is to be correct is the product, however
// small the sigmoid is.
template <class Math>
void check_tail(nvfp4_glu const& glu) {
  GluConstants const constants = glu_constants(glu);
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> exponents(100, 262), magnitudes(-126, 128);
  int checked = 0;
  for (int i = 0; i < 400'000; ++i) {
    double const exponent = exponents(random);
    float const x1 = static_cast<float>(x1_of_exponent(glu, exponent));
    float const x2 = static_cast<float>((i % 2 == 0 ? 1 : -1) * std::exp2(magnitudes(random)));
    double const correct = exact(glu, x1, x2);
    if (std::fabs(correct) < FLT_MIN || std::fabs(correct) > FLT_MAX) continue;
    checked += 1;
    double const bound = (0x1p-21 + exponent * 0x1p-22) * std::fabs(correct);
    CAPTURE(static_cast<int>(glu.kind));
    CAPTURE(x1);
    CAPTURE(x2);
    REQUIRE(std::fabs(apply<Math>(constants, x1, x2) - correct) <= bound);
  }
  CHECK(checked > 10'000);
}

// The formula as it was before the tail was told apart, for everything else.
template <class Math>
float plain(GluConstants const& glu, float x1, float x2) {
  float const g = Math::max(Math::min(x1, glu.gate_limit), -FLT_MAX);
  float exponent = g * glu.slope;
  if (glu.kind == NVFP4_GLU_GEGLU_TANH) exponent = g * Math::fma(g * g, nvfp4::detail::kGeluCubic, glu.slope);
  float const opened = g * Math::reciprocal(1.0f + Math::exp2(exponent));
  if (glu.kind == NVFP4_GLU_CLAMPED_SWIGLU) {
    return opened * (Math::max(Math::min(x2, glu.up_limit), -glu.up_limit) + glu.offset);
  }
  return opened == 0.0f ? opened : opened * x2;
}

}  // namespace

TEST_CASE("the negative tail: a sigmoid below the normal numbers times a large projection") {
  // A problem's element in bf16: sums of 32 products, all of the range.
  GluConstants const silu = glu_constants(kSilu);
  float const x1 = -93.0f, x2 = 1.5e5f;
  double const correct = exact(kSilu, x1, x2);
  CHECK(correct == doctest::Approx(-5.683e-34).epsilon(1e-3));
  CHECK(apply<Exact>(silu, x1, x2) == doctest::Approx(correct).epsilon(1e-5));
  // A limit that is as large as it may be.
  nvfp4_glu const wide{NVFP4_GLU_CLAMPED_SWIGLU, 1e18f, 1.702f, 1.0f};
  for (nvfp4_glu const& glu : {kSilu, kGelu, wide}) {
    check_tail<Exact>(glu);
    check_tail<WithErrors<1, -1>>(glu);
    check_tail<WithErrors<-1, 1>>(glu);
  }
}

TEST_CASE("before the negative tail every bit is that of the plain formula") {
  std::mt19937_64 random(8);
  std::uniform_real_distribution<double> exponents(-200, 123.9), magnitudes(-149, 128);
  for (nvfp4_glu const& glu : {kSilu, kGptOss, kGelu}) {
    GluConstants const constants = glu_constants(glu);
    for (int i = 0; i < 300'000; ++i) {
      float const x1 = static_cast<float>(x1_of_exponent(glu, exponents(random)));
      float const x2 = static_cast<float>((i % 2 == 0 ? 1 : -1) * std::exp2(magnitudes(random)));
      float const value = apply<Exact>(constants, x1, x2), before = plain<Exact>(constants, x1, x2);
      CAPTURE(x1);
      CAPTURE(x2);
      REQUIRE(std::memcmp(&value, &before, sizeof value) == 0);
    }
  }
}

TEST_CASE("a closed gate is zero whatever the other projection is") {
  for (nvfp4_glu const& glu : {kSilu, kGptOss, kGelu}) {
    GluConstants const constants = glu_constants(glu);
    for (float const x1 : {-kInf, -FLT_MAX, -1e38f, -1e10f, -1000.0f, -0.0f, 0.0f}) {
      for (float const x2 : {0.0f, 2.0f, FLT_MAX, -FLT_MAX, kInf, -kInf}) {
        CAPTURE(static_cast<int>(glu.kind));
        CAPTURE(x1);
        CAPTURE(x2);
        CHECK(apply<Exact>(constants, x1, x2) == 0.0f);
        CHECK(apply<WithErrors<1, 1>>(constants, x1, x2) == 0.0f);
        CHECK(apply<WithErrors<-1, -1>>(constants, x1, x2) == 0.0f);
      }
    }
  }
}

TEST_CASE("an open gate passes what is large") {
  for (nvfp4_glu const& glu : {kSilu, kGelu}) {
    GluConstants const constants = glu_constants(glu);
    CHECK(apply<Exact>(constants, 100.0f, 3.0f) == 300.0f);
    CHECK(apply<Exact>(constants, 2.0f, kInf) == kInf);
    CHECK(apply<Exact>(constants, 2.0f, -kInf) == -kInf);
    CHECK(apply<Exact>(constants, -2.0f, kInf) == -kInf);
    CHECK(apply<Exact>(constants, FLT_MAX, 2.0f) == kInf);
    // An infinite x1 is the largest finite one.
    CHECK(apply<Exact>(constants, kInf, 0.5f) == FLT_MAX / 2);
    CHECK(apply<Exact>(constants, kInf, 0.0f) == 0.0f);
  }
  GluConstants const constants = glu_constants(kGptOss);
  float const bound = static_cast<float>(7 / (1 + std::exp(-1.702 * 7)));
  for (float const x1 : {7.0f, 50.0f, FLT_MAX, kInf}) {
    CHECK(apply<Exact>(constants, x1, kInf) == doctest::Approx(8 * bound).epsilon(1e-6));
    CHECK(apply<Exact>(constants, x1, -kInf) == doctest::Approx(-6 * bound).epsilon(1e-6));
    CHECK(apply<Exact>(constants, x1, 3.0f) == doctest::Approx(4 * bound).epsilon(1e-6));
  }
}

TEST_CASE("clamped SwiGLU: any slope and offset") {
  // A falling sigmoid is open at the other end.
  GluConstants const falling = glu_constants({NVFP4_GLU_CLAMPED_SWIGLU, 7.0f, -1.0f, 0.0f});
  CHECK(apply<Exact>(falling, -100.0f, 2.0f) == -200.0f);
  CHECK(apply<Exact>(falling, -kInf, 0.5f) == -FLT_MAX / 2);
  // A flat one is 1/2 everywhere.
  GluConstants const flat = glu_constants({NVFP4_GLU_CLAMPED_SWIGLU, 7.0f, 0.0f, 0.0f});
  CHECK(apply<Exact>(flat, 3.0f, 2.0f) == 3.0f);
  CHECK(apply<Exact>(flat, -kInf, 1.0f) == -FLT_MAX / 2);
  // A slope that overflows the exponent closes or opens entirely.
  GluConstants const steep = glu_constants({NVFP4_GLU_CLAMPED_SWIGLU, 7.0f, FLT_MAX, 0.0f});
  CHECK(apply<Exact>(steep, -3.0f, 2.0f) == 0.0f);
  CHECK(apply<Exact>(steep, 3.0f, 2.0f) == 6.0f);
  GluConstants const offset = glu_constants({NVFP4_GLU_CLAMPED_SWIGLU, 7.0f, 0.0f, -2.5f});
  CHECK(apply<Exact>(offset, 2.0f, -100.0f) == -9.5f);
}

TEST_CASE("NaN stays NaN") {
  for (nvfp4_glu const& glu : {kSilu, kGptOss, kGelu}) {
    GluConstants const constants = glu_constants(glu);
    CHECK(std::isnan(apply<Exact>(constants, kNaN, 1.0f)));
    CHECK(std::isnan(apply<Exact>(constants, 1.0f, kNaN)));
  }
}
