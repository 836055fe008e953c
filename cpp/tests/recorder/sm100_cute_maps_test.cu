// The tensor maps that the host code encodes are those that CuTe would for the atoms by which the kernels load.
#include <doctest/doctest.h>

#include "expectation.hpp"
#include "sm100/operand_maps.hpp"

using namespace nvfp4;
using namespace nvfp4::test;

namespace {

// What one call of the driver's function was asked for.
template <class Encode>
std::string asked(Encode const& encode) {
  recorder::reset();
  encode();
  REQUIRE(recorder::tensor_maps().size() == 1);
  return words(recorder::tensor_maps().front());
}

template <class Config>
void check(GemmShape const& shape) {
  using Ours = sm100::OperandMaps<Config>;
  using Cute = typename Config::CollectiveMainloop::Maps;
  using Weights = typename Config::Weights;
  auto const encoder = detail::TensorMapEncoder::of_driver();
  auto const ours = [&](Operand operand, detail::TensorMapShape const& map_shape) {
    return asked([&] {
      alignas(64) CUtensorMap map;
      encoder.encode(map, "it", at(operand), map_shape);
    });
  };
  auto const [m, n, k, batch] = shape;
  int const code_rows = Weights::code_rows(n), scale_rows = Weights::scale_rows(n);
  CHECK(ours(kA, Ours::a_codes(m, k, batch)) == asked([&] { Cute::a_codes(at(kA), m, k, batch); }));
  CHECK(ours(kSFA, Ours::a_scales(m, k, batch)) == asked([&] { Cute::a_scales(at(kSFA), m, k, batch); }));
  CHECK(ours(kB1, Ours::b_codes(n, k, batch)) == asked([&] { Cute::b_codes(at(kB1), code_rows, k, batch); }));
  CHECK(ours(kSFB1, Ours::b_scales(n, k, batch)) == asked([&] { Cute::b_scales(at(kSFB1), scale_rows, k, batch); }));
}

}  // namespace

TEST_CASE("CuTe asks the driver for the same tensor maps") {
  for (GemmShape const& shape : {GemmShape{256, 4096, 7168, 1}, {1, 1, 32, 1}, {300, 1000, 992, 2}, {77, 131, 96, 5},
                             {128, 40000, 262144, 3}, {16, 64, 512, 1}}) {
    CAPTURE(shape.m);
#define X(symbol, mainloop, sms, tile_m, tile_n, cluster_m, cluster_n, scheduler)                            \
  {                                                                                                          \
    INFO(#symbol);                                                                                           \
    check<sm100::DualGemm<NVFP4_MAINLOOP_##mainloop, sms, tile_m, tile_n, cluster_m, cluster_n,              \
                          NVFP4_SCHEDULER_##scheduler>>(shape);                                              \
  }
#include "registry/sm100.def"
  }
}
