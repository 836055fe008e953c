// Which kernel a shape gets on a B200: a model of clocks with few constants, nothing measured. Pure.
#include "select/sm100.hpp"

#include <algorithm>

#include "select/grid_limits.hpp"
#include "support/integer.hpp"

namespace nvfp4::sm100 {

namespace {

using detail::ceil_ratio;
using detail::KernelRow;
using detail::Operands;
using detail::Residencies;
using detail::Residency;

// Rates of one SM, from the PTX ISA's shapes and published microbenchmarks.
constexpr double kMmaColumnsPerClock = 2;     // of an MMA of 128 rows an SM and K = 64: N columns take N / 2 clocks
constexpr double kMmasPerTileK = NVFP4_TILE_K / 64;
constexpr double kSmemBytesPerClock = 128;    // operands are read at this rate
constexpr double kRowBytes = NVFP4_TILE_K / 2;                            // codes of one row of a tile of K
constexpr double kAtomsBytes = NVFP4_SCALE_ATOM_BYTES * NVFP4_TILE_K / 64;  // scale factors of 128 rows of it

// What leaves L2 for all SMs together: 14.6 TB/s at 1.5 GHz, modeled after one published measurement, good for a fifth
// either way.
constexpr double kL2BytesPerClock = 14.6e12 / 1.5e9;

// Clusters of four do not tile the GPCs of a B200: about nine SMs in ten can be in one.
constexpr double kShareOfSmsInClustersOf4 = 0.9;

// Below this many waves a static schedule wins: it asks nobody for the next tile.
constexpr double kWavesForClc = 2;

// Bytes of codes and scale factors of `rows` rows of one operand in a tile of K.
double operand_bytes(double rows) { return rows * kRowBytes + ceil_ratio(rows, NVFP4_SCALE_ATOM_ROWS) * kAtomsBytes; }

// Of both weights in the columns of one tile. Interleaved ones share the atoms of their 2 * tile_n rows.
double weight_bytes(KernelRow const& kernel) {
  return kernel.weights() == NVFP4_WEIGHTS_INTERLEAVED ? operand_bytes(2 * kernel.tile_n)
                                                       : 2 * operand_bytes(kernel.tile_n);
}

struct Cost {
  double waves;
  double clocks;    // of all waves, main loops only: tensor cores, shared memory or L2, whichever takes longest
  double l2_bytes;  // that leave L2, after multicast
  double ctas;      // with those that only fill clusters

