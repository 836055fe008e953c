// Values as activations in 16 bits: rounded where they are of another type, and with rows as long as kernels take them.
#include "nvfp4_dual_gemm/quantize.hpp"

#include <algorithm>

#include <cuda_bf16.h>

#include "quantize/launch.hpp"
#include "quantize/values.hpp"

namespace nvfp4 {

namespace detail {

namespace {

// Values of a thread: one 16-byte store.
constexpr unsigned kPiece = 8;
constexpr unsigned kThreads = 256;

struct Work {
  std::uint32_t const* values;
  uint4* out;
  QuantizeState* state;
  std::size_t row_words;  // from one row of the values to the next
  std::size_t pieces;     // of all rows of `out`
  unsigned k, out_pieces; // of a row
};

struct ToF16 {
  static constexpr std::uint32_t kInfinity = 0x7c00;
  static __device__ __forceinline__ std::uint32_t narrow(float value) {
    return __half_as_ushort(__float2half_rn(value));
  }
};

struct ToBf16 {
  static constexpr std::uint32_t kInfinity = 0x7f80;
  static __device__ __forceinline__ std::uint32_t narrow(float value) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
  }
};

template <class Value, class Out>
__global__ void __launch_bounds__(kThreads) convert_kernel(__grid_constant__ Work const work) {
  std::size_t const piece = std::size_t{blockIdx.x} * kThreads + threadIdx.x;
  if (piece >= work.pieces) {
    return;
  }
  std::size_t const row = piece / work.out_pieces;
  unsigned const column = static_cast<unsigned>(piece % work.out_pieces) * kPiece;
  uint4 converted = {0, 0, 0, 0};
  if (column < work.k) {
    constexpr int kWords = Value::kWords / 2;  // of 8 values
    std::uint32_t words[kWords];
    auto const* const from = reinterpret_cast<uint4 const*>(work.values + row * work.row_words +
                                                            static_cast<std::size_t>(column) * kWords / kPiece);
#pragma unroll
    for (int i = 0; i < kWords / 4; ++i) {
      uint4 const quad = __ldg(from + i);
      words[4 * i] = quad.x;
      words[4 * i + 1] = quad.y;
      words[4 * i + 2] = quad.z;
      words[4 * i + 3] = quad.w;
    }
    std::uint32_t halves[kPiece];
#pragma unroll
    for (unsigned i = 0; i < kPiece; ++i) {
      std::uint32_t const bits = Value::value_bits(words, static_cast<int>(i));
      halves[i] = Out::narrow(float_of(bits));
      if ((halves[i] & 0x7fffu) >= Out::kInfinity) {
        note_non_finite(work.state, row * work.k + column + i, bits);
      }
    }
    converted = {halves[0] | halves[1] << 16, halves[2] | halves[3] << 16, halves[4] | halves[5] << 16,
                 halves[6] | halves[7] << 16};
  }
  work.out[piece] = converted;
}

template <class Out>
void (*kernel_of(ValueType type))(Work) {
  switch (type) {
    case ValueType::kF16:
      return &convert_kernel<F16, Out>;
    case ValueType::kBf16:
      return &convert_kernel<Bf16, Out>;
    default:
      return &convert_kernel<F32, Out>;
  }
}

void (*kernel_of(Conversion const& work))(Work) {
  return work.out_type == ValueType::kF16 ? kernel_of<ToF16>(work.type) : kernel_of<ToBf16>(work.type);
}

}  // namespace

void load_conversions() {
  for (ValueType const out_type : {ValueType::kF16, ValueType::kBf16}) {
    for (ValueType const type : {ValueType::kF16, ValueType::kBf16, ValueType::kF32}) {
      Conversion work{};
      work.type = type;
      work.out_type = out_type;
      load(kernel_of(work));
    }
  }
}

}  // namespace detail

void convert(Conversion const& work, cudaStream_t stream) {
  using namespace detail;
  if (work.type > ValueType::kF32) {
    fail_argument("type = ", static_cast<std::uint32_t>(work.type), " is none of f16, bf16, f32");
  }
  if (work.out_type > ValueType::kBf16) {
    fail_argument("out_type = ", static_cast<std::uint32_t>(work.out_type), " is none of f16, bf16");
  }
  if (work.rows < 0) {
    fail_argument("rows = ", work.rows, " is negative");
  }
  if (work.k < NVFP4_SCALE_BLOCK || work.k % NVFP4_SCALE_BLOCK != 0) {
    fail_argument("K = ", work.k, " is not a positive multiple of ", NVFP4_SCALE_BLOCK);
  }
  if (work.out_k < work.k || work.out_k % static_cast<int>(kPiece) != 0) {
    fail_argument("out_k = ", work.out_k, " is less than K = ", work.k, " or no multiple of ", kPiece);
  }
  std::int64_t const stride = work.row_stride == 0 ? work.k : work.row_stride;
  std::size_t const size = work.type == ValueType::kF32 ? 4 : 2;
  if (stride < work.k || static_cast<std::size_t>(stride) * size % NVFP4_POINTER_ALIGNMENT != 0) {
    fail_argument("values: row_stride = ", stride, " is less than K = ", work.k, " or no multiple of ",
                  NVFP4_POINTER_ALIGNMENT, " bytes");
  }
  __extension__ using Wide = unsigned __int128;
  Wide const rows = static_cast<unsigned>(work.rows);
  Wide const read =
      rows == 0 ? 0 : ((rows - 1) * static_cast<std::size_t>(stride) + static_cast<unsigned>(work.k)) * size;
  Wide const written = rows * static_cast<unsigned>(work.out_k) * 2;
  if (read > INT64_MAX || written > INT64_MAX) {
    fail_argument("values: rows = ", work.rows, ", K = ", work.k, ", row_stride = ", stride, " take more than ",
                  INT64_MAX, " bytes");
  }
  Region const values{"values", work.values, static_cast<std::size_t>(read), NVFP4_POINTER_ALIGNMENT};
  Region const out{"out", work.out, static_cast<std::size_t>(written), NVFP4_POINTER_ALIGNMENT};
  Region const state{"state", work.state, sizeof(QuantizeState), alignof(QuantizeState)};
  for (Region const& region : {values, out, state}) {
    require_region(region);
  }
  require_apart(values, out);
  require_apart(values, state);
  require_apart(out, state);
  if (work.rows == 0) {
    return;
  }
  unsigned const out_pieces = static_cast<unsigned>(work.out_k) / kPiece;
  std::size_t const pieces = static_cast<std::size_t>(work.rows) * out_pieces;
  unsigned const grid = grid_size(ceil_div(pieces, std::size_t{kThreads}), work.rows, work.k);
  launch(kernel_of(work), "cudaLaunchKernel(convert)", dim3(grid), kThreads,
         Work{static_cast<std::uint32_t const*>(work.values), static_cast<uint4*>(work.out), work.state,
              static_cast<std::size_t>(stride) * size / sizeof(std::uint32_t), pieces, static_cast<unsigned>(work.k),
              out_pieces},
         stream);
}

}  // namespace nvfp4
