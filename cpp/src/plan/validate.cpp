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

// Of a type that require_in() has let through, but for NVFP4.
int element_bytes(nvfp4_data_type type) { return type == NVFP4_DATA_TYPE_F32 ? 4 : 2; }

bool is_gemm(Spec const& spec) { return spec.operation == NVFP4_OPERATION_GEMM; }
bool is_nvfp4(Destination const& c) { return c.type == NVFP4_DATA_TYPE_NVFP4; }
bool has_values(Spec const& spec) { return spec.activations != NVFP4_DATA_TYPE_NVFP4; }

// As they are where 0 stands for them.
std::int64_t stride_or(std::int64_t stride, int columns) { return stride == 0 ? columns : stride; }

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

void require_stride(char const* what, std::int64_t stride, char const* columns_name, int columns) {
  if (stride != 0 && stride < columns) {
    fail_argument(what, " = ", stride, " is neither 0 nor at least ", columns_name, " = ", columns);
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

// From the first element of a matrix to the last, of all batches.
Wide strided_bytes(int rows, int batch, std::int64_t stride, int columns, int element) {
  Wide const all_rows = Wide{rows} * batch;
  return all_rows == 0 ? 0 : ((all_rows - 1) * stride + columns) * element;
}

void require_matrix_fits(char const* what, int rows, int batch, std::int64_t stride, int columns, int element) {
  if (strided_bytes(rows, batch, stride, columns, element) > INT64_MAX) {
    fail_argument(what, ": M = ", rows, ", N = ", columns, ", batch = ", batch, ", row stride = ", stride,
                  " take more than ", INT64_MAX, " bytes");
  }
}

Region strided_region(char const* name, void const* address, int rows, int batch, std::int64_t stride, int columns,
                      int element, std::size_t alignment) {
  Wide const bytes = strided_bytes(rows, batch, stride, columns, element);
  return {name,
          address,
          static_cast<std::size_t>(bytes),
          alignment,
          static_cast<std::size_t>(stride) * static_cast<std::size_t>(element),
          static_cast<std::size_t>(columns) * static_cast<std::size_t>(element)};
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
  nvfp4_data_type const activations = detail::kKernelTable[index].activations;
  if (activations != spec.activations) {
    fail_argument("kernel ", spec.kernel, " takes activations in ", detail::name_of(activations),
                  ", those of the plan are in ", detail::name_of(spec.activations));
  }
}

void validate_c_size(Spec const& spec, int rows, nvfp4_data_type type) {
  Wide const bytes = Wide{rows} * spec.n * spec.batch * element_bytes(type);
  if (bytes > INT64_MAX) {
    fail_argument("c: M = ", rows, ", N = ", spec.n, ", batch = ", spec.batch, " take more than ", INT64_MAX, " bytes");
  }
}

// Of A in F16 or BF16: the rule of a tensor map.
void require_values_fit(int rows, std::int64_t stride) {
  Wide const bytes = Wide{rows} * stride * 2;
  if (bytes >= kMaxTmaStride) {
    fail_argument("a: ", rows, " rows, ", stride, " elements apart, take ", static_cast<std::int64_t>(kMaxTmaStride / 2), " elements a batch or more");
  }
}

// Of a valid specification.
void validate_rows(Spec const& spec, int rows) {
  require_in("M", rows, 0, INT32_MAX);
  if (has_values(spec)) {
    require_values_fit(rows, spec.k);
  } else {
    require_codes_fit("a", rows, spec.k);
    require_scales_fit("a", "M", rows, spec.k);
  }
  validate_c_size(spec, rows, NVFP4_DATA_TYPE_F16);
}

void validate_activations(Spec const& spec, Io const& io) {
  if (!has_values(spec)) {
    if (io.a_row_stride != 0) {
      fail_argument("a_row_stride = ", io.a_row_stride, ": must be 0, rows of A in NVFP4 are contiguous");
    }
    return;
  }
  if (io.a_scales != nullptr) {
    fail_argument("a.scales: must be null, A is in ", detail::name_of(spec.activations));
  }
  require_stride("a_row_stride", io.a_row_stride, "K", spec.k);
  if (io.a_row_stride % 8 != 0) {
    fail_argument("a_row_stride = ", io.a_row_stride, " is not a multiple of 8");
  }
  require_values_fit(io.rows, stride_or(io.a_row_stride, spec.k));
  require_matrix_fits("a", io.rows, spec.batch, stride_or(io.a_row_stride, spec.k), spec.k, 2);
}

void validate_nvfp4_destination(Spec const& spec, Io const& io) {
  Destination const& c = io.c;
  if (spec.n % NVFP4_K_MULTIPLE != 0) {
    fail_argument("N = ", spec.n, " is not a multiple of ", NVFP4_K_MULTIPLE, ", which C in NVFP4 needs");
  }
  if (!(std::isnormal(c.global_scale) && c.global_scale > 0)) {
    fail_argument("c.global_scale = ", c.global_scale, " is not a normal number > 0");
  }
  require_in("c.round_first", static_cast<int>(c.round_first), NVFP4_ROUND_FIRST_NONE, NVFP4_ROUND_FIRST_BF16);
  if (c.row_stride != 0) {
    fail_argument("c.row_stride = ", c.row_stride, ": must be 0, rows of C in NVFP4 are contiguous");
  }
  Wide const atoms = ceil_div(Wide{io.rows}, NVFP4_SCALE_ATOM_ROWS) *
                     ceil_div(Wide{spec.n}, NVFP4_SCALE_BLOCK * NVFP4_SCALE_ATOM_BLOCKS) * spec.batch;
  if (atoms * NVFP4_SCALE_ATOM_BYTES > INT64_MAX) {
    fail_argument("c.scales: M = ", io.rows, ", N = ", spec.n, ", batch = ", spec.batch, " take more than ", INT64_MAX,
                  " bytes");
  }
}

void validate_destination(Spec const& spec, Io const& io) {
  Destination const& c = io.c;
  require_in("c.type", static_cast<int>(c.type), NVFP4_DATA_TYPE_F16, NVFP4_DATA_TYPE_NVFP4);
  if (is_nvfp4(c)) {
    validate_nvfp4_destination(spec, io);
    return;
  }
  if (c.scales != nullptr) {
    fail_argument("c.scales: must be null, C is in ", detail::name_of(c.type));
  }
  if (c.global_scale != 0.0f) {
    fail_argument("c.global_scale = ", c.global_scale, ": must be 0, C is in ", detail::name_of(c.type));
  }
  if (c.round_first != NVFP4_ROUND_FIRST_NONE) {
    fail_argument("c.round_first = ", static_cast<int>(c.round_first), ": must be ", int{NVFP4_ROUND_FIRST_NONE},
                  ", C is in ", detail::name_of(c.type));
  }
  require_stride("c.row_stride", c.row_stride, "N", spec.n);
  require_matrix_fits("c", io.rows, spec.batch, stride_or(c.row_stride, spec.n), spec.n, element_bytes(c.type));
}

void validate_residual(Spec const& spec, Io const& io) {
  if (io.residual == nullptr) {
    if (io.residual_row_stride != 0) {
      fail_argument("residual_row_stride = ", io.residual_row_stride, ": must be 0, there is no residual");
    }
    return;
  }
  if (!is_gemm(spec)) {
    fail_argument("residual: must be null, a dual GEMM adds none");
  }
  if (is_nvfp4(io.c)) {
    fail_argument("residual: must be null, C is in NVFP4");
  }
  require_stride("residual_row_stride", io.residual_row_stride, "N", spec.n);
  require_matrix_fits("residual", io.rows, spec.batch, stride_or(io.residual_row_stride, spec.n), spec.n,
                      element_bytes(io.c.type));
}

// What a launch writes.
Region region_of_c(Spec const& spec, Io const& io) {
  if (is_nvfp4(io.c)) {
    return {"c", io.c.data, codes_bytes(io.rows, spec.n, spec.batch), NVFP4_POINTER_ALIGNMENT};
  }
  // The epilogue writes element by element where C or its rows are not aligned for more.
  int const element = element_bytes(io.c.type);
  return strided_region("c", io.c.data, io.rows, spec.batch, stride_or(io.c.row_stride, spec.n), spec.n, element,
                        static_cast<std::size_t>(element));
}
Region region_of_c_scales(Spec const& spec, Io const& io) {
  std::size_t const bytes = is_nvfp4(io.c) ? scales_bytes(io.rows, spec.n, spec.batch) : 0;
  return {"c.scales", io.c.scales, bytes, NVFP4_POINTER_ALIGNMENT};
}

Region region_of_residual(Spec const& spec, Io const& io) {
  if (io.residual == nullptr) {
    return {"residual", nullptr, 0, 1};
  }
  int const element = element_bytes(io.c.type);
  return strided_region("residual", io.residual, io.rows, spec.batch, stride_or(io.residual_row_stride, spec.n), spec.n,
                        element, static_cast<std::size_t>(element));
}

// C itself or apart from it: what one thread adds and writes, no other may have changed.
void require_residual_apart(Spec const& spec, Io const& io) {
  Region const c = region_of_c(spec, io), residual = region_of_residual(spec, io);
  if (residual.bytes == 0) {
    return;
  }
  bool const one_row = Wide{io.rows} * spec.batch == 1;
  bool const same = residual.address == c.address;
  if (same && (one_row || residual.row_stride == c.row_stride)) {
    return;
  }
  if (same) {
    fail_argument("residual is c, and their rows are ", stride_or(io.residual_row_stride, spec.n), " and ",
                  stride_or(io.c.row_stride, spec.n), " elements apart");
  }
  require_apart(c, residual);
}

// A few regions, without an allocation.
struct Regions {
  Region list[12];
  std::size_t count = 0;

  void add(Region const& region) { list[count++] = region; }
  std::span<Region const> all() const& { return {list, count}; }
  std::span<Region const> all() const&& = delete;  // of what is gone
};

Regions regions_of(Spec const& spec, Weights const& weights) {
  bool const interleaved = spec.weights == NVFP4_WEIGHTS_INTERLEAVED;
  int const rows = weight_rows(spec);
  std::size_t const codes = interleaved ? interleaved_codes_bytes(rows, spec.k, spec.batch)
                                        : codes_bytes(rows, spec.k, spec.batch);
  std::size_t const scales = interleaved ? interleaved_scales_bytes(rows, spec.k, spec.batch)
                                         : scales_bytes(rows, spec.k, spec.batch);
  Regions regions;
  regions.add({"b1.codes", weights.b1_codes, codes, NVFP4_POINTER_ALIGNMENT});
  regions.add({"b1.scales", weights.b1_scales, scales, NVFP4_POINTER_ALIGNMENT});
  if (!interleaved) {
    regions.add({"b2.codes", weights.b2_codes, codes, NVFP4_POINTER_ALIGNMENT});
    regions.add({"b2.scales", weights.b2_scales, scales, NVFP4_POINTER_ALIGNMENT});
  }
  if (weights.bias1 != nullptr || weights.bias2 != nullptr) {
    auto const bytes = [&](int columns) {
      return static_cast<std::size_t>(columns) * static_cast<std::size_t>(spec.batch) * sizeof(float);
    };
    regions.add({"bias1", weights.bias1, bytes(rows), alignof(float)});
    regions.add({"bias2", weights.bias2, bytes(is_gemm(spec) ? spec.n - rows : rows), alignof(float)});
  }
  return regions;
}

// All that a launch reads, but for the residual, which may be C.
Regions inputs(Spec const& spec, Weights const& weights, Io const& io) {
  Regions regions;
  if (has_values(spec)) {
    regions.add(strided_region("a", io.a_codes, io.rows, spec.batch, stride_or(io.a_row_stride, spec.k), spec.k, 2,
                               NVFP4_POINTER_ALIGNMENT));
  } else {
    regions.add({"a.codes", io.a_codes, codes_bytes(io.rows, spec.k, spec.batch), NVFP4_POINTER_ALIGNMENT});
    regions.add({"a.scales", io.a_scales, scales_bytes(io.rows, spec.k, spec.batch), NVFP4_POINTER_ALIGNMENT});
  }
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
  require_in("operation", static_cast<int>(spec.operation), NVFP4_OPERATION_DUAL_GEMM, NVFP4_OPERATION_GEMM);
  require_in("activations", static_cast<int>(spec.activations), NVFP4_DATA_TYPE_F16, NVFP4_DATA_TYPE_NVFP4);
  if (spec.activations == NVFP4_DATA_TYPE_F32) {
    fail_argument("activations = ", int{NVFP4_DATA_TYPE_F32}, " (F32) are none of F16, BF16 and NVFP4");
  }
  require_in("weights", static_cast<int>(spec.weights), NVFP4_WEIGHTS_SEPARATE, NVFP4_WEIGHTS_INTERLEAVED);
  require_in("programmatic_launch", spec.programmatic_launch, 0, 1);
  require_in("constant_weights", spec.constant_weights, 0, 1);
  require_in("sm_count", spec.sm_count, 0, INT32_MAX);
  if (!is_gemm(spec)) {
    validate_glu(spec.glu);
  }
  int const k = spec.k, batch = spec.batch;
  require_in("N", spec.n, 1, INT32_MAX);
  if (k < NVFP4_K_MULTIPLE || k % NVFP4_K_MULTIPLE != 0) {
    fail_argument("K = ", k, " is not a positive multiple of ", NVFP4_K_MULTIPLE);
  }
  require_in("batch", batch, 1, NVFP4_MAX_BATCH);
  int const rows = weight_rows(spec);
  if (spec.weights == NVFP4_WEIGHTS_INTERLEAVED) {
    std::int64_t const tiles = ceil_div(std::int64_t{rows}, NVFP4_INTERLEAVE);
    require_codes_fit("b1", tiles * (2 * NVFP4_INTERLEAVE), k);
    require_scales_fit("b1", "padded rows", tiles * NVFP4_INTERLEAVED_SCALE_ROWS, k);
  } else {
    require_codes_fit("b1", rows, k);
    require_scales_fit("b1", is_gemm(spec) ? "rows" : "N", rows, k);
  }
  validate_kernel(spec);
}

void validate(Spec const& spec, int rows) {
  validate(spec);
  validate_rows(spec, rows);
}

namespace detail {

char const* name_of(nvfp4_data_type type) noexcept {
  switch (type) {
    case NVFP4_DATA_TYPE_F16: return "F16";
    case NVFP4_DATA_TYPE_BF16: return "BF16";
    case NVFP4_DATA_TYPE_F32: return "F32";
    case NVFP4_DATA_TYPE_NVFP4: return "NVFP4";
  }
  return "an unknown type";
}

void validate_weights(Spec const& spec, Weights const& weights) {
  require_size("weights", "nvfp4_weights", weights.size, sizeof(Weights));
  int const columns2 = is_gemm(spec) ? spec.n - weight_rows(spec) : spec.n;
  if (weights.bias1 == nullptr ? weights.bias2 != nullptr : weights.bias2 == nullptr && columns2 > 0) {
    fail_argument(weights.bias1 == nullptr ? "bias1" : "bias2", ": the address is null, and ",
                  weights.bias1 == nullptr ? "bias2" : "bias1", " is given: both or none are");
  }
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
  require_size("c", "nvfp4_destination", io.c.size, sizeof(Destination));
  validate_rows(spec, io.rows);
  validate_activations(spec, io);
  validate_destination(spec, io);
  validate_residual(spec, io);
  Region const c = region_of_c(spec, io), c_scales = region_of_c_scales(spec, io);
  require_region(c);
  require_region(c_scales);
  require_apart(c, c_scales);
  Region const residual = region_of_residual(spec, io);
  require_region(residual);
  require_residual_apart(spec, io);
  Regions const read = inputs(spec, weights, io);
  for (Region const& input : read.all()) {
    require_region(input);
    require_apart(c, input);
    require_apart(c_scales, input);
  }
  require_finite("alpha1", io.alpha1);
  require_finite("alpha2", io.alpha2);
  if (spec.operation == NVFP4_OPERATION_GEMM && io.alpha1 != io.alpha2) {
    fail_argument("alpha2 = ", io.alpha2, ": a GEMM has one alpha, and alpha1 = ", io.alpha1);
  }
  if (spec.operation == NVFP4_OPERATION_GEMM && io.factor1 != io.factor2) {
    fail_argument("factor2: a GEMM has one alpha, and takes the same factor twice");
  }
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
  require_apart(workspace, region_of_c_scales(spec, io));
  require_apart(workspace, region_of_residual(spec, io));
  Regions const read = inputs(spec, weights, io);
  for (Region const& input : read.all()) {
    require_apart(workspace, input);
  }
}

}  // namespace detail

}  // namespace nvfp4
