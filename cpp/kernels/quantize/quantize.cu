// The largest magnitude of a tensor, and its quantization. A thread has two blocks of 16; values are read once, codes
// are written 256 consecutive bytes at a time, scale factors 32.
#include "nvfp4_dual_gemm/quantize.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "quantize/launch.hpp"
#include "quantize/values.hpp"

namespace nvfp4 {

namespace detail {

namespace {

// A warp does this many blocks of two neighboring rows; the four warps of a thread block do so 32 rows apart in a tile
// of 128. These are 32 bytes of each atom.
constexpr unsigned kWarpBlocks = 32;
constexpr unsigned kWarps = NVFP4_SCALE_ATOM_ROWS / 32;
constexpr unsigned kRows = 2;
constexpr unsigned kRowSteps = 32 / kRows;
constexpr unsigned kWarpAtoms = kWarpBlocks / NVFP4_SCALE_ATOM_BLOCKS;

struct Work {
  std::uint32_t const* values;
  uint2* codes;
  std::uint8_t* scales;
  QuantizeState* state;
  float global;  // 0: of state->amax_bits
  std::size_t row_words;  // from one row of the values to the next
  unsigned rows, blocks, code_blocks, atom_columns, row_tiles, column_tiles;
};

// Finds the first value of a block that is no finite number.
template <class Value>
__device__ __noinline__ void report(std::uint32_t const* block, std::size_t index, QuantizeState* state) {
#pragma unroll 1
  for (int i = 0; i < NVFP4_SCALE_BLOCK; ++i) {
    std::uint32_t const bits = Value::value_bits(block, i);
    if ((bits & 0x7fffffffu) >= kInfinityBits) {
      note_non_finite(state, index + static_cast<std::size_t>(i), bits);
      return;
    }
  }
}

// The codes of a block that is not plain, one after the other, read again.
template <class Value>
__device__ __noinline__ uint2 codes_of_any_block(std::uint32_t const* block, BlockScale scale) {
  std::uint32_t codes[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    codes[half] = 0;
#pragma unroll 1
    for (int i = 0; i < 8; ++i) {
      std::uint32_t const bits = Value::value_bits(block, 8 * half + i);
      std::uint32_t const code = e2m1_code(quotient<false>(float_of(bits & 0x7fffffffu), scale)) | (bits >> 28 & 8);
      codes[half] |= code << (4 * i);
    }
  }
  return {codes[0], codes[1]};
}

template <class Value, int kHalf, int... kIndices>
__device__ __forceinline__ std::uint32_t codes_of_half(Block<Value::kWords> const& values,
                                                       Block<Value::kWords> const& magnitudes, BlockScale const& scale,
                                                       std::integer_sequence<int, kIndices...>) {
  return ((e2m1_code(quotient<true>(Value::template magnitude<8 * kHalf + kIndices>(magnitudes), scale))
           << (4 * kIndices)) |
          ... | Value::template signs<kHalf>(values));
}

template <class Value>
__device__ __forceinline__ Block<Value::kWords> load(std::uint32_t const* block) {
  Block<Value::kWords> values;
#pragma unroll
  for (int i = 0; i < Value::kWords; i += 4) {
    uint4 const quad = __ldg(reinterpret_cast<uint4 const*>(block + i));
    values.words[i] = quad.x;
    values.words[i + 1] = quad.y;
    values.words[i + 2] = quad.z;
    values.words[i + 3] = quad.w;
  }
  return values;
}

// Writes the codes of block `index`, which is at `source`, and returns its scale factor.
template <class Value>
__device__ __forceinline__ std::uint32_t quantize_block(Work const& work, float global,
                                                        Block<Value::kWords> const& values,
                                                        std::uint32_t const* source, std::size_t index, uint2* codes) {
  Block<Value::kWords> magnitudes;
  std::uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < Value::kWords; ++i) {
    magnitudes.words[i] = values.words[i] & Value::kMagnitudes;
    largest = Value::larger(largest, magnitudes.words[i]);
  }
  std::uint32_t const amax_bits = Value::magnitude_bits(largest);
  if (amax_bits >= kInfinityBits) {
    report<Value>(source, index * NVFP4_SCALE_BLOCK, work.state);
  }
  BlockScale const scale = block_scale(float_of(amax_bits), global);
  if (scale.plain) {
    constexpr std::make_integer_sequence<int, 8> kHalf{};
    *codes = {codes_of_half<Value, 0>(values, magnitudes, scale, kHalf),
              codes_of_half<Value, 1>(values, magnitudes, scale, kHalf)};
  } else {
    *codes = codes_of_any_block<Value>(source, scale);
  }
  return scale.byte;
}

template <class Value>
__global__ void __launch_bounds__(kWarps * 32) quantize_kernel(__grid_constant__ Work const work) {
  // As in memory: atom, row of the pair, row / 32, block.
  __shared__ __align__(16) std::uint8_t scales[kWarpAtoms][kRows][kWarps][NVFP4_SCALE_ATOM_BLOCKS];

  float const global = work.global != 0.0f ? work.global : global_of_amax(float_of(work.state->amax_bits));
  if (work.global == 0.0f && blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) {
    work.state->global_scale = global;
  }
  if (work.rows == 0) {
    return;
  }
  unsigned const column_tile = blockIdx.x % work.column_tiles;
  unsigned const step = blockIdx.x / work.column_tiles % kRowSteps;
  unsigned const row_tile = blockIdx.x / work.column_tiles / kRowSteps;
  unsigned const lane = threadIdx.x % 32;
  unsigned const warp = threadIdx.x / 32;
  unsigned const row = row_tile * NVFP4_SCALE_ATOM_ROWS + warp * 32 + step * kRows;
  unsigned const column = column_tile * kWarpBlocks + lane;
  std::size_t const batch_row = static_cast<std::size_t>(blockIdx.y) * work.rows + row;
  std::size_t const index = batch_row * work.blocks + column;
  std::uint32_t const* const source = work.values + batch_row * work.row_words + std::size_t{column} * Value::kWords;
  uint2* const codes = work.codes + batch_row * work.code_blocks + column;

  // All loads first.
  Block<Value::kWords> values[kRows] = {};
  bool const inside = column < work.blocks;
#pragma unroll
  for (unsigned i = 0; i < kRows; ++i) {
    if (inside && row + i < work.rows) {
      values[i] = load<Value>(source + i * work.row_words);
    }
  }
#pragma unroll
  for (unsigned i = 0; i < kRows; ++i) {
    std::uint32_t byte = 0;
    if (row + i < work.rows) {
      if (inside) {
        byte = quantize_block<Value>(work, global, values[i], source + i * work.row_words, index + i * work.blocks,
                                     codes + i * work.code_blocks);
      } else if (column < work.code_blocks) {
        codes[i * work.code_blocks] = {0, 0};
      }
    }
    scales[lane / 4][i][warp][lane % 4] = static_cast<std::uint8_t>(byte);
  }
  __syncthreads();
  unsigned const atom = column_tile * kWarpAtoms + threadIdx.x / kRows;
  if (threadIdx.x < kRows * kWarpAtoms && atom < work.atom_columns) {
    std::size_t const tile = static_cast<std::size_t>(blockIdx.y) * work.row_tiles + row_tile;
    std::size_t const offset =
        (tile * work.atom_columns + atom) * NVFP4_SCALE_ATOM_BYTES + (step * kRows + threadIdx.x % kRows) * 16;
    *reinterpret_cast<uint4*>(work.scales + offset) =
        *reinterpret_cast<uint4 const*>(scales[threadIdx.x / kRows][threadIdx.x % kRows]);
  }
}

// 16-byte vectors that a thread looks at.
constexpr unsigned kVectors = 8;
constexpr unsigned kThreads = 256;

struct Amax {
  uint4 const* values;
  std::size_t vectors;
  // Of one row, and from one row to the next; 0 where all values are contiguous.
  std::size_t row_vectors, row_stride;
  QuantizeState* state;

