// The kernel's parameter. That every word which a kernel reads of it is written is checked by scripts/static_proof.py,
// which knows the words.
#include <doctest/doctest.h>

#include "expectation.hpp"

using namespace nvfp4;
using namespace nvfp4::test;

namespace {

std::vector<std::uint8_t> parameter_of(Config const& config, Operands const& operands) {
  recorder::reset();
  auto const plan = DualGemm::prepare(config, operands);
  recorder::parameter_bytes() = static_cast<std::size_t>(plan.kernel().params_bytes);
  plan.launch(nullptr);
  return recorder::launches().back().parameter;
}

}  // namespace

TEST_CASE("the parameter is small and tensor maps are aligned in it") {
  for (int kernel = 0; kernel < kAllKernels; ++kernel) {
    KernelInfo const& info = kernels()[static_cast<std::size_t>(kernel)];
    INFO(std::string(info.name));
    CHECK(info.params_bytes > 0);
    CHECK(info.params_bytes <= 4096);
    CHECK(info.params_bytes % 64 == 0);
    auto const parameter = parameter_of(config_for(kernel, {256, 512, 512, 1}), symbolic_operands(info.weights));
    for (recorder::StampedMap const& place : recorder::find_tensor_maps(parameter)) {
      CHECK(place.offset % recorder::kTensorMapAlignment == 0);
    }
  }
}

TEST_CASE("rebind encodes the new operands and leaves the rest") {
  for (int kernel = 0; kernel < kAllKernels; ++kernel) {
    KernelInfo const& info = kernels()[static_cast<std::size_t>(kernel)];
    INFO(std::string(info.name));
    Config const config = config_for(kernel, {300, 1000, 992, 2});
    Operands operands = symbolic_operands(info.weights);
    recorder::reset();
    auto plan = DualGemm::prepare(config, operands);
    auto const before = recorder::tensor_maps();
    operands.a_codes = static_cast<std::uint8_t const*>(operands.a_codes) + 4096;
    recorder::reset();
    plan.rebind(operands);
    auto const after = recorder::tensor_maps();
    REQUIRE(after.size() == before.size());
    for (std::size_t i = 0; i < after.size(); ++i) {
      recorder::TensorMap expected = before[i];
      expected.address += expected.address == address_of(kA) ? 4096 : 0;
      CHECK(words(after[i]) == words(expected));
    }
  }
}
