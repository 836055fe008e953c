// record_launch --list
// record_launch KERNEL M N K BATCH [--sms N] [--type f16|bf16|f32|nvfp4] [--round none|f16|bf16]
//               [--glu swiglu|clamped|geglu] [--gemm] [--bias] [--residual] [--in-place] [--stride N] [--programmatic]
//               [--factors]
//
// --in-place: the residual is C. --stride: elements from row to row of C, and of the residual.
//
// Prints as JSON what the host code would launch: the launch, the kernel's parameter byte for byte, and the tensor maps
// with their places in it. Operands are at symbolic addresses, one of `objects` each.
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>

#include "nvfp4_dual_gemm/dual_gemm.hpp"
#include "recorder.hpp"

namespace {

using namespace nvfp4;

// Far enough apart for any operand, and too large for a stride or a size to look like one.
constexpr int kObjectShift = 44;
enum Object {
  kA = 1, kSFA, kB1, kSFB1, kB2, kSFB2, kC, kFactor1, kFactor2, kWorkspace, kSFC, kBias1, kBias2, kResidual, kEnd
};
constexpr char const* kObjectNames[] = {"A", "SFA", "B1", "SFB1", "B2", "SFB2", "C",
                                        "FACTOR1", "FACTOR2", "WORKSPACE", "SFC", "BIAS1", "BIAS2", "RESIDUAL"};

std::uint64_t address_of(int object) { return static_cast<std::uint64_t>(object) << kObjectShift; }

template <class T>
T* symbol(Object object) {
  return reinterpret_cast<T*>(address_of(object));
}

[[noreturn]] void usage(std::string const& what) {
  std::cerr << "record_launch: " << what << "\n";
  std::exit(2);
}

int number(std::string_view text, char const* name) {
  int value = 0;
  auto const result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc{} || result.ptr != text.data() + text.size()) {
    usage(std::string(name) + " is \"" + std::string(text) + "\", not a number");
  }
  return value;
}

template <class Range>
std::string array(Range const& values) {
  std::ostringstream out;
  char const* separator = "";
  out << '[';
  for (auto const& value : values) {
    out << separator << value;
    separator = ", ";
  }
  out << ']';
  return out.str();
}

std::string array(dim3 const& d) { return array(std::initializer_list<unsigned>{d.x, d.y, d.z}); }

std::string quoted(std::string_view text) {
  std::ostringstream out;
  out << '"';
  for (char const c : text) {
    if (c == '"' || c == '\\') {
      out << '\\';
    }
    out << c;
  }
  out << '"';
  return out.str();
}

char const* mainloop_name(nvfp4_mainloop mainloop) {
  switch (mainloop) {
    case NVFP4_MAINLOOP_STACKED: return "stacked";
    case NVFP4_MAINLOOP_TWO_ACCUMULATORS: return "two_accumulators";
    case NVFP4_MAINLOOP_INTERLEAVED: return "interleaved";
    case NVFP4_MAINLOOP_WIDENED: return "widened";
  }
  usage("a kernel of mainloop " + std::to_string(static_cast<int>(mainloop)));
}

char const* scheduler_name(nvfp4_scheduler scheduler) {
  switch (scheduler) {
    case NVFP4_SCHEDULER_STATIC: return "static";
    case NVFP4_SCHEDULER_CLC: return "clc";
    case NVFP4_SCHEDULER_GRID: return "grid";
  }
  usage("a kernel of scheduler " + std::to_string(static_cast<int>(scheduler)));
}

std::string json_of(KernelInfo const& info) {
  std::ostringstream out;
  out << "{\"name\": " << quoted(info.name) << ", \"mainloop\": " << quoted(mainloop_name(info.mainloop))
      << ", \"scheduler\": " << quoted(scheduler_name(info.scheduler))
      << ", \"compute_capability\": " << info.compute_capability << ", \"family\": " << info.family << ", \"sms\": " << info.sms
      << ", \"tile\": " << array(std::initializer_list<int>{info.tile_m, info.tile_n, info.tile_k})
      << ", \"cluster\": " << array(std::initializer_list<int>{info.cluster_m, info.cluster_n, 1})
      << ", \"threads\": " << info.threads << ", \"stages\": " << info.stages
      << ", \"accumulator_stages\": " << info.accumulator_stages << ", \"smem_bytes\": " << info.smem_bytes
      << ", \"tmem_columns\": " << info.tmem_columns << ", \"params_bytes\": " << info.params_bytes << "}";
  return out.str();
}