  __device__ std::size_t address(std::size_t at) const {
    return row_vectors == 0 ? at : at / row_vectors * row_stride + at % row_vectors;
  }
};

template <class Value>
__global__ void __launch_bounds__(kThreads) amax_kernel(__grid_constant__ Amax const work) {
  __shared__ std::uint32_t of_warps[kThreads / 32];

  std::size_t const first = static_cast<std::size_t>(blockIdx.x) * (kThreads * kVectors) + threadIdx.x;
  uint4 quads[kVectors];
#pragma unroll
  for (unsigned i = 0; i < kVectors; ++i) {
    std::size_t const at = first + i * kThreads;
    quads[i] = at < work.vectors ? __ldg(work.values + work.address(at)) : uint4{0, 0, 0, 0};
  }
  std::uint32_t largest = 0;
#pragma unroll
  for (unsigned i = 0; i < kVectors; ++i) {
    for (std::uint32_t const word : {quads[i].x, quads[i].y, quads[i].z, quads[i].w}) {
      largest = Value::larger(largest, word & Value::kMagnitudes);
    }
  }
  std::uint32_t const of_warp = __reduce_max_sync(0xffffffffu, Value::magnitude_bits(largest));
  if (threadIdx.x % 32 == 0) {
    of_warps[threadIdx.x / 32] = of_warp;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    std::uint32_t of_block = 0;
    for (std::uint32_t const other : of_warps) {
      of_block = of_block > other ? of_block : other;
    }
    atomicMax(&work.state->amax_bits, of_block);
  }
}

struct Sizes {
  Tiling tiling;
  int padded_k;
  std::size_t values_bytes;  // without what is between rows
  std::size_t row_bytes;     // from one row to the next
  std::size_t region_bytes;  // from the first value to the last
};

std::size_t element_bytes(ValueType type) { return type == ValueType::kF32 ? 4 : 2; }

Sizes sizes_of(Quantization const& work) {
  if (work.type > ValueType::kF32) {
    fail_argument("type = ", static_cast<std::uint32_t>(work.type), " is none of f16, bf16, f32");
  }
  Tiling const tiles = tiling(work.rows, work.k, work.batch);
  if (work.k > INT32_MAX - NVFP4_SCALE_BLOCK) {
    fail_argument("K = ", work.k, " is too large to be padded to a multiple of ", NVFP4_K_MULTIPLE);
  }
  std::int64_t const stride = work.row_stride == 0 ? work.k : work.row_stride;
  std::size_t const size = element_bytes(work.type);
  if (stride < work.k || static_cast<std::size_t>(stride) * size % NVFP4_POINTER_ALIGNMENT != 0) {
    fail_argument("values: row_stride = ", stride, " is less than K = ", work.k, " or no multiple of ",
                  NVFP4_POINTER_ALIGNMENT, " bytes");
  }
  __extension__ using Wide = unsigned __int128;
  Wide const all_rows = Wide{static_cast<unsigned>(work.rows)} * static_cast<unsigned>(work.batch);
  Wide const bytes = all_rows * static_cast<unsigned>(work.k) * size;
  Wide const region =
      all_rows == 0 ? 0 : ((all_rows - 1) * static_cast<std::size_t>(stride) + static_cast<unsigned>(work.k)) * size;
  if (region > INT64_MAX) {
    fail_argument("values: rows = ", work.rows, ", K = ", work.k, ", batch = ", work.batch, ", row_stride = ", stride,
                  " take more than ", INT64_MAX, " bytes");
  }
  int const padded_k = ceil_div(work.k, NVFP4_K_MULTIPLE) * NVFP4_K_MULTIPLE;
  return {tiles, padded_k, static_cast<std::size_t>(bytes), static_cast<std::size_t>(stride) * size,
          static_cast<std::size_t>(region)};
}

Region values_of(Quantization const& work, Sizes const& sizes) {
  return {"values", work.values, sizes.region_bytes, NVFP4_POINTER_ALIGNMENT};
}

Region state_of(QuantizeState const* state) { return {"state", state, sizeof(QuantizeState), alignof(QuantizeState)}; }

// Calls `kernel_of` with the type of the values.
template <class Function>
auto of_type(ValueType type, Function&& kernel_of) {
  switch (type) {
    case ValueType::kF16:
      return kernel_of(F16{});
    case ValueType::kBf16:
      return kernel_of(Bf16{});
    default:
      return kernel_of(F32{});
  }
}

// `global` is 0 where it is that of the state.
void launch_quantize(Quantization const& work, float global, cudaStream_t stream) {
  Sizes const sizes = sizes_of(work);
  Region const spans[] = {
      values_of(work, sizes),
      {"codes", work.codes, codes_bytes(work.rows, sizes.padded_k, work.batch), NVFP4_POINTER_ALIGNMENT},
      {"scales", work.scales, scales_bytes(work.rows, work.k, work.batch), NVFP4_POINTER_ALIGNMENT},
      state_of(work.state),
  };
  for (Region const& span : spans) {
    require_region(span);
    for (Region const* other = spans; other != &span; ++other) {
      require_apart(*other, span);
    }
  }
  auto const [blocks, atom_columns, row_tiles] = sizes.tiling;
  unsigned const code_blocks = static_cast<unsigned>(sizes.padded_k) / NVFP4_SCALE_BLOCK;
  unsigned const column_tiles = ceil_div(blocks, kWarpBlocks);
  if (work.rows == 0 && global != 0.0f) {
    return;
  }
  // Without rows, one thread block leaves the global scale.
  unsigned const grid = std::max(1u, grid_size(std::uint64_t{column_tiles} * kRowSteps * row_tiles, work.rows, work.k));
  Work const parameters{static_cast<std::uint32_t const*>(work.values), reinterpret_cast<uint2*>(work.codes),
                        work.scales, work.state, global, sizes.row_bytes / sizeof(std::uint32_t),
                        static_cast<unsigned>(work.rows), blocks, code_blocks, atom_columns, row_tiles, column_tiles};
  auto const kernel = of_type(work.type, [](auto value) { return &quantize_kernel<decltype(value)>; });
  launch(kernel, "cudaLaunchKernel(quantize)", dim3(grid, static_cast<unsigned>(work.batch)), kWarps * 32, parameters,
         stream);
}

}  // namespace

}  // namespace detail

