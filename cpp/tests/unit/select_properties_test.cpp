// What holds of the choice of a kernel whatever the model's constants are: for shapes, devices and batches at random.
#include <doctest/doctest.h>

#include <cstdint>
#include <random>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "registry/table.hpp"

using nvfp4::GemmShape;
using nvfp4::detail::KernelRow;
using nvfp4::detail::kKernelTable;

namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Calls check(shape, sms): small and large in turn, as many as find what is rare.
template <class Check>
void for_random_shapes(Check const& check) {
  std::mt19937 random(1);
  auto const up_to = [&](int bits) { return 1 + static_cast<int>(random() % (1u << (1 + random() % bits))); };
  for (int i = 0; i < 20000; ++i) {
    GemmShape const shape{up_to(14), up_to(15), 32 * up_to(9), up_to(3)};
    int const sms = 1 + static_cast<int>(random() % 160);
    INFO("M = " << shape.m << ", N = " << shape.n << ", K = " << shape.k << ", batch = " << shape.batch << ", "
                << sms << " SMs");
    check(shape, sms);
  }
}

KernelRow const& chosen(GemmShape const& shape, nvfp4_weight_format weights, int capability, int sms,
                        nvfp4_data_type activations = NVFP4_DATA_TYPE_NVFP4) {
  char const* const name =
      nvfp4::select_kernel(shape, NVFP4_OPERATION_DUAL_GEMM, activations, weights, capability, sms);
  REQUIRE(name != nullptr);
  int const kernel = nvfp4::detail::kernel_index(name);
  REQUIRE(kernel >= 0);
  REQUIRE(kernel < nvfp4::detail::kKernelCount);
  KernelRow const& row = kKernelTable[kernel];
  REQUIRE(row.compute_capability == capability);
  REQUIRE(row.weights() == weights);
  REQUIRE(row.activations == activations);
  return row;
}

}  // namespace

TEST_CASE("select: a B200 gets no SM that has nothing to do") {
  for_random_shapes([](GemmShape const& shape, int sms) {
    KernelRow const& row = chosen(shape, NVFP4_WEIGHTS_SEPARATE, 100, sms);
    CHECK(row.cluster_size() <= sms);
    // The second SM of a pair has rows, and who asks for a next tile may get one.
    CHECK((row.sms == 1 || shape.m > row.tile_m / row.sms));
    if (row.scheduler == NVFP4_SCHEDULER_CLC) {
      std::int64_t const clusters = ceil_div(ceil_div(shape.m, row.tile_m), row.tiles_m_per_cluster()) *
                                    ceil_div(ceil_div(shape.n, row.tile_n), row.cluster_n) * shape.batch;
      CHECK(clusters > sms / row.cluster_size());
    }
  });
}

TEST_CASE("select: rows that complete a tile change nothing on a B200") {
  for_random_shapes([](GemmShape const& shape, int sms) {
    GemmShape whole = shape;
    whole.m = static_cast<int>(ceil_div(shape.m, 128)) * 128;
    CHECK(&chosen(shape, NVFP4_WEIGHTS_SEPARATE, 100, sms) == &chosen(whole, NVFP4_WEIGHTS_SEPARATE, 100, sms));
  });
}

TEST_CASE("select: Hopper takes no tile of which half is empty where the half would do") {
  for_random_shapes([](GemmShape const& shape, int sms) {
    for (nvfp4_data_type const activations : {NVFP4_DATA_TYPE_NVFP4, NVFP4_DATA_TYPE_F16, NVFP4_DATA_TYPE_BF16}) {
      KernelRow const& row = chosen(shape, NVFP4_WEIGHTS_SEPARATE, 90, sms, activations);
      for (KernelRow const& other : kKernelTable) {
        bool const same_columns =
            other.compute_capability == 90 && other.activations == activations && other.tile_n == row.tile_n;
        // Tiles of eight tokens keep all of K, at most 4096 a CTA: more of it takes clusters, which others do without.
        if (same_columns && other.tile_m > 8 && other.tile_m >= shape.m) {
          CHECK(row.tile_m < 2 * other.tile_m);
        }
      }
    }
  });
}
