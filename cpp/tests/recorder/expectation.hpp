// What a kernel must ask of TMA, from the definition of the operands and the row of the table alone.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "recorder.hpp"

namespace nvfp4::test {

// This build's kernels of an architecture.
inline std::vector<KernelInfo> kernels_of(int compute_capability) {
  std::vector<KernelInfo> found;
  for (KernelInfo const& info : kernels()) {
    if (info.compute_capability == compute_capability) {
      found.push_back(info);
    }
  }
  return found;
}

// What is expected of TMA here is of the SM100 kernels, as the recorder pretends a B200; sm90_test.cpp has what is expected
// of Hopper's.
inline std::vector<KernelInfo> sm100_kernels() { return kernels_of(100); }

// Addresses that no two operands share.
inline std::uintptr_t address_of(int operand) { return static_cast<std::uintptr_t>(operand) << 44; }
enum Operand { kA = 1, kSFA, kB1, kSFB1, kB2, kSFB2, kC };

inline void* at(int operand) { return reinterpret_cast<void*>(address_of(operand)); }

inline Weights symbolic_weights(nvfp4_weight_format format) {
  Weights weights{};
  weights.size = sizeof weights;
  weights.b1_codes = at(kB1);
  weights.b1_scales = at(kSFB1);
  if (format == NVFP4_WEIGHTS_SEPARATE) {
    weights.b2_codes = at(kB2);
    weights.b2_scales = at(kSFB2);
  }
  return weights;
}

inline Io symbolic_io(int rows) {
  Io io{};
  io.size = sizeof io;
  io.rows = rows;
  io.a_codes = at(kA);
  io.a_scales = at(kSFA);
  io.c.size = sizeof io.c;
  io.c.data = at(kC);
  io.alpha1 = 1.0f;
  io.alpha2 = 1.0f;
  return io;
}

// The rows are those of each launch.
inline Spec spec_for(KernelInfo const& info, GemmShape const& shape) {
  Spec spec{};
  spec.size = sizeof spec;
  spec.activations = info.activations;
  spec.n = shape.n;
  spec.k = shape.k;
  spec.batch = shape.batch;
  spec.kernel = info.name;
  spec.weights = info.weights;
  return spec;
}

inline Plan prepare(KernelInfo const& info, GemmShape const& shape) {
  return Plan::prepare(spec_for(info, shape), symbolic_weights(info.weights));
}

// Calls since the last reset(), each with how often it was made.
inline std::map<std::string, int> counted_calls() {
  std::map<std::string, int> counts;
  for (std::string const& call : recorder::calls()) {
    ++counts[call];
  }
  return counts;
}

inline std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) { return (a + b - 1) / b; }

// Codes [batch, rows, k] of half a byte; TMA counts K in codes. `box_rows` rows of 256 codes at a time, each 128 bytes
// and swizzled over 128.
inline recorder::TensorMap codes_map(Operand operand, std::uint64_t rows, std::uint64_t k, std::uint64_t batch,
                                     std::uint32_t box_rows) {
  return {CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN8B,
          address_of(operand),
          {k, rows, batch},
          {k / 2, rows * k / 2},
          {NVFP4_TILE_K, box_rows, 1},
          {1, 1, 1},
          CU_TENSOR_MAP_INTERLEAVE_NONE,
          CU_TENSOR_MAP_SWIZZLE_128B,
          CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
          CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE};
}

// Scales in the 128x4 layout: [batch, atoms of rows, atoms of K] of 512 bytes, which are 256 16-bit elements.
inline recorder::TensorMap scales_map(Operand operand, std::uint64_t rows, std::uint64_t k, std::uint64_t batch,
                                      std::uint32_t box_k_atoms, std::uint32_t box_row_atoms) {
  std::uint64_t const k_atoms = ceil_div(k, NVFP4_SCALE_BLOCK * NVFP4_SCALE_ATOM_BLOCKS);
  std::uint64_t const row_atoms = ceil_div(rows, NVFP4_SCALE_ATOM_ROWS);
  return {CU_TENSOR_MAP_DATA_TYPE_UINT16,
          address_of(operand),
          {NVFP4_SCALE_ATOM_BYTES / 2, k_atoms, row_atoms, batch},
          {NVFP4_SCALE_ATOM_BYTES, k_atoms * NVFP4_SCALE_ATOM_BYTES, k_atoms * row_atoms * NVFP4_SCALE_ATOM_BYTES},
          {NVFP4_SCALE_ATOM_BYTES / 2, box_k_atoms, box_row_atoms, 1},
          {1, 1, 1, 1},
          CU_TENSOR_MAP_INTERLEAVE_NONE,
          CU_TENSOR_MAP_SWIZZLE_NONE,
          CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
          CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE};
}

