// The C++ half of the quantizer in src/cuda/ffi/bridge.rs.
#pragma once

#include <cstdint>

#include "bridge.hpp"
#include "nvfp4_dual_gemm/quantize.hpp"

namespace nvfp4::bridge {

struct QuantizeWork;
struct ConvertWork;
struct QuantizeFindings;

using nvfp4::load_quantizer;

std::size_t quantize_state_bytes() noexcept;
std::size_t quantize_global_scale_offset() noexcept;

// `state` is a copy of the device's.
QuantizeFindings quantize_findings(rust::Slice<std::uint8_t const> state);

void find_amax(QuantizeWork const& work, CUstream_st* stream);
void quantize_with(QuantizeWork const& work, float global_scale, CUstream_st* stream);
void quantize_by_amax(QuantizeWork const& work, CUstream_st* stream);
void convert(ConvertWork const& work, CUstream_st* stream);

}  // namespace nvfp4::bridge
