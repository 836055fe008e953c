// Shared memory and fragments of every Hopper kernel of the table: what TMA writes is what the tensor cores read, as
// CuTe lays it out, and the conversion of codes, evaluated on the host, against the definitions.
#include <cute/config.hpp>
// gcc takes rotl and rotr, which call each other, for always_inline functions that it cannot inline.
#undef CUTE_HOST_DEVICE
#define CUTE_HOST_DEVICE inline

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include <cuda_fp16.h>
#include <vector_types.h>

// Named by a part of the kernels that nothing here calls.
static uint3 const blockIdx{};

// Of the device alone; the PTX manual's prmt: nibble i of `selector` says which of the eight bytes becomes byte i.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  std::uint64_t const bytes = std::uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    result |= static_cast<unsigned>(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
  }
  return result;
}

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }

#include "cute/atom/mma_atom.hpp"
#include "cute/atom/mma_traits_sm90_gmma.hpp"
#include "cute/tensor.hpp"
#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "sm90/tile.hpp"
#include "sm90/widening.hpp"
#include "sm90/widening_bf16.hpp"

using namespace nvfp4;

namespace {

constexpr int kK = 64;  // of a group: an atom of scale factors, a row of 128 bytes of fp16
constexpr int kRowBytes = 2 * kK;
constexpr int kLanes = 4;  // that have a row of a fragment between them

// Calls check(Tile{}, info, slices) for every kernel of the table.
template <class Check>
void for_all_tiles(Check const& check) {
#define X(symbol, tile_m, tile_n, tile_k, slices, activations)                                             \
  {                                                                                                        \
    INFO(#symbol);                                                                                         \
    check(sm90::Tile<tile_m, tile_n, tile_k, slices, NVFP4_DATA_TYPE_##activations>{}, *find_kernel(#symbol), \
          slices);                                                                                         \
  }
#include "registry/sm90.def"
}

// Byte of a row-major box of rows, with the 16-byte pieces of a row exclusive-ored with as many bits of the row's number
// as a row has pieces (PTX manual, swizzling modes). Rows of 32 bytes are written without.
int swizzled(int row, int byte, int row_bytes) {
  int const pieces = row_bytes / 16;
  int const mask = row_bytes == 128 ? row % 8 : row_bytes == 64 ? row / 2 % 4 : 0;
  REQUIRE(byte / 16 < pieces);
  return row * row_bytes + (byte / 16 ^ mask) * 16 + byte % 16;
}

double value(std::uint16_t bits) { return static_cast<double>(__half2float(__ushort_as_half(bits))); }
double value_bf16(std::uint16_t bits) {
  return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
}
std::uint16_t half_of(std::uint32_t word, unsigned half) { return static_cast<std::uint16_t>(word >> 16 * half); }

// Of OCP's and NVIDIA's tables.
double e2m1(unsigned code) {
  constexpr double kMagnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return code & 8 ? -kMagnitudes[code & 7] : kMagnitudes[code];
}
double ue4m3(unsigned byte) {
  unsigned const exponent = byte >> 3, mantissa = byte & 7;
  return exponent == 0 ? mantissa * 0x1p-9 : (8 + mantissa) * 0x1p-10 * static_cast<double>(1u << exponent);
}

}  // namespace

TEST_CASE("Hopper: the tensor cores find the tokens where TMA puts them") {
  for_all_tiles([](auto tile, KernelInfo const&, int) {
    using Tile = decltype(tile);
    // As the consumer describes them to wgmma.
    using Atom = cute::SM90::GMMA::Layout_K_SW128_Atom<typename Tile::Element>;
    auto const layout = cute::tile_to_shape(
        Atom{}, cute::Shape<cute::Int<Tile::kTokens>, cute::Int<kK>, cute::Int<Tile::kTokenGroups>>{});
    static_assert(cute::is_same_v<cute::remove_cvref_t<decltype(layout.layout_a())>, cute::Swizzle<3, 4, 3>>,
                  "TMA swizzles over 128 bytes");
    std::int64_t wrong = 0;
    for (int slot = 0; slot < Tile::kTokenGroups; ++slot) {
      for (int token = 0; token < Tile::kTokens; ++token) {
        for (int k = 0; k < kK; ++k) {
          int const byte = 2 * static_cast<int>(layout.layout_b()(token, k, slot));
          int const box = slot * Tile::kTokens * kRowBytes;
          wrong += cute::Swizzle<3, 4, 3>{}(byte) != box + swizzled(token, 2 * k, kRowBytes);
        }
      }
    }
    CHECK(wrong == 0);
    CHECK(2 * cute::cosize(layout.layout_b()) == sizeof(Tile::Stages::tokens));
  });
}

TEST_CASE("Hopper: boxes begin where their swizzle does, and fill their slots") {
  for_all_tiles([](auto tile, KernelInfo const& info, int) {
    using Tile = decltype(tile);
    using Storage = typename Tile::SharedStorage;
    using Stages = typename Tile::Stages;
    CHECK(offsetof(Storage, stages) == 0);
    // A swizzle over 128, 64 bytes repeats after 1024, 512; without one TMA wants multiples of 128.
    std::size_t const codes_atom = Tile::kTileK == 256 ? 1024 : Tile::kTileK == 128 ? 512 : 128;
    CHECK(offsetof(Stages, tokens) % 1024 == 0);
    CHECK(offsetof(Stages, codes) % codes_atom == 0);
    CHECK(offsetof(Stages, scales) % 128 == 0);
    CHECK(sizeof(Stages::tokens[0]) == Tile::kTokens * kRowBytes);
    CHECK(sizeof(Stages::tokens[0]) % 1024 == 0);
    CHECK(sizeof(Stages::codes[0][0]) == Tile::kColumns * Tile::kTileK / 2);
    CHECK(sizeof(Stages::codes[0][0]) % codes_atom == 0);
    CHECK(sizeof(Stages::scales[0][0]) ==
          Tile::kScaleAtoms * NVFP4_SCALE_ATOM_ROWS * Tile::kTileK / NVFP4_SCALE_BLOCK);
    CHECK(sizeof(Stages::scales[0][0]) % 128 == 0);
    CHECK(offsetof(Stages, codes) >= offsetof(Stages, tokens) + sizeof(Stages::tokens));
    CHECK(offsetof(Stages, scales) >= offsetof(Stages, codes) + sizeof(Stages::codes));
    CHECK(sizeof(Storage) <= NVFP4_SM90_SMEM_BYTES);
    CHECK(offsetof(Storage, full) % 8 == 0);
    CHECK(offsetof(Storage, empty) % 8 == 0);
    // All the stages that the shared memory has room for, up to ten.
    CHECK(std::size(Stages{}.codes) == static_cast<std::size_t>(info.stages));
    CHECK((info.stages == 10 || sizeof(Storage) + Tile::kStageBytes > NVFP4_SM90_SMEM_BYTES - Tile::kBarrierBytes));
  });
}

TEST_CASE("Hopper: a tile of columns has its scales in the atoms that it loads") {
  for_all_tiles([](auto tile, KernelInfo const&, int) {
    using Tile = decltype(tile);
    for (int first = 0; first < 100 * Tile::kColumns; first += Tile::kColumns) {
      int const loaded = first / NVFP4_SCALE_ATOM_ROWS;
      for (int column = first; column < first + Tile::kColumns; ++column) {
        CHECK(column / NVFP4_SCALE_ATOM_ROWS - loaded < Tile::kScaleAtoms);
      }
    }
  });
}

// What the consumer's registers rest on. Rows j and j + 8 of a warp's sixteen are column j of the gate and of the up
// projection.
TEST_CASE("Hopper: a thread has the codes of two rows, and both sums of an element") {
  for_all_tiles([](auto tile, KernelInfo const&, int) {
    using Tile = decltype(tile);
    typename cute::SM90::GMMA::ALayout_64x16 const weights;
    typename cute::SM90::GMMA::template CLayout_64xN<Tile::kTokens> const sums;
    constexpr int kRows = 64;
    std::int64_t wrong = 0;
    for (int thread = 0; thread < 128; ++thread) {
      int const warp = thread / 32, j = thread % 32 / kLanes, c = thread % kLanes;
      for (int half = 0; half < 8; ++half) {
        int const at = static_cast<int>(weights(thread, half));  // column-major
        int const reg = half / 2, e = half % 2;
        wrong += at % kRows != warp * 16 + j + reg % 2 * 8;
        wrong += at / kRows != 2 * c + e + reg / 2 * 8;
      }
      for (int i = 0; i < Tile::kTokens / 2; ++i) {
        int const at = static_cast<int>(sums(thread, i));
        wrong += at % kRows != warp * 16 + j + i % 4 / 2 * 8;
        wrong += at / kRows != i / 4 * 8 + 2 * c + i % 2;
      }
    }
    CHECK(wrong == 0);
  });
}

// The two conversions, and what each is in units of.
struct Fp16 {
  static constexpr double kUnit = static_cast<double>(sm90::kWidenedUnit);
  static auto widen_scales(std::uint32_t scales) { return sm90::widen_scales(scales); }
  static double value_of(std::uint16_t bits) { return value(bits); }
};
struct Bf16 {
  static constexpr double kUnit = static_cast<double>(sm90::kWidenedUnitBf16);
  static auto widen_scales(std::uint32_t scales) { return sm90::widen_scales_bf16(scales); }
  static double value_of(std::uint16_t bits) { return value_bf16(bits); }
};

template <class Type>
void check_codes_times_scales() {
  for (unsigned byte = 0; byte <= 0x7e; ++byte) {
    auto const scale = Type::widen_scales(byte | byte << 16);
    for (unsigned code = 0; code < 16; ++code) {
      for (unsigned place = 0; place < 8; ++place) {
        // One code among others.
        std::uint32_t const others = 0x53197531u & ~(0xfu << 4 * place);
        sm90::Pairs const pairs = sm90::widen(others | code << 4 * place, scale);
        for (unsigned j = 0; j < 8; ++j) {
          unsigned const at = j == place ? code : others >> 4 * j & 0xf;
          std::uint16_t const bits = half_of(pairs.pair[j % 4], j / 4);
          if (Type::value_of(bits) != e2m1(at) * ue4m3(byte) * Type::kUnit) {
            FAIL("code " << at << " times " << byte << " at " << j << " is " << Type::value_of(bits));
          }
        }
      }
    }
  }
}

TEST_CASE("Hopper: codes times scale factors are exact, in the order of pairs") {
  check_codes_times_scales<Fp16>();
  check_codes_times_scales<Bf16>();
}

// All codes, in both nibbles of the byte that a thread has of two words, times all scale factors.
template <class Type>
void check_bytes_times_scales() {
  for (int c = 0; c < kLanes; ++c) {
    std::uint32_t const selector = sm90::byte_selector(c);
    for (unsigned scale_byte = 0; scale_byte <= 0x7e; ++scale_byte) {
      auto const scale = Type::widen_scales(scale_byte | scale_byte << 16);
      for (unsigned byte = 0; byte < 256; ++byte) {
        // The other bytes of the words are those of other threads; the other word's byte is another.
        std::uint32_t const here = 0xffu << 8 * c;
        unsigned const second = (byte * 167 + 13) & 0xff;
        sm90::BytePairs const pairs = sm90::widen_bytes((0x9c3a51f7u & ~here) | byte << 8 * c,
                                                        (0x63c5ae08u & ~here) | second << 8 * c, selector, scale);
        for (unsigned word = 0; word < 2; ++word) {
          for (unsigned nibble = 0; nibble < 2; ++nibble) {
            unsigned const code = (word == 0 ? byte : second) >> 4 * nibble & 0xf;
            double const widened = Type::value_of(half_of(pairs.pair[word], nibble));
            if (widened != e2m1(code) * ue4m3(scale_byte) * Type::kUnit) {
              FAIL("thread " << c << ", word " << word << ": " << code << " times " << scale_byte << " is " << widened);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("Hopper: codes of a thread's bytes times scale factors are exact, in natural K order") {
  check_bytes_times_scales<Fp16>();
  check_bytes_times_scales<Bf16>();
}

// What pads K may be any: it is multiplied by 0, and must be finite.
template <class Type>
void check_padding_scales() {
  for (unsigned byte = 0; byte < 256; ++byte) {
    auto const scale = Type::widen_scales(byte << 16 | (byte ^ 0x55));
    for (std::uint32_t const codes : {0x76543210u, 0xfedcba98u}) {
      sm90::Pairs const pairs = sm90::widen(codes, scale);
      for (unsigned j = 0; j < 8; ++j) {
        CHECK(std::isfinite(Type::value_of(half_of(pairs.pair[j % 4], j / 4))));
      }
    }
  }
}

TEST_CASE("Hopper: no byte of a scale factor that pads makes a weight infinite") {
  check_padding_scales<Fp16>();
  check_padding_scales<Bf16>();
}

TEST_CASE("Hopper: tokens come in the order of K in which fragments have the weights") {
  typename cute::SM90::GMMA::ALayout_64x16 const weights;
  constexpr unsigned kOne = 0x2;      // the code of 1
  constexpr unsigned kScale = 0x38;   // the byte of 1
  for (int k = 0; k < kK; ++k) {
    // Thread c owns 16 of K, a scale block, as two words of eight codes. Code p of a word and code p + 4 are pair p;
    // instruction i has pairs 2 * (i % 2) and the next of word i / 2, as registers 0 and 2 of the gate's row.
    int const owner = k / 16, word = k / 8 % 2, code = k % 8, pair = code % 4;
    int const instruction = 2 * word + pair / 2, half = 4 * (pair % 2) + code / 4;
    int const position = static_cast<int>(weights(owner, half)) / 64;

    std::uint32_t words[4] = {};
    words[owner] = kOne << 4 * code;
    sm90::HalfGroup const widened = sm90::widen_half_group(words, kScale * 0x01010101u);
    std::uint16_t row[kK] = {};
    static_assert(sizeof(widened) == sizeof(row) / 2);
    std::memcpy(row + word * kK / 2, &widened, sizeof(widened));
    for (int at = 0; at < kK; ++at) {
      bool const here = at == instruction * 16 + position;
      CHECK(value(row[at]) == (here ? static_cast<double>(sm90::kWidenedUnit) : 0.0));
    }
  }
}

TEST_CASE("Hopper: values of 16 bits are put into the K order of owners as widened tokens are") {
  std::uint16_t values[kK];
  for (int k = 0; k < kK; ++k) {
    values[k] = static_cast<std::uint16_t>(1000 + k);
  }
  uint4 blocks[kK / 8];
  static_assert(sizeof(blocks) == sizeof(values));
  std::memcpy(blocks, values, sizeof(values));
  typename cute::SM90::GMMA::ALayout_64x16 const weights;
  for (int word = 0; word < 2; ++word) {
    sm90::HalfGroup const half =
        sm90::order_half_group(blocks[word], blocks[2 + word], blocks[4 + word], blocks[6 + word]);
    std::uint16_t row[kK / 2];
    static_assert(sizeof(half) == sizeof(row));
    std::memcpy(row, &half, sizeof(half));
    for (int owner = 0; owner < kLanes; ++owner) {
      for (int code = 0; code < 8; ++code) {
        // As in the case above.
        int const pair = code % 4, position = static_cast<int>(weights(owner, 4 * (pair % 2) + code / 4)) / 64;
        CHECK(row[pair / 2 * 16 + position] == values[owner * 16 + word * 8 + code]);
      }
    }
  }
}

TEST_CASE("Hopper: in natural K order a thread's registers are the bytes that it has of each word") {
  typename cute::SM90::GMMA::ALayout_64x16 const weights;
  constexpr unsigned kOne = 0x2;     // the code of 1
  constexpr unsigned kScale = 0x38;  // the byte of 1
  for (int k = 0; k < 16; ++k) {     // of an instruction, whose two words are codes 0..7 and 8..15
    std::uint32_t words[2] = {};
    words[k / 8] = kOne << 4 * (k % 8);
    for (int c = 0; c < kLanes; ++c) {
      sm90::BytePairs const pairs = sm90::widen_bytes(words[0], words[1], sm90::byte_selector(c),
                                                      sm90::widen_scales(kScale | kScale << 16));
      for (int i = 0; i < 4; ++i) {
        // Pair p is register 2p of the gate's row, halves 4p and 4p + 1 of the eight.
        int const position = static_cast<int>(weights(c, i / 2 * 4 + i % 2)) / 64;
        CHECK(value(half_of(pairs.pair[i / 2], static_cast<unsigned>(i % 2))) ==
              (position == k ? static_cast<double>(sm90::kWidenedUnit) : 0.0));
      }
    }
  }
}

TEST_CASE("Hopper: registers of producers and consumers are those of the launch") {
  for_all_tiles([](auto tile, KernelInfo const& info, int) {
    using Tile = decltype(tile);
    constexpr int kOfSm = 65536;
    auto const registers = sm90::registers(Tile::kWarpgroups);
    // A kernel gets multiples of eight for each thread.
    int const launched = kOfSm / info.threads / 8 * 8 * info.threads;
    CHECK(registers.producer * 128 + registers.consumer * Tile::kConsumers <= launched);
    CHECK(registers.producer % 8 == 0);
    CHECK(registers.consumer % 8 == 0);
    CHECK(registers.producer >= 24);
    CHECK(registers.consumer <= 256);
    // Sums, and two fragments of sixteen registers, must have room.
    CHECK(registers.consumer > Tile::kTokens / 2 + 32);
  });
}

TEST_CASE("Hopper: the table of kernels says what was compiled") {
  for_all_tiles([](auto tile, KernelInfo const& info, int slices) {
    using Tile = decltype(tile);
    CHECK(info.compute_capability == 90);
    CHECK(info.tile_m == Tile::kTokens);
    CHECK(info.tile_n == Tile::kColumns);
    CHECK(info.tile_k == Tile::kTileK);
    CHECK(info.stages == Tile::kStages);
    CHECK(info.threads == 128 * (1 + Tile::kColumns / 32 * slices));
    CHECK(info.smem_bytes == sizeof(typename Tile::SharedStorage));
    CHECK(info.activations == Tile::kActivations);
    std::string const mainloop = Tile::kActivations == NVFP4_DATA_TYPE_NVFP4 ? "widened"
                                 : Tile::kActivations == NVFP4_DATA_TYPE_F16 ? "f16"
                                                                             : "bf16";
    CHECK(std::string(info.name) == "sm90_" + mainloop + "_" + std::to_string(Tile::kTokens) + "x" +
                                        std::to_string(Tile::kColumns) + "_k" + std::to_string(Tile::kTileK) + "_s" +
                                        std::to_string(slices));
  });
}
