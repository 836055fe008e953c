// Copies tiles through tensor maps and writes down what came to shared memory, and to global memory, byte for byte:
//
//   tma FILE
#include "container.hpp"

#include <array>
#include <exception>
#include <tuple>

namespace {

constexpr std::uint32_t kWindow = 2048;   // Shared memory of a thread block that is written down.
constexpr std::uint32_t kAlignment = 1024;
constexpr std::uint8_t kBackground = 0xEE;
constexpr std::uint32_t kMulticastWindow = 640;  // The same with multicast.

struct Case {
  char const* name;
  CUtensorMapDataType type;
  int element;  // bytes
  int rank;
  std::array<int, 5> extent;
  std::array<int, 4> stride;  // bytes
  std::array<int, 5> box;
  std::array<int, 5> step;
  CUtensorMapSwizzle swizzle;
  std::array<int, 5> at;
  int offset;  // of the tile in the window
  bool nan = false;
  unsigned multicast = 0;
};

struct Coordinates {
  int c[5];
};

__device__ __forceinline__ std::uint32_t shared_address(void const* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// The window begins at a multiple of 1024 in the shared memory of either kind of machine.
__device__ __forceinline__ std::uint8_t* window_of(std::uint8_t* dynamic) {
  return dynamic + (kAlignment - shared_address(dynamic) % kAlignment) % kAlignment;
}

__device__ __forceinline__ void wait_for_first_phase(std::uint32_t barrier) {
  std::uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0;\nselp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(barrier)
        : "memory");
  }
}

#define LOAD(DIMENSIONS, COORDINATES)                                                                             \
  asm volatile("cp.async.bulk.tensor." DIMENSIONS ".shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, " \
               COORDINATES "], [%2];\n" ::"r"(tile), "l"(&map), "r"(barrier), "r"(at.c[0]), "r"(at.c[1]),           \
               "r"(at.c[2]), "r"(at.c[3]), "r"(at.c[4])                                                            \
               : "memory")

__global__ void load(__grid_constant__ CUtensorMap const map, int rank, Coordinates at, std::uint32_t offset,
                     std::uint32_t bytes, std::uint8_t* out) {
  extern __shared__ std::uint8_t dynamic[];
  std::uint8_t* window = window_of(dynamic);
  for (std::uint32_t i = threadIdx.x; i < kWindow; i += blockDim.x) {
    window[i] = kBackground;
  }
  std::uint32_t const barrier = shared_address(window + kWindow);
  std::uint32_t const tile = shared_address(window) + offset;
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\nfence.mbarrier_init.release.cluster;" ::"r"(barrier)
                 : "memory");
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
    switch (rank) {
      case 1: LOAD("1d", "{%3}"); break;
      case 2: LOAD("2d", "{%3, %4}"); break;
      case 3: LOAD("3d", "{%3, %4, %5}"); break;
      case 4: LOAD("4d", "{%3, %4, %5, %6}"); break;
      default: LOAD("5d", "{%3, %4, %5, %6, %7}"); break;
    }
  }
  wait_for_first_phase(barrier);
  for (std::uint32_t i = threadIdx.x; i < kWindow; i += blockDim.x) {
    out[i] = window[i];
  }
}

// Rank 1 of a cluster of 4 loads for the ranks of the mask; each of those waits at its own barrier.
__global__ void __cluster_dims__(4, 1, 1)
    load_multicast(__grid_constant__ CUtensorMap const map, Coordinates at, std::uint32_t offset, std::uint32_t bytes,
                   std::uint32_t mask, std::uint8_t* out) {
  extern __shared__ std::uint8_t dynamic[];
  std::uint8_t* window = window_of(dynamic);
  for (std::uint32_t i = threadIdx.x; i < kWindow; i += blockDim.x) {
    window[i] = kBackground;
  }
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  bool const receives = (mask >> rank & 1) != 0;
  std::uint32_t const barrier = shared_address(window + kWindow);
  std::uint32_t const tile = shared_address(window) + offset;
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\nfence.mbarrier_init.release.cluster;" ::"r"(barrier)
                 : "memory");
    if (receives) {
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
    }
  }
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  if (threadIdx.x == 0 && rank == 1) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
        "[%1, {%3, %4}], [%2], %5;\n" ::"r"(tile),
        "l"(&map), "r"(barrier), "r"(at.c[0]), "r"(at.c[1]), "h"(static_cast<std::uint16_t>(mask))
        : "memory");
  }
  if (receives) {
    wait_for_first_phase(barrier);
  }
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  for (std::uint32_t i = threadIdx.x; i < kMulticastWindow; i += blockDim.x) {
    out[rank * kMulticastWindow + i] = window[i];
  }
}