std::string json_of(recorder::TensorMap const& map, recorder::StampedMap const& place) {
  std::ostringstream out;
  out << "{\"offset\": " << place.offset << ", \"data_type\": " << static_cast<int>(map.data_type)
      << ", \"address\": " << map.address << ", \"global_dim\": " << array(map.global_dim)
      << ", \"global_strides\": " << array(map.global_strides) << ", \"box_dim\": " << array(map.box_dim)
      << ", \"element_strides\": " << array(map.element_strides)
      << ", \"interleave\": " << static_cast<int>(map.interleave) << ", \"swizzle\": " << static_cast<int>(map.swizzle)
      << ", \"l2_promotion\": " << static_cast<int>(map.l2_promotion)
      << ", \"oob_fill\": " << static_cast<int>(map.oob_fill) << "}";
  return out.str();
}

std::string hex(std::vector<std::uint8_t> const& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (std::uint8_t const byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

void print_list() {
  char const* separator = "";
  std::cout << "[";
  for (KernelInfo const& info : kernels()) {
    std::cout << separator << "\n  " << json_of(info);
    separator = ",";
  }
  std::cout << "\n]\n";
}

void print_launch(Spec const& spec, Weights const& weights, Io const& io) {
  // Bound, so that what nobody wrote of the parameter is what was in memory before.
  auto const plan = Plan::prepare(spec, weights).bind(io);
  recorder::parameter_bytes() = static_cast<std::size_t>(plan.kernel().params_bytes);
  plan.launch(nullptr);
  recorder::Launch const& launch = recorder::launches().back();
  auto const* const cluster = launch.attribute(cudaLaunchAttributeClusterDimension);
  auto const* const programmatic = launch.attribute(cudaLaunchAttributeProgrammaticStreamSerialization);

  std::cout << "{\n  \"kernel\": " << json_of(plan.kernel()) << ",\n  \"function\": " << quoted(launch.function)
            << ",\n  \"grid\": " << array(launch.grid) << ",\n  \"block\": " << array(launch.block)
            << ",\n  \"cluster\": ";
  if (cluster != nullptr) {
    auto const& d = cluster->val.clusterDim;
    std::cout << array(std::initializer_list<unsigned>{d.x, d.y, d.z});
  } else {
    std::cout << "[1, 1, 1]";
  }
  std::cout << ",\n  \"smem_bytes\": " << launch.smem_bytes << ",\n  \"programmatic\": "
            << (programmatic != nullptr && programmatic->val.programmaticStreamSerializationAllowed ? "true" : "false")
            << ",\n  \"objects\": {";
  char const* separator = "";
  for (int object = kA; object < kEnd; ++object) {
    std::cout << separator << quoted(kObjectNames[object - kA]) << ": " << address_of(object);
    separator = ", ";
  }
  std::cout << "},\n  \"object_shift\": " << kObjectShift << ",\n  \"tensor_maps\": [";
  separator = "";
  for (recorder::StampedMap const& place : recorder::find_tensor_maps(launch.parameter)) {
    std::cout << separator << "\n    " << json_of(recorder::tensor_maps().at(place.index), place);
    separator = ",";
  }
  std::cout << "\n  ],\n  \"parameter\": " << quoted(hex(launch.parameter)) << "\n}\n";
}

// Null for any.
KernelInfo const* kernel_named(std::string_view name) {
  if (name == "auto") {
    return nullptr;
  }
  KernelInfo const* const kernel = find_kernel(name);
  if (kernel == nullptr) {
    usage("there is no kernel " + std::string(name) + "; --list has them");
  }
  return kernel;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 2 && std::string_view(argv[1]) == "--list") {
    print_list();
    return 0;
  }
  if (argc < 6) {
    usage("arguments: --list, or KERNEL M N K BATCH [options]");
  }
  KernelInfo const* const kernel = kernel_named(argv[1]);
  Spec spec{};
  spec.size = sizeof spec;
  spec.kernel = kernel == nullptr ? nullptr : kernel->name;
  spec.activations = kernel == nullptr ? NVFP4_DATA_TYPE_NVFP4 : kernel->activations;
  spec.weights = kernel == nullptr ? NVFP4_WEIGHTS_SEPARATE : kernel->weights;
  spec.n = number(argv[3], "N");
  spec.k = number(argv[4], "K");
  spec.batch = number(argv[5], "BATCH");
  spec.glu.limit = 7.0f;
  spec.glu.slope = 1.702f;
  spec.glu.offset = 1.0f;
  Weights weights{};
  weights.size = sizeof weights;
  Io io{};
  io.size = sizeof io;
  io.rows = number(argv[2], "M");
  io.c.size = sizeof io.c;
  for (int i = 6; i < argc; ++i) {
    std::string_view const option = argv[i];
    auto value = [&]() -> std::string_view {
      if (++i == argc) {
        usage(std::string(option) + " lacks its value");
      }
      return argv[i];
    };
    auto choice = [&](std::initializer_list<std::string_view> names) {
      std::string_view const wanted = value();
      int index = 0;
      for (std::string_view const name : names) {
        if (name == wanted) {
          return index;
        }
        ++index;
      }
      usage(std::string(option) + " cannot be \"" + std::string(wanted) + "\"");
    };
    if (option == "--sms") {
      spec.sm_count = number(value(), "--sms");
    } else if (option == "--type") {
      io.c.type = static_cast<nvfp4_data_type>(choice({"f16", "bf16", "f32", "nvfp4"}));
    } else if (option == "--glu") {
      spec.glu.kind = static_cast<nvfp4_glu_kind>(choice({"swiglu", "clamped", "geglu"}));
    } else if (option == "--round") {
      io.c.round_first = static_cast<nvfp4_round_first>(choice({"none", "f16", "bf16"}));
    } else if (option == "--gemm") {
      spec.operation = NVFP4_OPERATION_GEMM;
    } else if (option == "--bias") {
      weights.bias1 = symbol<float const>(kBias1);
      weights.bias2 = symbol<float const>(kBias2);
    } else if (option == "--residual") {
      io.residual = symbol<void>(kResidual);
    } else if (option == "--in-place") {
      io.residual = symbol<void>(kC);
    } else if (option == "--stride") {
      io.c.row_stride = number(value(), "--stride");
    } else if (option == "--programmatic") {
      spec.programmatic_launch = 1;
    } else if (option == "--factors") {
      io.factor1 = symbol<float const>(kFactor1);
      io.factor2 = symbol<float const>(kFactor2);
    } else {
      usage("there is no option " + std::string(option));
    }
  }
  weights.b1_codes = symbol<void>(kB1);
  weights.b1_scales = symbol<void>(kSFB1);
  if (spec.weights == NVFP4_WEIGHTS_SEPARATE) {
    weights.b2_codes = symbol<void>(kB2);
    weights.b2_scales = symbol<void>(kSFB2);
  }
  io.a_codes = symbol<void>(kA);
  io.a_scales = symbol<void>(kSFA);
  io.c.data = symbol<void>(kC);
  if (io.c.type == NVFP4_DATA_TYPE_NVFP4) {
    io.c.scales = symbol<void>(kSFC);
    io.c.global_scale = 0.125f;
  }
  io.residual_row_stride = io.residual == nullptr ? 0 : io.c.row_stride;
  io.alpha1 = 0.5f;
  io.alpha2 = spec.operation == NVFP4_OPERATION_GEMM ? io.alpha1 : 0.25f;  // a GEMM has one
  io.workspace = symbol<void>(kWorkspace);
  io.workspace_bytes = std::size_t{1} << (kObjectShift - 1);
  print_launch(spec, weights, io);
  return 0;
} catch (nvfp4::Error const& error) {
  std::cerr << "record_launch: " << error.what() << "\n";
  return 1;
}
