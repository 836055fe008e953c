#include "quantize_bridge.hpp"

#include <cstddef>
#include <cstring>
#include <limits>

// Made by cxx from bridge.rs.
#include "nvfp4-dual-gemm/src/cuda/ffi/bridge.rs.h"

namespace nvfp4::bridge {

namespace {

Quantization quantization(QuantizeWork const& work) {
  return {reinterpret_cast<void const*>(work.values),
          static_cast<ValueType>(work.value_type),
          work.rows,
          work.k,
          work.batch,
          reinterpret_cast<std::uint8_t*>(work.codes),
          reinterpret_cast<std::uint8_t*>(work.scales),
          reinterpret_cast<QuantizeState*>(work.state),
          static_cast<std::int64_t>(work.row_stride)};
}

float value(NonFinite::Kind kind) {
  switch (kind) {
    case NonFinite::Kind::kInfinity:
      return std::numeric_limits<float>::infinity();
    case NonFinite::Kind::kMinusInfinity:
      return -std::numeric_limits<float>::infinity();
    default:
      return std::numeric_limits<float>::quiet_NaN();
  }
}

}  // namespace

std::size_t quantize_state_bytes() noexcept { return sizeof(QuantizeState); }

std::size_t quantize_global_scale_offset() noexcept { return offsetof(QuantizeState, global_scale); }

QuantizeFindings quantize_findings(rust::Slice<std::uint8_t const> state) {
  if (state.size() != sizeof(QuantizeState)) {
    throw Error(NVFP4_STATUS_INVALID_ARGUMENT, 0, "state: not of the size of nvfp4::QuantizeState");
  }
  QuantizeState copy;
  std::memcpy(&copy, state.data(), sizeof copy);
  QuantizeFindings findings{false, 0, 0.0f, copy.global_scale};
  if (auto const bad = non_finite(copy.place)) {
    findings.non_finite = true;
    findings.index = bad->index;
    findings.value = value(bad->kind);
  }
  return findings;
}

void find_amax(QuantizeWork const& work, CUstream_st* stream) { nvfp4::find_amax(quantization(work), stream); }

void quantize_with(QuantizeWork const& work, float global_scale, CUstream_st* stream) {
  nvfp4::quantize(quantization(work), global_scale, stream);
}

void quantize_by_amax(QuantizeWork const& work, CUstream_st* stream) { nvfp4::quantize(quantization(work), stream); }

void convert(ConvertWork const& work, CUstream_st* stream) {
  Conversion const conversion{reinterpret_cast<void const*>(work.values),
                              static_cast<ValueType>(work.value_type),
                              work.rows,
                              work.k,
                              static_cast<std::int64_t>(work.row_stride),
                              reinterpret_cast<void*>(work.out),
                              static_cast<ValueType>(work.out_type),
                              work.out_k,
                              reinterpret_cast<QuantizeState*>(work.state)};
  nvfp4::convert(conversion, stream);
}

}  // namespace nvfp4::bridge
