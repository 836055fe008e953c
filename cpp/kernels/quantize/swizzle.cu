// Scale factors from rows to the 128x4 layout and back. A thread has 16 blocks of rows r, r + 32, r + 64 and r + 96:
// as words of 4 blocks, transposed in registers, they are 16 consecutive bytes of 4 atoms each.
#include "nvfp4_dual_gemm/quantize.hpp"

#include "quantize/launch.hpp"

namespace nvfp4 {

namespace detail {

namespace {

// Blocks of a row that a thread has, and that a thread block has.
constexpr unsigned kChunk = 16;
constexpr unsigned kBlockChunks = 4;
constexpr unsigned kGroups = 4;
constexpr unsigned kThreads = 128;

template <class Row, class Swizzled>
struct Scales {
  Row* rows;
  Swizzled* swizzled;
  unsigned row_count, columns, atom_columns, row_tiles, column_tiles;
};

using ToSwizzled = Scales<std::uint8_t const, std::uint8_t>;
using ToRows = Scales<std::uint8_t, std::uint8_t const>;

// Which part a thread has. 4 lanes read 64 bytes of a row, 8 write 128 of an atom.
struct Coordinates {
  unsigned row;    // of the first group, in the matrix
  unsigned chunk;  // of the row
  std::size_t first_row;
  std::size_t atoms;  // byte offset of the thread's 16 bytes in the first of its atoms

