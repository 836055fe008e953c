// Quantizing activations on the device, and the 128x4 layout of scale factors, bit for bit as the CPU does
// (src/format/quantize.rs and src/format/scale_layout.rs):
//
//   global = amax(tensor) / 2688;  scale = ue4m3(amax(block) / 6 / global);  code = e2m1(x / (f32(scale) * global))
//
// Everything here queues work on a stream of the current device, allocates nothing, waits for nothing, and may be
// captured. Code is compiled in for the architectures of the kernels of the build.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include <cuda_runtime_api.h>

#include "nvfp4_dual_gemm/dual_gemm.hpp"

namespace nvfp4 {

// Loads the kernels of everything here into the current context. Otherwise each is loaded when it is first used, which
// may have to wait for all streams, and is not allowed in a stream capture. Cheap where it was done before.
void load_quantizer();

// Types of unquantized values; the numbers are those of nvfp4_data_type.
enum class ValueType : std::uint32_t { kF16 = 0, kBf16 = 1, kF32 = 2 };

// What the kernels find out, in device memory. All zero bytes are its beginning: see clear().
struct QuantizeState {
  // 0, or which value was NaN or infinite: see non_finite(). It stays until it is cleared, and the first place stands
  // where several were met. This is how such an error leaves the device: nobody waits for it while work is queued.
  std::uint64_t place;
  // The bits of the largest magnitude as f32, put there by find_amax(); above those of infinity where a value is NaN.
  std::uint32_t amax_bits;
  // The global scale that quantize() without a given one computed and used, for Io::factor1 and factor2.
  float global_scale;
};

// batch x rows x k values, row by row, and where their codes and scale factors go. All addresses but that of the state
// are multiples of 16.
struct Quantization {
  void const* values;
  ValueType type;
  int rows, k, batch;  // k is a multiple of 16; without rows the largest magnitude is 0, and the global scale 1
  // codes_bytes(rows, k rounded up to NVFP4_K_MULTIPLE, batch); what is beyond k becomes 0.
  std::uint8_t* codes;
  // scales_bytes(rows, k, batch), in the 128x4 layout; what pads rows and k becomes 0. Never NaN, whatever the values.
  std::uint8_t* scales;
  QuantizeState* state;
  // From one row of the values to the next, in values: at least k, and a multiple of 16 bytes. 0: k.
  std::int64_t row_stride = 0;
};

// Where a value was that cannot be quantized.
struct NonFinite {
  std::size_t index;  // (batch * rows + row) * k + column
  enum class Kind { kNaN, kInfinity, kMinusInfinity } kind;
};

// What QuantizeState::place says.
std::optional<NonFinite> non_finite(std::uint64_t place) noexcept;

// Sets the state to its beginning.
void clear(QuantizeState* state, cudaStream_t stream);

// Sets state->amax_bits, whatever it was. Codes and scales are not looked at.
void find_amax(Quantization const& work, cudaStream_t stream);

// Quantizes with a global scale that is known, finite and > 0. Values beyond 2688 * global_scale saturate.
void quantize(Quantization const& work, float global_scale, cudaStream_t stream);

// Quantizes with the global scale of state->amax_bits, and leaves it in state->global_scale.
void quantize(Quantization const& work, cudaStream_t stream);

// rows x k values, and where they go as activations in 16 bits. The addresses of both are multiples of 16.
struct Conversion {
  void const* values;
  ValueType type;
  int rows, k;  // k is a multiple of 16
  // From one row of the values to the next, in values: at least k, and a multiple of 16 bytes. 0: k.
  std::int64_t row_stride;
  // rows x out_k; what is beyond k becomes 0. out_k is a multiple of 8.
  void* out;
  ValueType out_type;  // F16 or BF16
  int out_k;
  // Notes in `place` the first value that is no finite number, or that becomes none.
  QuantizeState* state;
};

// Rounds to nearest even.
void convert(Conversion const& work, cudaStream_t stream);

// Scale factors [batch, rows, k / 16], row-major, into the 128x4 layout of scales_bytes(rows, k, batch) bytes; padding
// becomes 0. The address of the latter is a multiple of 16.
void swizzle_scales(std::uint8_t const* row_major, std::uint8_t* swizzled, int rows, int k, int batch,
                    cudaStream_t stream);

// The way back; padding is dropped.
void unswizzle_scales(std::uint8_t const* swizzled, std::uint8_t* row_major, int rows, int k, int batch,
                      cudaStream_t stream);

}  // namespace nvfp4