// CTAs that share what they load: A's tile along N of the cluster; the codes of the weights along its M, among the CTAs
// that hold the same rows; their scales among all CTAs along M, since each of a pair needs those of the whole tile.
struct Sharing {
  std::uint32_t activations, codes, scales;
  explicit Sharing(KernelInfo const& info)
      : activations(static_cast<std::uint32_t>(info.cluster_n)),
        codes(static_cast<std::uint32_t>(info.cluster_m / info.sms)),
        scales(static_cast<std::uint32_t>(info.cluster_m)) {}
};

// Rows of one weight tensor that a CTA keeps in a stage.
inline std::uint32_t code_rows_per_cta(KernelInfo const& info) {
  auto const tile_n = static_cast<std::uint32_t>(info.tile_n), sms = static_cast<std::uint32_t>(info.sms);
  switch (info.mainloop) {
    case NVFP4_MAINLOOP_STACKED: return tile_n;             // of a pair, each CTA has one matrix
    case NVFP4_MAINLOOP_TWO_ACCUMULATORS: return tile_n / sms;
    case NVFP4_MAINLOOP_INTERLEAVED: return 2 * tile_n / sms;
    case NVFP4_MAINLOOP_WIDENED: break;  // of Hopper
  }
  return 0;
}

// In the order of their places in the parameter: A, its scales, codes of the weights, scales of the weights.
inline std::vector<recorder::TensorMap> expected_maps(KernelInfo const& info, GemmShape const& shape) {
  Sharing const share(info);
  auto const m = static_cast<std::uint64_t>(shape.m), n = static_cast<std::uint64_t>(shape.n),
             k = static_cast<std::uint64_t>(shape.k), batch = static_cast<std::uint64_t>(shape.batch);
  constexpr std::uint32_t kTileAtoms = NVFP4_TILE_K / (NVFP4_SCALE_BLOCK * NVFP4_SCALE_ATOM_BLOCKS);
  std::uint32_t const b_box = code_rows_per_cta(info) / share.codes;
  std::vector<recorder::TensorMap> maps{codes_map(kA, m, k, batch, 128 / share.activations),
                                        scales_map(kSFA, m, k, batch, kTileAtoms / share.activations, 1)};
  if (info.mainloop == NVFP4_MAINLOOP_INTERLEAVED) {
    std::uint64_t const tiles = ceil_div(n, NVFP4_INTERLEAVE);
    maps.push_back(codes_map(kB1, tiles * 2 * NVFP4_INTERLEAVE, k, batch, b_box));
    // In shared memory the two atoms of rows of a tile stand side by side for each 64 of K: K is the outer dimension.
    auto scales = scales_map(kSFB1, tiles * NVFP4_INTERLEAVED_SCALE_ROWS, k, batch, kTileAtoms / share.scales, 2);
    std::swap(scales.global_dim[1], scales.global_dim[2]);
    std::swap(scales.global_strides[0], scales.global_strides[1]);
    std::swap(scales.box_dim[1], scales.box_dim[2]);
    maps.push_back(scales);
  } else {
    maps.push_back(codes_map(kB1, n, k, batch, b_box));
    maps.push_back(codes_map(kB2, n, k, batch, b_box));
    maps.push_back(scales_map(kSFB1, n, k, batch, kTileAtoms / share.scales, 1));
    maps.push_back(scales_map(kSFB2, n, k, batch, kTileAtoms / share.scales, 1));
  }
  return maps;
}

inline std::uint64_t box_bytes(recorder::TensorMap const& map) {
  std::uint64_t bits = map.data_type == CU_TENSOR_MAP_DATA_TYPE_UINT16 ? 16 : 4;
  for (std::uint32_t const extent : map.box_dim) {
    bits *= extent;
  }
  return bits / 8;
}

inline std::string words(recorder::TensorMap const& map) {
  std::string text = "type " + std::to_string(map.data_type) + " at " + std::to_string(map.address >> 44) + "<<44+" +
                     std::to_string(map.address & ((std::uint64_t{1} << 44) - 1));
  auto const add = [&](char const* name, auto const& values) {
    text.append(", ").append(name);
    for (auto const value : values) {
      text.append(" ").append(std::to_string(value));
    }
  };
  add("dim", map.global_dim);
  add("strides", map.global_strides);
  add("box", map.box_dim);
  add("element strides", map.element_strides);
  return text + ", interleave " + std::to_string(map.interleave) + ", swizzle " + std::to_string(map.swizzle) +
         ", promotion " + std::to_string(map.l2_promotion) + ", fill " + std::to_string(map.oob_fill);
}

}  // namespace nvfp4::test
