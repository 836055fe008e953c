// Every rule that the kernels cannot check themselves, each with the operand and the numbers that break it.
#include "plan/validate.hpp"

#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include "registry/table.hpp"
#include "support/error.hpp"
#include "support/integer.hpp"
#include "support/regions.hpp"

namespace nvfp4 {

namespace {

using detail::ceil_div;
using detail::fail_argument;
using detail::Region;

// Wide enough for every product of three sizes.
__extension__ using Wide = __int128;

// Strides of a tensor map, in bytes (CUDA driver API, cuTensorMapEncodeTiled).
constexpr Wide kMaxTmaStride = Wide{1} << 40;

// Of a type that require_in() has let through.
int element_bytes(nvfp4_data_type type) { return type == NVFP4_DATA_TYPE_F32 ? 4 : 2; }

// That the caller was compiled with the same struct. It is read before anything else of it.
void require_size(char const* what, char const* type, std::uint32_t size, std::size_t expected) {
  if (size != expected) {
    fail_argument(what, ".size = ", size, ": ", type, " has ", expected,
                  " bytes in this library, the caller was compiled for another version of it");
  }
}

void require_in(char const* what, int value, int least, int most) {
  if (value < least || value > most) {
    fail_argument(what, " = ", value, " is not in ", least, "..=", most);
  }
}

void require_finite(char const* what, float value) {
  if (!std::isfinite(value)) {
    fail_argument(what, " = ", value, " is not finite");
  }
}

// CuTe computes with strides of scale factors in 32 bits.
void require_scales_fit(char const* operand, char const* dimension, std::int64_t rows, int k) {
  Wide const atoms = ceil_div(Wide{rows}, NVFP4_SCALE_ATOM_ROWS) *
                     ceil_div(Wide{k}, NVFP4_SCALE_BLOCK * NVFP4_SCALE_ATOM_BLOCKS);
  Wide const bytes = atoms * NVFP4_SCALE_ATOM_BYTES;
  if (bytes > INT32_MAX) {
    fail_argument(operand, ".scales: ", static_cast<std::int64_t>(bytes), " bytes a batch (", dimension, " = ", rows,
                  ", K = ", k, "), at most ", INT32_MAX, " can be addressed");
  }
}

void require_codes_fit(char const* operand, std::int64_t rows, int k) {
  Wide const bytes = Wide{rows} * (k / 2);
  if (bytes >= kMaxTmaStride) {
    fail_argument(operand, ".codes: ", static_cast<std::int64_t>(bytes), " bytes a batch (", rows, " rows, K = ", k,
                  "), a tensor map takes less than ", static_cast<std::int64_t>(kMaxTmaStride));
  }
}

void validate_glu(Glu const& glu) {
  require_in("glu.kind", static_cast<int>(glu.kind), NVFP4_GLU_SWIGLU, NVFP4_GLU_GEGLU_TANH);
  if (glu.kind == NVFP4_GLU_CLAMPED_SWIGLU) {
    // Far beyond any use, and near enough for the GLU not to overflow where its result does not.
    constexpr float kMost = 1e18f;
    if (!(glu.limit > 0 && glu.limit <= kMost)) {
      fail_argument("glu.limit = ", glu.limit, " is not > 0 and at most ", kMost);
    }
    auto const require_moderate = [kMost](char const* what, float value) {
      if (!(std::fabs(value) <= kMost)) {
        fail_argument(what, " = ", value, " is not between ", -kMost, " and ", kMost);
      }
    };
    require_moderate("glu.slope", glu.slope);
    require_moderate("glu.offset", glu.offset);
  }
}

std::string kernel_names() {
  std::string names;
  for (detail::KernelRow const& row : detail::kKernelTable) {
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  return names;
}

void validate_kernel(Spec const& spec) {
  if (spec.kernel == nullptr) {
    return;
  }
  int const index = detail::kernel_index(spec.kernel);
  if (index == detail::kNoKernel) {
    fail_argument("kernel = \"", spec.kernel, "\": this build, for " NVFP4_CUDA_ARCHS ", has ", kernel_names());
  }
  if (detail::kKernelTable[index].weights() != spec.weights) {
    bool const interleaved = spec.weights == NVFP4_WEIGHTS_INTERLEAVED;
    fail_argument("kernel ", spec.kernel, " takes ", interleaved ? "separate" : "interleaved",
                  " weights, those of the plan are ", interleaved ? "interleaved" : "separate");
  }
}

void validate_c_size(Spec const& spec, int rows, nvfp4_data_type type) {
  Wide const bytes = Wide{rows} * spec.n * spec.batch * element_bytes(type);
  if (bytes > INT64_MAX) {
    fail_argument("c: M = ", rows, ", N = ", spec.n, ", batch = ", spec.batch, " take more than ", INT64_MAX, " bytes");
  }
}

// Of a valid specification.
void validate_rows(Spec const& spec, int rows) {
  require_in("M", rows, 0, INT32_MAX);
  require_codes_fit("a", rows, spec.k);
  require_scales_fit("a", "M", rows, spec.k);
  validate_c_size(spec, rows, NVFP4_DATA_TYPE_F16);
}

void validate_destination(Destination const& c) {
  require_size("c", "nvfp4_destination", c.size, sizeof(Destination));
  require_in("c.type", static_cast<int>(c.type), NVFP4_DATA_TYPE_F16, NVFP4_DATA_TYPE_F32);
  if (c.scales != nullptr) {
    fail_argument("c.scales: must be null, no kernel writes C in NVFP4");
  }
  if (c.global_scale != 0.0f) {
    fail_argument("c.global_scale = ", c.global_scale, ": must be 0, no kernel writes C in NVFP4");
  }
}

Region region_of_c(Spec const& spec, Io const& io) {
  std::size_t const element = static_cast<std::size_t>(element_bytes(io.c.type));
  std::size_t const bytes = static_cast<std::size_t>(io.rows) * static_cast<std::size_t>(spec.n) *
                            static_cast<std::size_t>(spec.batch) * element;
  return {"c", io.c.data, bytes, element};
}

// A few regions, without an allocation.
struct Regions {
  Region list[8];
  std::size_t count = 0;

  void add(Region const& region) { list[count++] = region; }
  std::span<Region const> all() const& { return {list, count}; }
  std::span<Region const> all() const&& = delete;  // of what is gone
};

Regions regions_of(Spec const& spec, Weights const& weights) {
  bool const interleaved = spec.weights == NVFP4_WEIGHTS_INTERLEAVED;
  std::size_t const codes = interleaved ? interleaved_codes_bytes(spec.n, spec.k, spec.batch)
                                        : codes_bytes(spec.n, spec.k, spec.batch);
  std::size_t const scales = interleaved ? interleaved_scales_bytes(spec.n, spec.k, spec.batch)
                                         : scales_bytes(spec.n, spec.k, spec.batch);
  Regions regions;
  regions.add({"b1.codes", weights.b1_codes, codes, NVFP4_POINTER_ALIGNMENT});
  regions.add({"b1.scales", weights.b1_scales, scales, NVFP4_POINTER_ALIGNMENT});
  if (!interleaved) {
    regions.add({"b2.codes", weights.b2_codes, codes, NVFP4_POINTER_ALIGNMENT});
    regions.add({"b2.scales", weights.b2_scales, scales, NVFP4_POINTER_ALIGNMENT});
  }
  return regions;
}

// All that a launch reads.
Regions inputs(Spec const& spec, Weights const& weights, Io const& io) {
  Regions regions;
  regions.add({"a.codes", io.a_codes, codes_bytes(io.rows, spec.k, spec.batch), NVFP4_POINTER_ALIGNMENT});
  regions.add({"a.scales", io.a_scales, scales_bytes(io.rows, spec.k, spec.batch), NVFP4_POINTER_ALIGNMENT});
  Regions const of_weights = regions_of(spec, weights);
  for (Region const& region : of_weights.all()) {
    regions.add(region);
  }
  if (io.factor1 != nullptr) {
    regions.add({"factor1", io.factor1, sizeof(float), alignof(float)});
  }
  if (io.factor2 != nullptr) {
    regions.add({"factor2", io.factor2, sizeof(float), alignof(float)});
  }
  return regions;
}

}  // namespace

void validate(Spec const& spec) {
  require_size("spec", "nvfp4_spec", spec.size, sizeof(Spec));
  require_in("weights", static_cast<int>(spec.weights), NVFP4_WEIGHTS_SEPARATE, NVFP4_WEIGHTS_INTERLEAVED);
  require_in("programmatic_launch", spec.programmatic_launch, 0, 1);
  require_in("constant_weights", spec.constant_weights, 0, 1);
  require_in("sm_count", spec.sm_count, 0, INT32_MAX);
  validate_glu(spec.glu);
  int const n = spec.n, k = spec.k, batch = spec.batch;
  require_in("N", n, 1, INT32_MAX);
  if (k < NVFP4_K_MULTIPLE || k % NVFP4_K_MULTIPLE != 0) {
    fail_argument("K = ", k, " is not a positive multiple of ", NVFP4_K_MULTIPLE);
  }
  require_in("batch", batch, 1, NVFP4_MAX_BATCH);
  if (spec.weights == NVFP4_WEIGHTS_INTERLEAVED) {
    std::int64_t const tiles = ceil_div(std::int64_t{n}, NVFP4_INTERLEAVE);
    require_codes_fit("b1", tiles * (2 * NVFP4_INTERLEAVE), k);
    require_scales_fit("b1", "padded rows", tiles * NVFP4_INTERLEAVED_SCALE_ROWS, k);
  } else {
    require_codes_fit("b1", n, k);
    require_scales_fit("b1", "N", n, k);
  }
  validate_kernel(spec);
}

void validate(Spec const& spec, int rows) {
  validate(spec);
  validate_rows(spec, rows);
}

namespace detail {

void validate_weights(Spec const& spec, Weights const& weights) {
  require_size("weights", "nvfp4_weights", weights.size, sizeof(Weights));
  Regions const regions = regions_of(spec, weights);
  for (Region const& region : regions.all()) {
    require_region(region);
  }
  auto const require_null = [](char const* name, void const* address) {
    if (address != nullptr) {
      fail_argument(name, ": must be null, interleaved weights are all in b1");
    }
  };
  if (spec.weights == NVFP4_WEIGHTS_INTERLEAVED) {
    require_null("b2.codes", weights.b2_codes);
    require_null("b2.scales", weights.b2_scales);
  }
}

void validate_io(Spec const& spec, Weights const& weights, Io const& io) {
  require_size("io", "nvfp4_io", io.size, sizeof(Io));
  validate_destination(io.c);
  validate_rows(spec, io.rows);
  validate_c_size(spec, io.rows, io.c.type);
  Region const c = region_of_c(spec, io);
  // The epilogue writes element by element where C or its rows are not aligned for more.
  require_region(c);
  Regions const read = inputs(spec, weights, io);
  for (Region const& input : read.all()) {
    require_region(input);
    require_apart(c, input);
  }
  require_finite("alpha1", io.alpha1);
  require_finite("alpha2", io.alpha2);
}

void validate_workspace(Spec const& spec, Weights const& weights, Io const& io, std::size_t bytes) {
  if (bytes == 0) {
    return;
  }
  if (io.workspace == nullptr) {
    fail_argument("workspace: the address is null, and ", io.rows, " rows take ", bytes, " bytes");
  }
  if (io.workspace_bytes < bytes) {
    fail_argument("workspace: ", io.workspace_bytes, " bytes, and ", io.rows, " rows take ", bytes);
  }
  Region const workspace{"workspace", io.workspace, bytes, NVFP4_WORKSPACE_ALIGNMENT};
  require_region(workspace);
  require_apart(workspace, region_of_c(spec, io));
  Regions const read = inputs(spec, weights, io);
  for (Region const& input : read.all()) {
    require_apart(workspace, input);
  }
}

}  // namespace detail

}  // namespace nvfp4
