// The kernel's parameter. That every word which a kernel reads of it is written is checked by scripts/static_proof.py,
// which knows the words.
#include <doctest/doctest.h>

#include <cstring>

#include "expectation.hpp"

using namespace nvfp4;
using namespace nvfp4::test;

namespace {

std::vector<std::uint8_t> parameter_of(Plan const& plan, Io const& io) {
  recorder::parameter_bytes() = static_cast<std::size_t>(plan.kernel(io.rows).params_bytes);
  plan.launch(io, nullptr);
  return recorder::launches().back().parameter;
}

// Where the parameter has an address; its end where it has not.
// Whether an address stands at the same place in both. What pads a parameter for alignment holds anything, an address of
// the same launch even.
bool same_place(std::vector<std::uint8_t> const& one, std::vector<std::uint8_t> const& other, void const* address) {
  for (std::size_t at = 0; at + sizeof(address) <= one.size(); at += sizeof(address)) {
    if (std::memcmp(one.data() + at, &address, sizeof(address)) == 0 &&
        std::memcmp(other.data() + at, &address, sizeof(address)) == 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

TEST_CASE("the parameter is small and tensor maps are aligned in it") {
  for (KernelInfo const& info : sm100_kernels()) {
    INFO(std::string(info.name));
    CHECK(info.params_bytes > 0);
    CHECK(info.params_bytes <= 4096);
    CHECK(info.params_bytes % 64 == 0);
    recorder::reset();
    auto const parameter = parameter_of(prepare(info, {256, 512, 512, 1}), symbolic_io(256));
    for (recorder::StampedMap const& place : recorder::find_tensor_maps(parameter)) {
      CHECK(place.offset % recorder::kTensorMapAlignment == 0);
    }
  }
}

TEST_CASE("a launch has its own A and C, and the weights of its plan") {
  for (KernelInfo const& info : sm100_kernels()) {
    INFO(std::string(info.name));
    GemmShape const shape{300, 1000, 992, 2};
    recorder::reset();
    auto const plan = prepare(info, shape);
    auto const of_weights = recorder::tensor_maps().size();
    for (int const moved : {0, 4096}) {
      Io io = symbolic_io(shape.m);
      io.a_codes = static_cast<std::uint8_t const*>(io.a_codes) + moved;
      io.c.data = static_cast<std::uint8_t*>(io.c.data) + moved;
      auto const before = recorder::tensor_maps().size();
      auto const parameter = parameter_of(plan, io);
      CHECK(recorder::tensor_maps().size() == before + 2);
      auto const bound = plan.bind(io);
      bound.launch(nullptr);
      for (auto const& launched : {parameter, recorder::launches().back().parameter}) {
        auto const found = recorder::find_tensor_maps(launched);
        auto const expected = expected_maps(info, shape);
        REQUIRE(found.size() == expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
          recorder::TensorMap wanted = expected[i];
          wanted.address += wanted.address == address_of(kA) ? static_cast<std::uint64_t>(moved) : 0;
          CHECK(words(recorder::tensor_maps().at(found[i].index)) == words(wanted));
          // Those of the weights are the very ones that prepare() encoded.
          CHECK((found[i].index < of_weights) == (i >= 2));
        }
        REQUIRE(launched.size() == parameter.size());
        CHECK(same_place(launched, parameter, io.c.data));
      }
    }
  }
}
