// Every rule that the kernels cannot check themselves, each with the operand and the numbers that break it.
#include "validate.hpp"

#include <cmath>
#include <ios>
#include <vector>

#include "error.hpp"
#include "table.hpp"

namespace nvfp4 {

namespace {

using detail::fail_argument;

// Wide enough for every product of three sizes.
__extension__ using Wide = __int128;

Wide ceil_div(Wide a, Wide b) { return (a + b - 1) / b; }

// Strides of a tensor map, in bytes (CUDA driver API, cuTensorMapEncodeTiled).
constexpr Wide kMaxTmaStride = Wide{1} << 40;

int output_bytes(nvfp4_output output) { return output == NVFP4_OUTPUT_F32 ? 4 : 2; }

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
  Wide const atoms = ceil_div(rows, NVFP4_SCALE_ATOM_ROWS) * ceil_div(k, NVFP4_SCALE_BLOCK * NVFP4_SCALE_ATOM_BLOCKS);
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

void validate_gate(Gate const& gate) {
  require_in("gate.kind", static_cast<int>(gate.kind), NVFP4_GATE_SILU, NVFP4_GATE_GELU_TANH);
  if (gate.kind == NVFP4_GATE_CLAMPED_SWIGLU) {
    // Far beyond any use, and near enough for the gate not to overflow where its result does not.
    constexpr float kMost = 1e18f;
    if (!(gate.limit > 0 && gate.limit <= kMost)) {
      fail_argument("gate.limit = ", gate.limit, " is not > 0 and at most ", kMost);
    }
    auto const require_moderate = [kMost](char const* what, float value) {
      if (!(std::fabs(value) <= kMost)) {
        fail_argument(what, " = ", value, " is not between ", -kMost, " and ", kMost);
      }
    };
    require_moderate("gate.alpha", gate.alpha);
    require_moderate("gate.beta", gate.beta);
  }
}

void validate_problem(Problem const& problem, nvfp4_output output, nvfp4_weight_format weights) {
  auto const [m, n, k, batch] = problem;
  require_in("M", m, 0, INT32_MAX);
  require_in("N", n, 1, INT32_MAX);
  if (k < NVFP4_K_MULTIPLE || k % NVFP4_K_MULTIPLE != 0) {
    fail_argument("K = ", k, " is not a positive multiple of ", NVFP4_K_MULTIPLE);
  }
  require_in("batch", batch, 1, NVFP4_MAX_BATCH);
  require_codes_fit("a", m, k);
  require_scales_fit("a", "M", m, k);
  if (weights == NVFP4_WEIGHTS_INTERLEAVED) {
    std::int64_t const tiles = static_cast<std::int64_t>(ceil_div(n, NVFP4_INTERLEAVE));
    require_codes_fit("b1", tiles * (2 * NVFP4_INTERLEAVE), k);
    require_scales_fit("b1", "padded rows", tiles * NVFP4_INTERLEAVED_SCALE_ROWS, k);
  } else {
    require_codes_fit("b1", n, k);
    require_scales_fit("b1", "N", n, k);
  }
  Wide const c_bytes = Wide{m} * n * batch * output_bytes(output);
  if (c_bytes > INT64_MAX) {
    fail_argument("c: M = ", m, ", N = ", n, ", batch = ", batch, " take more than ", INT64_MAX, " bytes");
  }
}

// A buffer of device memory.
struct Region {
  char const* name;
  void const* address;
  std::size_t bytes;
  std::size_t alignment;
};

void require_region(Region const& region) {
  if (region.bytes == 0) {
    return;  // an empty buffer has no address
  }
  std::uintptr_t const address = reinterpret_cast<std::uintptr_t>(region.address);
  if (address == 0) {
    fail_argument(region.name, ": the address is null");
  }
  if (address % region.alignment != 0) {
    fail_argument(region.name, ": address 0x", std::hex, address, std::dec, " is not a multiple of ", region.alignment);
  }
  if (region.bytes > UINTPTR_MAX - address) {
    fail_argument(region.name, ": ", region.bytes, " bytes from address 0x", std::hex, address,
                  " end beyond the address space");
  }
}

bool overlap(Region const& a, Region const& b) {
  if (a.bytes == 0 || b.bytes == 0) {
    return false;
  }
  std::uintptr_t const first = reinterpret_cast<std::uintptr_t>(a.address);
  std::uintptr_t const second = reinterpret_cast<std::uintptr_t>(b.address);
  return first < second + b.bytes && second < first + a.bytes;
}

void require_apart(Region const& a, Region const& b) {
  if (overlap(a, b)) {
    fail_argument(a.name, " overlaps ", b.name);
  }
}

Region region_of_c(Config const& config, Operands const& operands) {
  auto const [m, n, k, batch] = config.problem;
  std::size_t const element = static_cast<std::size_t>(output_bytes(config.output));
  std::size_t const bytes = static_cast<std::size_t>(m) * static_cast<std::size_t>(n) *
                            static_cast<std::size_t>(batch) * element;
  return {"c", operands.c, bytes, element};
}

std::vector<Region> inputs(Config const& config, Operands const& operands) {
  auto const [m, n, k, batch] = config.problem;
  bool const interleaved = config.weights == NVFP4_WEIGHTS_INTERLEAVED;
  std::size_t const b_codes = interleaved ? interleaved_codes_bytes(n, k, batch) : codes_bytes(n, k, batch);
  std::size_t const b_scales = interleaved ? interleaved_scales_bytes(n, k, batch) : scales_bytes(n, k, batch);
  std::vector<Region> regions{
      {"a.codes", operands.a_codes, codes_bytes(m, k, batch), NVFP4_POINTER_ALIGNMENT},
      {"a.scales", operands.a_scales, scales_bytes(m, k, batch), NVFP4_POINTER_ALIGNMENT},
      {"b1.codes", operands.b1_codes, b_codes, NVFP4_POINTER_ALIGNMENT},
      {"b1.scales", operands.b1_scales, b_scales, NVFP4_POINTER_ALIGNMENT},
  };
  if (!interleaved) {
    regions.push_back({"b2.codes", operands.b2_codes, b_codes, NVFP4_POINTER_ALIGNMENT});
    regions.push_back({"b2.scales", operands.b2_scales, b_scales, NVFP4_POINTER_ALIGNMENT});
  }
  if (operands.alpha1_ptr != nullptr) {
    regions.push_back({"alpha1_ptr", operands.alpha1_ptr, sizeof(float), alignof(float)});
  }
  if (operands.alpha2_ptr != nullptr) {
    regions.push_back({"alpha2_ptr", operands.alpha2_ptr, sizeof(float), alignof(float)});
  }
  return regions;
}

}  // namespace

void validate(Config const& config) {
  require_in("output", static_cast<int>(config.output), NVFP4_OUTPUT_F16, NVFP4_OUTPUT_F32);
  require_in("weights", static_cast<int>(config.weights), NVFP4_WEIGHTS_SEPARATE, NVFP4_WEIGHTS_INTERLEAVED);
  require_in("programmatic_launch", config.programmatic_launch, 0, 1);
  require_in("sm_count", config.sm_count, 0, INT32_MAX);
  validate_gate(config.gate);
  validate_problem(config.problem, config.output, config.weights);
  require_in("kernel", config.kernel, NVFP4_KERNEL_AUTO, NVFP4_KERNEL_COUNT - 1);
  if (config.kernel != NVFP4_KERNEL_AUTO && detail::kKernelTable[config.kernel].weights() != config.weights) {
    bool const interleaved = config.weights == NVFP4_WEIGHTS_INTERLEAVED;
    fail_argument("kernel = ", config.kernel, " (", detail::kKernelNames[config.kernel], ") takes ",
                  interleaved ? "separate" : "interleaved", " weights, the operands are ",
                  interleaved ? "interleaved" : "separate");
  }
}

namespace detail {

void validate_operands(Config const& config, Operands const& operands) {
  bool const interleaved = config.weights == NVFP4_WEIGHTS_INTERLEAVED;
  Region const c = region_of_c(config, operands);
  // The epilogue writes element by element where C or its rows are not aligned for more.
  require_region(c);
  for (Region const& input : inputs(config, operands)) {
    require_region(input);
    require_apart(c, input);
  }
  auto const require_null = [](char const* name, void const* address) {
    if (address != nullptr) {
      fail_argument(name, ": must be null, interleaved weights are all in b1");
    }
  };
  if (interleaved) {
    require_null("b2.codes", operands.b2_codes);
    require_null("b2.scales", operands.b2_scales);
  }
  require_finite("alpha1", operands.alpha1);
  require_finite("alpha2", operands.alpha2);
}

void validate_workspace(Config const& config, Operands const& operands, std::size_t bytes) {
  if (bytes == 0) {
    return;
  }
  Region const workspace{"workspace", operands.workspace, bytes, NVFP4_WORKSPACE_ALIGNMENT};
  require_region(workspace);
  require_apart(workspace, region_of_c(config, operands));
  for (Region const& input : inputs(config, operands)) {
    require_apart(workspace, input);
  }
}

}  // namespace detail

}  // namespace nvfp4