  // Fewer clocks; then everything at once on the device, which hides the quantization of waves from the model's error;
  // then less traffic, and fewer CTAs without a tile.
  bool operator<(Cost const& other) const {
    if (clocks != other.clocks) return clocks < other.clocks;
    if ((waves == 1) != (other.waves == 1)) return waves == 1;
    if (l2_bytes != other.l2_bytes) return l2_bytes < other.l2_bytes;
    return ctas < other.ctas;
  }
};

// Clusters at once, at most as many as the SMs that a plan may have hold.
int clusters_at_once(KernelRow const& kernel, Residency const& residency) {
  int const size = kernel.cluster_size();
  return std::min(residency.max_clusters[size], residency.sm_count / size);
}

Cost cost(KernelRow const& kernel, GemmShape const& shape, double clusters_at_once) {
  double const tiles_m = ceil_ratio(shape.m, kernel.tile_m);
  double const tiles_n = ceil_ratio(shape.n, kernel.tile_n);
  double const k_tiles = ceil_ratio(shape.k, NVFP4_TILE_K);
  double const batch = shape.batch;

  double const cluster_rows = ceil_ratio(tiles_m, kernel.tiles_m_per_cluster());
  double const cluster_columns = ceil_ratio(tiles_n, kernel.cluster_n);
  double const clusters = cluster_rows * cluster_columns * batch;
  double const waves = ceil_ratio(clusters, clusters_at_once);

  // Each SM multiplies 128 rows by all columns of the pair's tile, and reads half of the weights' codes.
  double const mma_clocks = kMmasPerTileK * 2 * kernel.tile_n / kMmaColumnsPerClock;
  double const a_rows = static_cast<double>(kernel.tile_m) / kernel.sms;
  double const weight_codes = 2 * kernel.tile_n * kRowBytes;
  double const smem_bytes = operand_bytes(a_rows) + weight_codes / kernel.sms + (weight_bytes(kernel) - weight_codes);
  double const clocks = std::max(mma_clocks, smem_bytes / kSmemBytesPerClock);

  double const a_loads = tiles_m * cluster_columns * batch;  // A is multicast along N, weights along M
  double const b_loads = tiles_n * cluster_rows * batch;
  double const l2_bytes = k_tiles * (a_loads * operand_bytes(kernel.tile_m) + b_loads * weight_bytes(kernel));
  return {waves, std::max(waves * k_tiles * clocks, l2_bytes / kL2BytesPerClock), l2_bytes,
          clusters * kernel.cluster_size()};
}

// Whether a plan for this kernel would not be refused.
bool possible(KernelRow const& kernel, GemmShape const& shape, Residency const& residency, bool within_sms) {
  return clusters_at_once(kernel, residency) >= 1 && (!within_sms || kernel.scheduler == NVFP4_SCHEDULER_STATIC) &&
         schedulable(detail::tile_grid(shape, kernel), kernel.scheduler);
}

// Whether a kernel that is possible may be picked before those that are only possible.
bool sensible(KernelRow const& kernel, GemmShape const& shape, double waves) {
  if (kernel.sms == 1) return true;
  if (kernel.weights() == NVFP4_WEIGHTS_INTERLEAVED) return true;
  // The second SM of a pair would multiply rows that do not exist.
  if (shape.m <= kernel.tile_m / kernel.sms) return false;
  return kernel.scheduler != NVFP4_SCHEDULER_CLC || waves >= kWavesForClc;
}

int best_of(GemmShape const& shape, Operands const& operands, Residencies const& residencies, bool within_sms,
            bool sensible_only) {
  int best = detail::kNoKernel;
  Cost least{};
  for (int i = 0; i < detail::kKernelCount; ++i) {
    KernelRow const& kernel = detail::kKernelTable[i];
    Residency const& residency = residencies[static_cast<std::size_t>(i)];
    if (kernel.compute_capability != 100 || !operands.taken_by(kernel)) continue;
    if (!possible(kernel, shape, residency, within_sms)) continue;
    Cost const candidate = cost(kernel, shape, clusters_at_once(kernel, residency));
    if (sensible_only && !sensible(kernel, shape, candidate.waves)) continue;
    // A dynamic schedule that is eligible wins against the same kernel with a static one.
    bool const dynamic = best != detail::kNoKernel && kernel.scheduler == NVFP4_SCHEDULER_CLC &&
                         detail::kKernelTable[best].scheduler != NVFP4_SCHEDULER_CLC && !(least < candidate);
    if (best == detail::kNoKernel || candidate < least || dynamic) {
      best = i;
      least = candidate;
    }
  }
  return best;
}

}  // namespace

int select_kernel(GemmShape const& shape, Operands const& operands, Residencies const& residencies,
                  bool within_sms) noexcept {
  int const kernel = best_of(shape, operands, residencies, within_sms, true);
  return kernel != detail::kNoKernel ? kernel : best_of(shape, operands, residencies, within_sms, false);
}

Residency usual_residency(KernelRow const& kernel, int sm_count) noexcept {
  Residency residency{sm_count, {}};
  int const size = kernel.cluster_size();
  double const usable = size == 4 ? kShareOfSmsInClustersOf4 * sm_count : sm_count;
  residency.max_clusters[size] = std::max(1, static_cast<int>(usable / size));
  return residency;
}

}  // namespace nvfp4::sm100
