// Tensor maps as the host code asks the driver for them, against their definition, for every kernel and class of
// shapes.
#include <doctest/doctest.h>

#include "expectation.hpp"

using namespace nvfp4;
using namespace nvfp4::test;

namespace {

struct Named {
  char const* name;
  GemmShape shape;
};

constexpr Named kShapes[] = {
    {"of the contest", {256, 4096, 7168, 1}}, {"several tiles", {512, 3072, 7168, 1}},
    {"one row", {1, 4096, 7168, 1}},          {"one column", {256, 1, 256, 1}},
    {"least K", {128, 128, 32, 1}},           {"tails of M, N and K", {300, 1000, 992, 1}},
    {"odd N", {77, 131, 96, 1}},              {"batch", {200, 250, 288, 5}},
    {"beyond 4 GB", {128, 40000, 262144, 3}}, {"smaller than 128 KiB", {16, 64, 512, 1}},
};

std::vector<recorder::StampedMap> launch_and_find(Plan const& plan, int rows) {
  recorder::parameter_bytes() = static_cast<std::size_t>(plan.kernel(rows).params_bytes);
  plan.launch(symbolic_io(rows), nullptr);
  return recorder::find_tensor_maps(recorder::launches().back().parameter);
}

}  // namespace

TEST_CASE("tensor maps are those of the definition") {
  for (KernelInfo const& info : sm100_kernels()) {
    for (auto const& [name, shape] : kShapes) {
      INFO(std::string(info.name));
      INFO(std::string(name));
      recorder::reset();
      auto const plan = prepare(info, shape);
      auto const expected = expected_maps(info, shape);
      // The weights', once; A's at each launch.
      CHECK(recorder::tensor_maps().size() == expected.size() - 2);
      auto const found = launch_and_find(plan, shape.m);
      REQUIRE(found.size() == expected.size());
      CHECK(recorder::tensor_maps().size() == expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CHECK(words(recorder::tensor_maps().at(found[i].index)) == words(expected[i]));
      }
    }
  }
}

TEST_CASE("a stage receives its bytes exactly once") {
  // What one CTA of the pair issues arrives at all that share it; the leader's barrier counts for both.
  for (KernelInfo const& info : sm100_kernels()) {
    INFO(std::string(info.name));
    recorder::reset();
    auto const found = launch_and_find(prepare(info, {512, 1024, 1024, 1}), 512);
    Sharing const share(info);
    std::uint64_t received = 0;
    for (recorder::StampedMap const& place : found) {
      recorder::TensorMap const& map = recorder::tensor_maps().at(place.index);
      bool const activations = map.address == address_of(kA) || map.address == address_of(kSFA);
      bool const scales = map.data_type == CU_TENSOR_MAP_DATA_TYPE_UINT16;
      std::uint64_t const parts = activations ? share.activations : scales ? share.scales : share.codes;
      // Stacked codes of a pair: CTA 0 loads B1 and CTA 1 loads B2.
      bool const one_of_pair = info.mainloop == NVFP4_MAINLOOP_STACKED && info.sms == 2 && !activations && !scales;
      received += box_bytes(map) * parts * static_cast<std::uint64_t>(one_of_pair ? 1 : info.sms);
    }
    std::uint64_t const sms = static_cast<std::uint64_t>(info.sms), tile_n = static_cast<std::uint64_t>(info.tile_n);
    std::uint64_t const code_row = NVFP4_TILE_K / 2, scale_row = NVFP4_TILE_K / NVFP4_SCALE_BLOCK;
    std::uint64_t const weight_scale_rows =
        info.mainloop == NVFP4_MAINLOOP_INTERLEAVED ? NVFP4_INTERLEAVED_SCALE_ROWS : 2 * NVFP4_SCALE_ATOM_ROWS;
    // Rows of A and of B1 and B2 are divided among the SMs, the scales of the weights are on each.
    std::uint64_t const needed =
        128 * sms * (code_row + scale_row) + 2 * tile_n * code_row + sms * weight_scale_rows * scale_row;
    CHECK(received == needed);
    // The stages are shared memory; barriers and alignment take less than 3 KiB.
    std::uint64_t const stages = static_cast<std::uint64_t>(info.stages) * needed / sms;
    CHECK(static_cast<std::uint64_t>(info.smem_bytes) >= stages);
    CHECK(static_cast<std::uint64_t>(info.smem_bytes) < stages + 3072);
    CHECK(info.smem_bytes <= NVFP4_SM100_SMEM_BYTES);
  }
}

TEST_CASE("drivers up to 13.1 do not read beyond small tensors") {
  // They set a bit of tensor maps below 128 KiB wrongly, which the encoder has to clear.
  recorder::Device const saved = recorder::device();
  for (int const driver : {13000, 13020}) {
    recorder::device().driver_version = driver;
    recorder::reset();
    // 16 rows of A and 64 columns of the weights are small, 4096 columns are not: 1 MiB of codes, 128 KiB of scales.
    for (int const n : {64, 4096}) {
      for (recorder::StampedMap const& place : launch_and_find(prepare(sm100_kernels().front(), {16, n, 512, 1}), 16)) {
        recorder::TensorMap const& map = recorder::tensor_maps().at(place.index);
        bool const of_a = map.address == address_of(kA) || map.address == address_of(kSFA);
        CHECK(place.small_tensor_bit == (driver > 13010 || (n == 4096 && !of_a)));
      }
    }
  }
  recorder::device() = saved;
}