#define STORE(DIMENSIONS, COORDINATES)                                                                     \
  asm volatile("cp.async.bulk.tensor." DIMENSIONS ".global.shared::cta.bulk_group [%1, " COORDINATES "], [%0];\n" :: \
                   "r"(tile), "l"(&map), "r"(at.c[0]), "r"(at.c[1]), "r"(at.c[2])                          \
               : "memory")

__global__ void store(__grid_constant__ CUtensorMap const map, int rank, Coordinates at, std::uint32_t offset,
                      std::uint8_t const* from) {
  extern __shared__ std::uint8_t dynamic[];
  std::uint8_t* window = window_of(dynamic);
  for (std::uint32_t i = threadIdx.x; i < kWindow; i += blockDim.x) {
    window[i] = from[i];
  }
  std::uint32_t const tile = shared_address(window) + offset;
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  if (threadIdx.x == 0) {
    switch (rank) {
      case 2: STORE("2d", "{%2, %3}"); break;
      default: STORE("3d", "{%2, %3, %4}"); break;
    }
    asm volatile("cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;" ::: "memory");
  }
}

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode encoder() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found{};
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found),
        "cudaGetDriverEntryPointByVersion");
  if (found != cudaDriverEntryPointSuccess) {
    throw std::runtime_error("no cuTensorMapEncodeTiled");
  }
  return reinterpret_cast<Encode>(entry);
}

CUtensorMap encode(Encode call, Case const& c, void* memory) {
  std::array<std::uint64_t, 5> extent{};
  std::array<std::uint64_t, 4> stride{};
  std::array<std::uint32_t, 5> box{};
  std::array<std::uint32_t, 5> step{};
  for (int axis = 0; axis < c.rank; ++axis) {
    extent[axis] = static_cast<std::uint64_t>(c.extent[axis]);
    box[axis] = static_cast<std::uint32_t>(c.box[axis]);
    step[axis] = static_cast<std::uint32_t>(c.step[axis]);
    if (axis + 1 < c.rank) {
      stride[axis] = static_cast<std::uint64_t>(c.stride[axis]);
    }
  }
  alignas(64) CUtensorMap map{};
  auto const status =
      call(&map, c.type, static_cast<std::uint32_t>(c.rank), memory, extent.data(), stride.data(), box.data(),
           step.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, c.swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE,
           c.nan ? CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA : CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw std::runtime_error(std::string(c.name) + ": cuTensorMapEncodeTiled gives " + std::to_string(status));
  }
  return map;
}

std::size_t tensor_bytes(Case const& c) {
  std::size_t bytes = static_cast<std::size_t>(c.extent[0]) * c.element;
  for (int axis = 1; axis < c.rank; ++axis) {
    bytes = static_cast<std::size_t>(c.stride[axis - 1]) * c.extent[axis];
  }
  return bytes;
}

std::uint32_t box_bytes(Case const& c) {
  auto bytes = static_cast<std::uint32_t>(c.element);
  for (int axis = 0; axis < c.rank; ++axis) {
    // The step of the innermost dimension is ignored.
    bytes *= axis == 0 ? c.box[0] : (c.box[axis] + c.step[axis] - 1) / c.step[axis];
  }
  return bytes;
}

constexpr auto U8 = CU_TENSOR_MAP_DATA_TYPE_UINT8;
constexpr auto U16 = CU_TENSOR_MAP_DATA_TYPE_UINT16;
constexpr auto F16 = CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
constexpr auto BF16 = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
constexpr auto F32 = CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
constexpr auto NONE = CU_TENSOR_MAP_SWIZZLE_NONE;
constexpr auto SW32 = CU_TENSOR_MAP_SWIZZLE_32B;
constexpr auto SW64 = CU_TENSOR_MAP_SWIZZLE_64B;
constexpr auto SW128 = CU_TENSOR_MAP_SWIZZLE_128B;