  template <class Work>
  __device__ explicit Coordinates(Work const& work) {
    unsigned const row_tile = blockIdx.x / work.column_tiles;
    unsigned const of_tile = threadIdx.x / kBlockChunks;
    row = row_tile * NVFP4_SCALE_ATOM_ROWS + of_tile;
    chunk = blockIdx.x % work.column_tiles * kBlockChunks + threadIdx.x % kBlockChunks;
    first_row = static_cast<std::size_t>(blockIdx.y) * work.row_count + row;
    std::size_t const tile = static_cast<std::size_t>(blockIdx.y) * work.row_tiles + row_tile;
    atoms = (tile * work.atom_columns + chunk * 4) * NVFP4_SCALE_ATOM_BYTES + of_tile * 16;
  }
};

struct Quad {
  std::uint32_t words[4];
};

// kVector: rows begin at multiples of 16 bytes, and have a multiple of 16.
template <bool kVector>
__global__ void __launch_bounds__(kThreads) swizzle_kernel(__grid_constant__ ToSwizzled const work) {
  Coordinates const at(work);
  if (at.chunk * kChunk >= work.columns) {
    return;
  }
  Quad rows[kGroups];
#pragma unroll
  for (unsigned g = 0; g < kGroups; ++g) {
    rows[g] = {};
    if (at.row + g * 32 < work.row_count) {
      std::size_t const offset = (at.first_row + g * 32) * work.columns + at.chunk * kChunk;
      if constexpr (kVector) {
        uint4 const quad = __ldg(reinterpret_cast<uint4 const*>(work.rows + offset));
        rows[g] = {quad.x, quad.y, quad.z, quad.w};
      } else {
#pragma unroll
        for (unsigned i = 0; i < kChunk; ++i) {
          if (at.chunk * kChunk + i < work.columns) {
            rows[g].words[i / 4] |= static_cast<std::uint32_t>(work.rows[offset + i]) << (i % 4 * 8);
          }
        }
      }
    }
  }
#pragma unroll
  for (unsigned a = 0; a < 4; ++a) {
    if (at.chunk * 4 + a < work.atom_columns) {
      *reinterpret_cast<uint4*>(work.swizzled + at.atoms + a * NVFP4_SCALE_ATOM_BYTES) = {
          rows[0].words[a], rows[1].words[a], rows[2].words[a], rows[3].words[a]};
    }
  }
}

template <bool kVector>
__global__ void __launch_bounds__(kThreads) unswizzle_kernel(__grid_constant__ ToRows const work) {
  Coordinates const at(work);
  if (at.chunk * kChunk >= work.columns) {
    return;
  }
  Quad atoms[4];
#pragma unroll
  for (unsigned a = 0; a < 4; ++a) {
    atoms[a] = {};
    if (at.chunk * 4 + a < work.atom_columns) {
      uint4 const quad =
          __ldg(reinterpret_cast<uint4 const*>(work.swizzled + at.atoms + a * NVFP4_SCALE_ATOM_BYTES));
      atoms[a] = {quad.x, quad.y, quad.z, quad.w};
    }
  }
#pragma unroll
  for (unsigned g = 0; g < kGroups; ++g) {
    if (at.row + g * 32 < work.row_count) {
      std::size_t const offset = (at.first_row + g * 32) * work.columns + at.chunk * kChunk;
      if constexpr (kVector) {
        *reinterpret_cast<uint4*>(work.rows + offset) = {atoms[0].words[g], atoms[1].words[g], atoms[2].words[g],
                                                         atoms[3].words[g]};
      } else {
#pragma unroll
        for (unsigned i = 0; i < kChunk; ++i) {
          if (at.chunk * kChunk + i < work.columns) {
            work.rows[offset + i] = static_cast<std::uint8_t>(atoms[i / 4].words[g] >> (i % 4 * 8));
          }
        }
      }
    }
  }
}

template <class Row, class Swizzled>
void launch_layout(void (*vector)(Scales<Row, Swizzled>), void (*bytes)(Scales<Row, Swizzled>), char const* name,
                   Row* row_major, Swizzled* swizzled, int rows, int k, int batch, cudaStream_t stream) {
  auto const [blocks, atom_columns, row_tiles] = tiling(rows, k, batch);
  std::size_t const row_bytes = std::size_t{static_cast<unsigned>(rows)} * blocks * static_cast<unsigned>(batch);
  Region const plain{"row_major", row_major, row_bytes, 1};
  Region const tiles{"swizzled", swizzled, scales_bytes(rows, k, batch), NVFP4_POINTER_ALIGNMENT};
  require_region(plain);
  require_region(tiles);
  require_apart(plain, tiles);
  if (rows == 0) {
    return;
  }
  bool const aligned = blocks % kChunk == 0 && reinterpret_cast<std::uintptr_t>(row_major) % kChunk == 0;
  unsigned const column_tiles = ceil_div(blocks, kChunk * kBlockChunks);
  unsigned const grid = grid_size(std::uint64_t{column_tiles} * row_tiles, rows, k);
  launch(aligned ? vector : bytes, name, dim3(grid, static_cast<unsigned>(batch)), kThreads,
         Scales<Row, Swizzled>{row_major, swizzled, static_cast<unsigned>(rows), blocks, atom_columns, row_tiles,
                               column_tiles},
         stream);
}

}  // namespace

void load_layout_kernels() {
  load(&swizzle_kernel<true>);
  load(&swizzle_kernel<false>);
  load(&unswizzle_kernel<true>);
  load(&unswizzle_kernel<false>);
}

}  // namespace detail

void swizzle_scales(std::uint8_t const* row_major, std::uint8_t* swizzled, int rows, int k, int batch,
                    cudaStream_t stream) {
  detail::launch_layout(&detail::swizzle_kernel<true>, &detail::swizzle_kernel<false>,
                        "cudaLaunchKernel(swizzle_scales)", row_major, swizzled, rows, k, batch, stream);
}

void unswizzle_scales(std::uint8_t const* swizzled, std::uint8_t* row_major, int rows, int k, int batch,
                      cudaStream_t stream) {
  detail::launch_layout(&detail::unswizzle_kernel<true>, &detail::unswizzle_kernel<false>,
                        "cudaLaunchKernel(unswizzle_scales)", row_major, swizzled, rows, k, batch, stream);
}

}  // namespace nvfp4
