// scale_layout swizzle|unswizzle ROWS K BATCH [TILE_ROWS PADDED_ROWS]
//
// Scale factors from stdin to stdout, between row-major [batch, rows, k/16] and the 128x4 layout, by CUTLASS's own
// description of that layout; padding is 0xEE. With TILE_ROWS and PADDED_ROWS, every TILE_ROWS rows have PADDED_ROWS
// rows of the layout to themselves, as interleaved weights do. The tests of the Rust library read it: neither side
// checks itself.
#include <cute/config.hpp>
// gcc takes rotl and rotr, which call each other, for always_inline functions that it cannot inline.
#undef CUTE_HOST_DEVICE
#define CUTE_HOST_DEVICE inline

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include <cute/tensor.hpp>
#include <cutlass/detail/sm100_blockscaled_layout.hpp>

namespace {

constexpr int kBlock = 16;
constexpr std::uint8_t kPadding = 0xEE;

[[noreturn]] void fail(char const* what) {
  std::fprintf(stderr, "scale_layout: %s\n", what);
  std::exit(2);
}

int number(char const* text) {
  int value = 0;
  auto const end = text + std::strlen(text);
  auto const result = std::from_chars(text, end, value);
  if (result.ec != std::errc{} || result.ptr != end || value < 1) {
    fail("a size is not a positive number");
  }
  return value;
}

std::vector<std::uint8_t> read_all() {
  std::vector<std::uint8_t> bytes;
  std::uint8_t buffer[1 << 16];
  for (std::size_t count; (count = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) {
    bytes.insert(bytes.end(), buffer, buffer + count);
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 && argc != 7) {
    fail("arguments: swizzle|unswizzle ROWS K BATCH [TILE_ROWS PADDED_ROWS]");
  }
  bool const swizzle = std::string_view(argv[1]) == "swizzle";
  if (!swizzle && std::string_view(argv[1]) != "unswizzle") {
    fail("the first argument is swizzle or unswizzle");
  }
  int const rows = number(argv[2]), k = number(argv[3]), batch = number(argv[4]);
  int const tile = argc == 7 ? number(argv[5]) : rows;
  int const padded = argc == 7 ? number(argv[6]) : rows;
  int const layout_rows = argc == 7 ? (rows + tile - 1) / tile * padded : rows;

  auto const layout = cutlass::detail::Sm1xxBlockScaledConfig<kBlock>::tile_atom_to_shape_SFA(
      cute::make_shape(layout_rows, layout_rows, k, batch));
  std::size_t const columns = static_cast<std::size_t>(k) / kBlock;
  std::size_t const row_major_size = static_cast<std::size_t>(batch) * rows * columns;
  std::size_t const swizzled_size = cute::cosize(layout);

  auto const input = read_all();
  if (input.size() != (swizzle ? row_major_size : swizzled_size)) {
    std::fprintf(stderr, "scale_layout: %zu bytes on stdin, %zu expected\n", input.size(),
                 swizzle ? row_major_size : swizzled_size);
    return 2;
  }
  std::vector<std::uint8_t> output(swizzle ? swizzled_size : row_major_size, kPadding);
  for (int b = 0; b < batch; ++b) {
    for (int row = 0; row < rows; ++row) {
      int const layout_row = row / tile * padded + row % tile;
      for (std::size_t column = 0; column < columns; ++column) {
        std::size_t const from = (static_cast<std::size_t>(b) * rows + row) * columns + column;
        // The layout is over elements: any of the 16 of a block.
        std::size_t const at = layout(layout_row, static_cast<int>(column) * kBlock, b);
        (swizzle ? output[at] : output[from]) = swizzle ? input[from] : input[at];
      }
    }
  }
  return std::fwrite(output.data(), 1, output.size(), stdout) == output.size() ? 0 : 1;
}
