// Writes down small facts of the machine: addresses in a cluster, which lane is elected, and what the approximating
// functions and the conversions give.
//
//   probes FILE
#include "container.hpp"

#include <cmath>
#include <cstring>
#include <exception>
#include <limits>

namespace {

__device__ __forceinline__ std::uint32_t shared_address(void const* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

constexpr int kFacts = 32;

// One row for each thread block of a cluster of 8. Addresses count from that of `first` in the thread block's own shared
// memory, as where it lies is up to the machine.
__global__ void cluster_facts(std::uint32_t* out) {
  __shared__ __align__(1024) std::uint32_t first[256];
  first[threadIdx.x] = threadIdx.x;
  std::uint32_t x, y, z, rank, count, nx, ny, nz;
  asm volatile("mov.u32 %0, %%cluster_ctaid.x;" : "=r"(x));
  asm volatile("mov.u32 %0, %%cluster_ctaid.y;" : "=r"(y));
  asm volatile("mov.u32 %0, %%cluster_ctaid.z;" : "=r"(z));
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(count));
  asm volatile("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(nx));
  asm volatile("mov.u32 %0, %%cluster_nctaid.y;" : "=r"(ny));
  asm volatile("mov.u32 %0, %%cluster_nctaid.z;" : "=r"(nz));
  std::uint32_t const facts[8] = {x, y, z, rank, count, nx, ny, nz};
  std::uint32_t const block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  std::uint32_t* row = out + block * kFacts;
  std::uint32_t const own = shared_address(first);
  if (threadIdx.x == 0) {
    for (int i = 0; i < 8; ++i) {
      row[i] = facts[i];
    }
    // A shared address of the thread block itself, above the offset.
    row[8] = own >> 24;
    for (std::uint32_t other = 0; other < 8; ++other) {
      std::uint32_t mapped;
      asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(own + 12), "r"(other));
      row[9 + other] = mapped - (own & 0xFFFFFF);
      std::uint64_t generic;
      asm volatile("mapa.u64 %0, %1, %2;" : "=l"(generic) : "l"(reinterpret_cast<std::uint64_t>(first)), "r"(other));
      row[17 + other] = static_cast<std::uint32_t>(generic) - (own & 0xFFFFFF);
    }
  }
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// For each mask: which lane is elected, and which lanes are told that they are.
__global__ void elected(std::uint32_t* out) {
  std::uint32_t const masks[8] = {0xFFFFFFFF, 0xFFFF0000, 0x0000FFF0, 0x80000000,
                                  0x00000001, 0x55555554, 0xAAAAAAAA, 0x7FFFFFF0};
  for (int i = 0; i < 8; ++i) {
    std::uint32_t const mask = masks[i];
    std::uint32_t leader = 0xFFFF;
    std::uint32_t chosen = 0;
    if ((mask >> threadIdx.x & 1) != 0) {
      asm volatile(
          "{\n.reg .pred p;\n.reg .b32 r;\nelect.sync r|p, %2;\nmov.b32 %0, r;\nselp.u32 %1, 1, 0, p;\n}\n"
          : "=r"(leader), "=r"(chosen)
          : "r"(mask));
    }
    __syncwarp();
    out[(i * 32 + threadIdx.x) * 2] = leader;
    out[(i * 32 + threadIdx.x) * 2 + 1] = chosen;
  }
}

__global__ void ex2(float const* in, float* out) {
  int const i = blockIdx.x * blockDim.x + threadIdx.x;
  asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(out[i]) : "f"(in[i]));
}

__global__ void rcp(float const* in, float* out) {
  int const i = blockIdx.x * blockDim.x + threadIdx.x;
  asm volatile("rcp.approx.ftz.f32 %0, %1;" : "=f"(out[i]) : "f"(in[i]));
}

__global__ void to_e4m3(float const* in, std::uint16_t* out) {
  int const i = blockIdx.x * blockDim.x + threadIdx.x;
  asm volatile("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(out[i]) : "f"(in[2 * i + 1]), "f"(in[2 * i]));
}

__global__ void to_f16(float const* in, std::uint32_t* out) {
  int const i = blockIdx.x * blockDim.x + threadIdx.x;
  asm volatile("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out[i]) : "f"(in[2 * i + 1]), "f"(in[2 * i]));
}

__global__ void to_bf16(float const* in, std::uint32_t* out) {
  int const i = blockIdx.x * blockDim.x + threadIdx.x;
  asm volatile("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out[i]) : "f"(in[2 * i + 1]), "f"(in[2 * i]));
}

constexpr int kSamples = 2048;
constexpr int kConversions = 1024;

float of_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The special values, then `next(i)`.
template <class Next>
std::vector<float> samples(std::size_t count, Next next) {
  std::vector<float> values;
  for (std::uint32_t bits : {0x00000000u, 0x80000000u, 0x7F800000u, 0xFF800000u, 0x7FC00000u, 0xFFC12345u, 0x00000001u,
                             0x80000001u, 0x007FFFFFu, 0x807FFFFFu, 0x00800000u, 0x80800000u, 0x7F7FFFFFu, 0xFF7FFFFFu,
                             0x3F800000u, 0xBF800000u, 0x40000000u, 0x3F000000u, 0x7E800000u, 0x7E800001u, 0x7E7FFFFFu,
                             0x7F000000u, 0xC2FC0000u, 0xC2FC0001u, 0x43000000u, 0x42FFFFFFu, 0xC3150000u, 0xC3160000u}) {
    values.push_back(of_bits(bits));
  }
  for (std::uint32_t i = 0; values.size() < count; ++i) {
    values.push_back(next(i));
  }
  return values;
}

std::vector<std::uint8_t> bytes_of(std::vector<float> const& values) {
  std::vector<std::uint8_t> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

template <class Result>
void map(Container& out, char const* name, void (*kernel)(float const*, Result*), std::vector<float> const& values,
         int results) {
  Bytes const in(bytes_of(values));
  Bytes const to(results * sizeof(Result), 0);
  kernel<<<results / 128, 128>>>(in.data<float const>(), to.data<Result>());
  check(cudaGetLastError(), name);
  check(cudaDeviceSynchronize(), name);
  out.add(std::string(name) + ".in", bytes_of(values));
  out.add(std::string(name) + ".out", to.host());
}

void cluster(Container& out, char const* name, dim3 grid, dim3 shape) {
  Bytes const facts(8 * kFacts * sizeof(std::uint32_t), 0xEE);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = shape.x;
  attribute.val.clusterDim.y = shape.y;
  attribute.val.clusterDim.z = shape.z;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(256);
  config.attrs = &attribute;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, cluster_facts, facts.data<std::uint32_t>()), name);
  check(cudaDeviceSynchronize(), name);
  out.add(name, facts.host());
}

void run(char const* path) {
  Container out(path);
  cluster(out, "cluster_8x1x1", dim3(8), dim3(8));
  cluster(out, "cluster_2x4x1", dim3(2, 4), dim3(2, 4));
  cluster(out, "cluster_2x2x2", dim3(2, 2, 2), dim3(2, 2, 2));
  Bytes const lanes(8 * 32 * 2 * sizeof(std::uint32_t), 0);
  elected<<<1, 32>>>(lanes.data<std::uint32_t>());
  check(cudaGetLastError(), "elected");
  check(cudaDeviceSynchronize(), "elected");
  out.add("elected", lanes.host());

  auto const uniform = [](std::uint32_t i) { return static_cast<float>(mix(i) >> 8) / 16777216.0f; };
  map<float>(out, "ex2", ex2, samples(kSamples, [&](std::uint32_t i) { return uniform(i) * 290.0f - 155.0f; }), kSamples);
  map<float>(out, "rcp", rcp, samples(kSamples, [&](std::uint32_t i) { return of_bits(mix(i + 7) & 0xFF7FFFFF); }), kSamples);
  // Near the values of e4m3, ties included, on either side of its range.
  auto const coarse = samples(kConversions, [&](std::uint32_t i) {
    float const value = std::ldexp(static_cast<float>(mix(i) % 64), static_cast<int>(mix(i + 77) % 24) - 16);
    float const signed_value = (i & 1) != 0 ? -value : value;
    return (i % 3) == 0 ? std::nextafter(signed_value, 1000.0f) : signed_value;
  });
  map<std::uint16_t>(out, "to_e4m3", to_e4m3, coarse, kConversions / 2);
  auto const halves = samples(kConversions, [&](std::uint32_t i) {
    float const value = of_bits((mix(i) & 0x807FF000) | ((100 + mix(i + 3) % 45) << 23));
    return (i % 3) == 0 ? std::nextafter(value, 1e9f) : value;
  });
  map<std::uint32_t>(out, "to_f16", to_f16, halves, kConversions / 2);
  auto const wide = samples(kConversions, [&](std::uint32_t i) { return of_bits(mix(i) & ((i & 1) != 0 ? 0xFFFF8000 : 0xFFFFFFFF)); });
  map<std::uint32_t>(out, "to_bf16", to_bf16, wide, kConversions / 2);
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
