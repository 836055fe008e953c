// The epilogue's order against a model of tensor memory: what the mainloop writes after a release must have been read.
#include <doctest/doctest.h>

#include <set>
#include <vector>

#include "sm100/drain_order.hpp"

namespace {

// The kernels' geometry: kSteps steps of `width` gate columns and as many up columns, buffers of 2 * kSteps * width
// columns, buffer 1 beginning `shared` columns before the end of buffer 0.
template <int kSteps, int kSharedSteps>
void check(int width) {
  using Order = nvfp4::sm100::DrainOrder<kSteps, kSharedSteps>;
  int const half = kSteps * width, shared = kSharedSteps * width;
  for (int const buffer : {0, 1}) {
    int const base = buffer * (2 * half - shared);
    int const other = (1 - buffer) * (2 * half - shared);
    Order const order{buffer};
    std::set<int> read;
    std::vector<bool> taken(kSteps, false);
    for (int step = 0; step < kSteps; ++step) {
      int const part = order(step);
      REQUIRE(part >= 0);
      REQUIRE(part < kSteps);
      CHECK_FALSE(taken[static_cast<std::size_t>(part)]);
      taken[static_cast<std::size_t>(part)] = true;
      for (int column = part * width; column < (part + 1) * width; ++column) {
        // After a release the other buffer may be overwritten at any time.
        if (step > Order::kReleaseStep) {
          for (int const address : {base + column, base + half + column}) {
            CHECK_FALSE((address >= other && address < other + 2 * half));
          }
        }
        read.insert(base + column);
        read.insert(base + half + column);
      }
      if (step == Order::kReleaseStep) {
        for (int address = base; address < base + 2 * half; ++address) {
          if (address >= other && address < other + 2 * half) {
            CHECK(read.count(address) == 1);
          }
        }
      }
    }
    CHECK(read.size() == static_cast<std::size_t>(2 * half));
  }
}

}  // namespace

TEST_CASE("drain order: overlapping buffers of the stacked kernels") { check<8, 4>(16); }

TEST_CASE("drain order: other overlaps") {
  check<8, 2>(16);
  check<4, 2>(32);
  check<8, 8>(16);
}

TEST_CASE("drain order: a buffer of its own is released when all of it is read") {
  using Order = nvfp4::sm100::DrainOrder<6, 0>;
  CHECK(Order::kReleaseStep == 5);
  for (int const buffer : {0, 1}) {
    for (int step = 0; step < 6; ++step) {
      CHECK(Order{buffer}(step) == step);
    }
  }
}
