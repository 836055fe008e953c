// Weights for the kernels whose tile is 96 columns of C: no multiple of the 64 rows at which the hardware can begin to
// read separate scale factors. A tile is 96 rows of B1, then the same 96 of B2; its scale factors fill two atoms of
// rows.
#include <algorithm>
#include <cstring>

#include "nvfp4_dual_gemm/weights.hpp"
#include "support/error.hpp"

namespace nvfp4 {

namespace {

using detail::fail_argument;

using Bytes = std::span<std::uint8_t const>;

constexpr std::size_t kTileRows = NVFP4_INTERLEAVE;
// Neighboring scale factors of one row in one atom.
constexpr std::size_t kGroup = NVFP4_SCALE_ATOM_BLOCKS;

void require_size(char const* operand, std::size_t actual, std::size_t expected, int n, int k, int batch) {
  if (actual != expected) {
    fail_argument("interleave_weights: ", operand, ": ", actual, " bytes where N = ", n, ", K = ", k,
                  ", batch = ", batch, " take ", expected);
  }
}

// Offset of blocks 4 * atom .. 4 * atom + 3 of a row in the 128x4 layout with `atoms` atoms along K.
std::size_t group_offset(std::size_t row, std::size_t atom, std::size_t atoms) {
  std::size_t const in_atom = row % NVFP4_SCALE_ATOM_ROWS;
  return (row / NVFP4_SCALE_ATOM_ROWS * atoms + atom) * NVFP4_SCALE_ATOM_BYTES + in_atom % 32 * 16 +
         in_atom / 32 * kGroup;
}

}  // namespace

void interleave_weights(int n, int k, int batch, Bytes b1_codes, Bytes b1_scales, Bytes b2_codes, Bytes b2_scales,
                        std::span<std::uint8_t> codes, std::span<std::uint8_t> scales) {
  if (n < 1 || k < NVFP4_K_MULTIPLE || k % NVFP4_K_MULTIPLE != 0 || batch < 1) {
    fail_argument("interleave_weights: N = ", n, ", K = ", k, ", batch = ", batch,
                  ": N and batch must be at least 1, K a positive multiple of ", NVFP4_K_MULTIPLE);
  }
  std::size_t const codes_in = codes_bytes(n, k, batch);
  std::size_t const scales_in = scales_bytes(n, k, batch);
  require_size("b1.codes", b1_codes.size(), codes_in, n, k, batch);
  require_size("b1.scales", b1_scales.size(), scales_in, n, k, batch);
  require_size("b2.codes", b2_codes.size(), codes_in, n, k, batch);
  require_size("b2.scales", b2_scales.size(), scales_in, n, k, batch);
  require_size("codes", codes.size(), interleaved_codes_bytes(n, k, batch), n, k, batch);
  require_size("scales", scales.size(), interleaved_scales_bytes(n, k, batch), n, k, batch);

  std::size_t const rows = static_cast<std::size_t>(n);
  std::size_t const batches = static_cast<std::size_t>(batch);
  std::size_t const row_bytes = static_cast<std::size_t>(k) / 2;
  std::size_t const blocks = static_cast<std::size_t>(k) / NVFP4_SCALE_BLOCK;
  std::size_t const atoms = (blocks + kGroup - 1) / kGroup;
  std::size_t const tiles = (rows + kTileRows - 1) / kTileRows;
  std::fill(codes.begin(), codes.end(), std::uint8_t{0});
  std::fill(scales.begin(), scales.end(), std::uint8_t{0});

  for (std::size_t b = 0; b < batches; ++b) {
    std::size_t const codes_from = b * (codes_in / batches);
    std::size_t const scales_from = b * (scales_in / batches);
    std::uint8_t* const batch_codes = codes.data() + b * (codes.size() / batches);
    std::uint8_t* const batch_scales = scales.data() + b * (scales.size() / batches);
    for (std::size_t tile = 0; tile < tiles; ++tile) {
      std::size_t const first = tile * kTileRows;
      std::size_t const used = std::min(kTileRows, rows - first);
      for (std::size_t half = 0; half < 2; ++half) {
        std::uint8_t const* const from_codes = (half == 0 ? b1_codes : b2_codes).data() + codes_from;
        std::uint8_t const* const from_scales = (half == 0 ? b1_scales : b2_scales).data() + scales_from;
        std::memcpy(batch_codes + (2 * tile + half) * kTileRows * row_bytes, from_codes + first * row_bytes,
                    used * row_bytes);
        std::size_t const target = tile * NVFP4_INTERLEAVED_SCALE_ROWS + half * kTileRows;
        for (std::size_t atom = 0; atom < atoms; ++atom) {
          // The factors that pad K stay zero: the kernel multiplies zero codes by them, which must not make a NaN.
          std::size_t const bytes = std::min(kGroup, blocks - atom * kGroup);
          for (std::size_t row = 0; row < used; ++row) {
            std::memcpy(batch_scales + group_offset(target + row, atom, atoms),
                        from_scales + group_offset(first + row, atom, atoms), bytes);
          }
        }
      }
    }
  }
}

}  // namespace nvfp4