void load_quantizer() {
  for (ValueType const type : {ValueType::kF16, ValueType::kBf16, ValueType::kF32}) {
    detail::load(detail::of_type(type, [](auto value) { return &detail::quantize_kernel<decltype(value)>; }));
    detail::load(detail::of_type(type, [](auto value) { return &detail::amax_kernel<decltype(value)>; }));
  }
  detail::load_layout_kernels();
  detail::load_conversions();
}

std::optional<NonFinite> non_finite(std::uint64_t place) noexcept {
  if (place == 0) {
    return std::nullopt;
  }
  constexpr NonFinite::Kind kKinds[] = {NonFinite::Kind::kNaN, NonFinite::Kind::kInfinity,
                                        NonFinite::Kind::kMinusInfinity, NonFinite::Kind::kNaN};
  return NonFinite{static_cast<std::size_t>(~place >> 2), kKinds[~place & 3]};
}

void clear(QuantizeState* state, cudaStream_t stream) {
  detail::require_region(detail::state_of(state));
  detail::check_cuda(cudaMemsetAsync(state, 0, sizeof(QuantizeState), stream), "cudaMemsetAsync(state)");
}

void find_amax(Quantization const& work, cudaStream_t stream) {
  detail::Sizes const sizes = detail::sizes_of(work);
  detail::Region const values = detail::values_of(work, sizes);
  detail::Region const state = detail::state_of(work.state);
  detail::require_region(values);
  detail::require_region(state);
  detail::require_apart(values, state);
  std::size_t const vectors = sizes.values_bytes / sizeof(uint4);
  std::size_t const per_block = std::size_t{detail::kThreads * detail::kVectors};
  unsigned const grid = detail::grid_size(detail::ceil_div(vectors, per_block), work.rows, work.k);
  std::size_t const of_row = static_cast<std::size_t>(work.k) * detail::element_bytes(work.type);
  bool const contiguous = sizes.row_bytes == of_row;
  detail::Amax const parameters{static_cast<uint4 const*>(work.values), vectors,
                                contiguous ? 0 : of_row / sizeof(uint4), sizes.row_bytes / sizeof(uint4), work.state};
  detail::check_cuda(cudaMemsetAsync(&work.state->amax_bits, 0, sizeof(work.state->amax_bits), stream),
                     "cudaMemsetAsync(state->amax_bits)");
  if (grid == 0) {
    return;
  }
  auto const kernel = detail::of_type(work.type, [](auto value) { return &detail::amax_kernel<decltype(value)>; });
  detail::launch(kernel, "cudaLaunchKernel(amax)", dim3(grid), detail::kThreads, parameters, stream);
}

void quantize(Quantization const& work, float global_scale, cudaStream_t stream) {
  if (!(std::isfinite(global_scale) && global_scale > 0)) {
    detail::fail_argument("global_scale = ", global_scale, " is not finite and > 0");
  }
  detail::launch_quantize(work, global_scale, stream);
}

void quantize(Quantization const& work, cudaStream_t stream) { detail::launch_quantize(work, 0.0f, stream); }

}  // namespace nvfp4