// Shared by most: 200 x 40 bytes, 208 bytes from row to row.
Case plane(char const* name, CUtensorMapSwizzle swizzle, int width, int height, int x, int y, int offset = 0) {
  return {name, U8, 1, 2, {200, 40}, {208}, {width, height}, {1, 1}, swizzle, {x, y}, offset};
}
Case plane16(char const* name, CUtensorMapSwizzle swizzle, int width, int height, int x, int y, int offset = 0) {
  return {name, U16, 2, 2, {100, 40}, {208}, {width, height}, {1, 1}, swizzle, {x, y}, offset};
}

// The first coordinate is a multiple of 16 bytes: with another an H100 stops at an illegal instruction.
std::vector<Case> loads() {
  std::vector<Case> cases{
      plane("none", NONE, 48, 16, 16, 2),
      plane("none_256", NONE, 256, 8, 0, 1),
      plane("swizzle32", SW32, 32, 16, 16, 5),
      plane("swizzle64", SW64, 64, 16, 64, 7),
      plane("swizzle128", SW128, 128, 16, 32, 9),
      plane16("swizzle32_u16", SW32, 16, 16, 8, 5),
      plane16("swizzle64_u16", SW64, 32, 16, 32, 7),
      plane16("swizzle128_u16", SW128, 64, 16, 16, 9),
      // A row that is shorter than the swizzle.
      plane("swizzle128_row64", SW128, 64, 16, 16, 3),
      plane("swizzle128_row16", SW128, 16, 16, 16, 3),
      plane("swizzle64_row32", SW64, 32, 16, 16, 3),
      plane("swizzle32_row16", SW32, 16, 16, 16, 3),
      // A tile that does not begin where the pattern does.
      plane("swizzle32_at128", SW32, 32, 16, 16, 5, 128),
      plane("swizzle64_at128", SW64, 64, 16, 16, 5, 128),
      plane("swizzle64_at384", SW64, 64, 16, 16, 5, 384),
      plane("swizzle128_at128", SW128, 128, 8, 16, 5, 128),
      plane("swizzle128_at640", SW128, 128, 8, 16, 5, 640),
      plane("none_at128", NONE, 48, 16, 16, 2, 128),
      // Beyond the tensor on each side.
      plane("before_x", SW128, 128, 8, -48, 3),
      plane("after_x", SW128, 128, 8, 144, 3),
      plane("before_y", SW64, 64, 16, 16, -5),
      plane("after_y", SW64, 64, 16, 16, 33),
      plane("corner", NONE, 64, 16, -16, -9),
      plane("far_corner", SW32, 32, 16, 176, 35),
      plane("outside_before", NONE, 64, 8, -64, -8),
      plane("outside_after", SW128, 128, 8, 208, 40),
      plane16("before_x_u16", SW128, 64, 8, -8, 3),
      plane16("after_x_u16", SW64, 32, 8, 88, 37),
      // One dimension, and more than two.
      {"line", U8, 1, 1, {1000}, {}, {256}, {1}, NONE, {768}, 0},
      {"line_u16", U16, 2, 1, {1000}, {}, {256}, {1}, NONE, {-104}, 0},
      {"solid", U8, 1, 3, {100, 9, 7}, {112, 1024}, {64, 4, 4}, {1, 1, 1}, SW64, {48, 6, 5}, 0},
      {"solid_u16", U16, 2, 3, {50, 9, 7}, {112, 1024}, {16, 8, 4}, {1, 1, 1}, SW32, {40, -3, -2}, 0},
      {"four", U8, 1, 4, {64, 5, 4, 3}, {64, 320, 1280}, {32, 4, 3, 2}, {1, 1, 1, 1}, NONE, {16, 2, -1, 1}, 0},
      {"five", U16, 2, 5, {32, 5, 4, 3, 2}, {64, 320, 1280, 3840}, {16, 3, 3, 2, 2}, {1, 1, 1, 1, 1}, SW32,
       {8, 1, 1, 2, 1}, 0},
      // Every other row, every third.
      {"step2", U8, 1, 2, {200, 40}, {208}, {64, 16}, {1, 2}, NONE, {16, 3}, 0},
      {"step2_after", U8, 1, 2, {200, 40}, {208}, {64, 15}, {1, 2}, SW64, {16, 31}, 0},
      {"step3_before", U8, 1, 2, {200, 40}, {208}, {64, 20}, {1, 3}, SW64, {16, -7}, 0},
      // What is beyond, of numbers.
      {"fill_zero_f16", F16, 2, 2, {100, 40}, {208}, {32, 8}, {1, 1}, NONE, {80, 36}, 0},
      {"fill_nan_f16", F16, 2, 2, {100, 40}, {208}, {32, 8}, {1, 1}, NONE, {80, 36}, 0, true},
      {"fill_nan_bf16", BF16, 2, 2, {100, 40}, {208}, {32, 8}, {1, 1}, NONE, {80, 36}, 0, true},
      {"fill_nan_f32", F32, 4, 2, {50, 40}, {208}, {16, 8}, {1, 1}, NONE, {44, 36}, 0, true},
  };
  for (auto [name, mask, swizzle] : {std::tuple{"multicast_all", 0xFu, SW128}, std::tuple{"multicast_others", 0xDu, SW64},
                                     std::tuple{"multicast_last", 0x8u, NONE}}) {
    auto one = plane(name, swizzle, 64, 8, 160, 35, 128);
    one.multicast = mask;
    cases.push_back(one);
  }
  return cases;
}

