// What the quantizer and the swizzle refuse before any CUDA call, and what they say.
#include <doctest/doctest.h>

#include <climits>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "nvfp4_dual_gemm/quantize.hpp"

namespace {

using nvfp4::Error;
using nvfp4::NonFinite;
using nvfp4::Quantization;
using nvfp4::QuantizeState;
using nvfp4::ValueType;

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// 8 x 64 values of f16 from 0x10000 on; nothing of it is ever touched.
Quantization valid() {
  return {at<void>(0x10000),         ValueType::kF16,           8, 64, 2, at<std::uint8_t>(0x20000),
          at<std::uint8_t>(0x30000), at<QuantizeState>(0x40000)};
}

template <class Call>
void refuses(std::string const& words, Call const& call) {
  try {
    call();
    FAIL("not refused: ", words);
  } catch (Error const& error) {
    CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
    CHECK_MESSAGE(std::string(error.what()).find(words) != std::string::npos, error.what());
  }
}

template <class Change>
void refuses_work(std::string const& words, Change const& change) {
  Quantization work = valid();
  change(work);
  refuses(words, [&] { nvfp4::quantize(work, 1.0f, nullptr); });
  refuses(words, [&] { nvfp4::quantize(work, nullptr); });
}

}  // namespace

TEST_CASE("a quantization that breaks a rule is refused with its numbers") {
  refuses_work("rows = -1 is negative", [](Quantization& work) { work.rows = -1; });
  refuses_work("K = 24", [](Quantization& work) { work.k = 24; });
  refuses_work("K = 0", [](Quantization& work) { work.k = 0; });
  refuses_work("batch = 65536", [](Quantization& work) { work.batch = 65536; });
  refuses_work("type = 3", [](Quantization& work) { work.type = static_cast<ValueType>(3); });
  refuses_work("too large to be padded", [](Quantization& work) { work.k = INT_MAX / 16 * 16; });
  refuses_work("thread blocks", [](Quantization& work) {
    work.rows = INT_MAX;
    work.k = 1 << 12;
    work.batch = 1;
    work.codes = at<std::uint8_t>(std::uintptr_t{1} << 50);
    work.scales = at<std::uint8_t>(std::uintptr_t{1} << 51);
    work.state = at<QuantizeState>(std::uintptr_t{1} << 52);
  });
  refuses_work("take more than", [](Quantization& work) { work.rows = INT_MAX, work.k = 1 << 30, work.batch = 65535; });
  refuses_work("values: the address is null", [](Quantization& work) { work.values = nullptr; });
  refuses_work("values: address 0x10008", [](Quantization& work) { work.values = at<void>(0x10008); });
  refuses_work("codes: address 0x20004", [](Quantization& work) { work.codes = at<std::uint8_t>(0x20004); });
  refuses_work("scales: address 0x30001", [](Quantization& work) { work.scales = at<std::uint8_t>(0x30001); });
  refuses_work("state: the address is null", [](Quantization& work) { work.state = nullptr; });
  refuses_work("state: address 0x40004", [](Quantization& work) { work.state = at<QuantizeState>(0x40004); });
  refuses_work("values overlaps codes", [](Quantization& work) { work.codes = at<std::uint8_t>(0x107f0); });
  refuses_work("codes overlaps scales", [](Quantization& work) { work.scales = at<std::uint8_t>(0x20000); });
  refuses_work("scales overlaps state", [](Quantization& work) { work.state = at<QuantizeState>(0x303f0); });
  for (float const scale : {0.0f, -1.0f, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    refuses("global_scale = ", [&] { nvfp4::quantize(valid(), scale, nullptr); });
  }
  refuses("state: the address is null", [] { nvfp4::clear(nullptr, nullptr); });
  Quantization work = valid();
  work.state = at<QuantizeState>(0x10000);
  refuses("values overlaps state", [&] { nvfp4::find_amax(work, nullptr); });
}

TEST_CASE("a swizzle that breaks a rule is refused with its numbers") {
  std::uint8_t* const rows = at<std::uint8_t>(0x10003);
  std::uint8_t* const tiles = at<std::uint8_t>(0x20000);
  refuses("rows = -1", [=] { nvfp4::swizzle_scales(rows, tiles, -1, 64, 1, nullptr); });
  refuses("K = 8", [=] { nvfp4::unswizzle_scales(tiles, rows, 1, 8, 1, nullptr); });
  refuses("row_major: the address is null", [=] { nvfp4::swizzle_scales(nullptr, tiles, 1, 64, 1, nullptr); });
  refuses("swizzled: address 0x20008", [=] { nvfp4::swizzle_scales(rows, tiles + 8, 1, 64, 1, nullptr); });
  refuses("row_major overlaps swizzled", [=] { nvfp4::unswizzle_scales(tiles, tiles + 511, 1, 64, 1, nullptr); });
}

TEST_CASE("without rows nothing is launched, and nothing but the state has an address") {
  Quantization work = valid();
  work.rows = 0;
  work.values = nullptr;
  work.codes = work.scales = nullptr;
  CHECK_NOTHROW(nvfp4::quantize(work, 1.0f, nullptr));
  CHECK_NOTHROW(nvfp4::swizzle_scales(nullptr, nullptr, 0, 64, 1, nullptr));
  CHECK_NOTHROW(nvfp4::unswizzle_scales(nullptr, nullptr, 0, 64, 1, nullptr));
  refuses("K = 24", [&] { work.k = 24, nvfp4::quantize(work, 1.0f, nullptr); });
  work.k = 64;
  work.state = nullptr;
  refuses("state: the address is null", [&] { nvfp4::quantize(work, 1.0f, nullptr); });
}

TEST_CASE("places of values that are no numbers") {
  CHECK(!nvfp4::non_finite(0));
  for (std::size_t const index : {std::size_t{0}, std::size_t{12345678901234}}) {
    for (NonFinite::Kind const kind :
         {NonFinite::Kind::kNaN, NonFinite::Kind::kInfinity, NonFinite::Kind::kMinusInfinity}) {
      auto const found = nvfp4::non_finite(~(std::uint64_t{index} << 2 | static_cast<std::uint64_t>(kind)));
      REQUIRE(found);
      CHECK(found->index == index);
      CHECK(found->kind == kind);
    }
  }
}