// No coordinate is negative: the manual forbids it, and an H100 stops at an illegal instruction.
std::vector<Case> stores() {
  auto const small = [](char const* name, CUtensorMapSwizzle swizzle, int width, int height, int x, int y,
                        int offset) -> Case {
    return {name, U8, 1, 2, {140, 20}, {144}, {width, height}, {1, 1}, swizzle, {x, y}, offset};
  };
  return {
      small("store_none", NONE, 48, 16, 16, 3, 0),
      small("store_swizzle32", SW32, 32, 16, 32, 2, 0),
      small("store_swizzle64", SW64, 64, 16, 64, 3, 128),
      small("store_swizzle128", SW128, 128, 8, 16, 9, 256),
      small("store_after", SW64, 64, 16, 112, 11, 0),
      {"store_solid_u16", U16, 2, 3, {30, 6, 5}, {64, 448}, {16, 8, 4}, {1, 1, 1}, SW32, {24, 2, 3}, 0},
  };
}

Coordinates coordinates(Case const& c) {
  Coordinates at{};
  for (int axis = 0; axis < c.rank; ++axis) {
    at.c[axis] = c.at[axis];
  }
  return at;
}

void run(char const* path) {
  Container out(path);
  auto const call = encoder();
  constexpr int kShared = kWindow + 2 * kAlignment;
  std::uint32_t seed = 0;
  for (auto const& c : loads()) {
    Bytes const tensor(noise(tensor_bytes(c), ++seed));
    auto const map = encode(call, c, tensor.data());
    Bytes const dump(4 * kWindow, 0);
    auto const offset = static_cast<std::uint32_t>(c.offset);
    if (c.multicast != 0) {
      load_multicast<<<4, 64, kShared>>>(map, coordinates(c), offset, box_bytes(c), c.multicast, dump.data());
    } else {
      load<<<1, 64, kShared>>>(map, c.rank, coordinates(c), offset, box_bytes(c), dump.data());
    }
    check(cudaGetLastError(), c.name);
    check(cudaDeviceSynchronize(), c.name);
    auto bytes = dump.host();
    bytes.resize(c.multicast != 0 ? 4 * kMulticastWindow : kWindow);
    while (!bytes.empty() && bytes.back() == kBackground) {
      bytes.pop_back();
    }
    out.add(c.name, bytes);
  }
  for (auto const& c : stores()) {
    Bytes const tensor(tensor_bytes(c), kBackground);
    auto const map = encode(call, c, tensor.data());
    Bytes const tile(noise(kWindow, ++seed));
    store<<<1, 64, kShared>>>(map, c.rank, coordinates(c), static_cast<std::uint32_t>(c.offset), tile.data());
    check(cudaGetLastError(), c.name);
    check(cudaDeviceSynchronize(), c.name);
    out.add(c.name, tensor.host());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FILE\n", argv[0]);
    return 2;
  }
  try {
    run(argv[1]);
    return 0;
  } catch (std::exception const& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
