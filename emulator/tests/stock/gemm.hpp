// A host program around one of CUTLASS's own GEMM kernels, with nothing of ours in the kernel:
//
//   PROGRAM M N K ALPHA BETA FOLDER [SPLITS]
//
// computes D = alpha * A * B^T + beta * C from a.bin, b.bin, of kernels with block scales sfa.bin and sfb.bin, and of
// kernels with a C c.bin, and writes d.bin. A kernel whose D has block scales multiplies by the number in norm.bin before
// it quantizes, and its scales follow D in d.bin. The files hold the bytes of the operands in the kernel's own layouts.
// SPLITS is for kernels whose tiles may be shared by thread blocks: into how many parts K is split, or 0 for stream-K.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cutlass/cutlass.h"
#include "cutlass/epilogue/collective/collective_builder.hpp"
#include "cutlass/gemm/collective/collective_builder.hpp"
#include "cutlass/gemm/device/gemm_universal_adapter.h"
#include "cutlass/gemm/dispatch_policy.hpp"
#include "cutlass/gemm/kernel/gemm_universal.hpp"
#include "cutlass/util/packed_stride.hpp"

namespace stock {

inline void check(cudaError_t status, char const* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

inline void check(cutlass::Status status, char const* what) {
  if (status != cutlass::Status::kSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cutlassGetStatusString(status));
  }
}

// Device memory.
class Bytes {
 public:
  explicit Bytes(std::size_t size) : size_(size) { check(cudaMalloc(&data_, size == 0 ? 1 : size), "cudaMalloc"); }
  ~Bytes() { cudaFree(data_); }
  Bytes(Bytes const&) = delete;
  Bytes& operator=(Bytes const&) = delete;

  // Of a file that has to have the size of the operand.
  void read(std::string const& path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<char> const host{std::istreambuf_iterator<char>(file), {}};
    if (!file || host.size() != size_) {
      throw std::runtime_error(path + " has " + std::to_string(host.size()) + " bytes; the operand has " +
                               std::to_string(size_));
    }
    check(cudaMemcpy(data_, host.data(), size_, cudaMemcpyHostToDevice), "cudaMemcpy");
  }

  void write(std::string const& path, std::ios::openmode mode = std::ios::trunc) const {
    std::vector<char> host(size_);
    check(cudaMemcpy(host.data(), data_, size_, cudaMemcpyDeviceToHost), "cudaMemcpy");
    std::ofstream file(path, std::ios::binary | mode);
    file.write(host.data(), static_cast<std::streamsize>(size_));
    if (!file) {
      throw std::runtime_error("cannot write " + path);
    }
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  std::size_t size_;
  void* data_ = nullptr;
};

template <class Element>
std::size_t bytes_of(std::size_t elements) {
  return elements * cutlass::sizeof_bits<Element>::value / 8;
}

template <class Mainloop, class = void>
struct HasScales : std::false_type {};
template <class Mainloop>
struct HasScales<Mainloop, std::void_t<typename Mainloop::Sm1xxBlkScaledConfig>> : std::true_type {};

template <class Thread, class = void>
struct ScalesOutput : std::false_type {};
template <class Thread>
struct ScalesOutput<Thread, std::void_t<decltype(std::declval<Thread>().block_scale_factor_ptr)>> : std::true_type {};

template <class Scheduler, class = void>
struct SplitsTiles : std::false_type {};
template <class Scheduler>
struct SplitsTiles<Scheduler, std::void_t<decltype(std::declval<Scheduler>().decomposition_mode)>> : std::true_type {};

template <class Kernel>
void run(int m, int n, int k, float alpha, float beta, std::string const& folder, int splits) {
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
  using Mainloop = typename Kernel::CollectiveMainloop;
  using Epilogue = typename Kernel::CollectiveEpilogue;
  using ElementC = typename Epilogue::ElementC;
  using ElementD = typename Epilogue::ElementD;

  auto const size = [](int rows, int columns) { return static_cast<std::size_t>(rows) * columns; };
  auto const problem = cute::make_shape(m, n, k, 1);
  auto const stride = [](auto kind, int rows, int columns) {
    return cutlass::make_cute_packed_stride(kind, cute::make_shape(rows, columns, 1));
  };

  // The hardware information stays empty: CUTLASS asks the device for its multiprocessors.
  typename Gemm::Arguments arguments{};
  arguments.mode = cutlass::gemm::GemmUniversalMode::kGemm;
  arguments.problem_shape = problem;

  Bytes a(bytes_of<typename Mainloop::ElementA>(size(m, k)));
  Bytes b(bytes_of<typename Mainloop::ElementB>(size(n, k)));
  a.read(folder + "/a.bin");
  b.read(folder + "/b.bin");
  arguments.mainloop.ptr_A = a.template as<std::remove_const_t<std::remove_pointer_t<decltype(arguments.mainloop.ptr_A)>>>();
  arguments.mainloop.ptr_B = b.template as<std::remove_const_t<std::remove_pointer_t<decltype(arguments.mainloop.ptr_B)>>>();
  arguments.mainloop.dA = stride(typename Kernel::StrideA{}, m, k);
  arguments.mainloop.dB = stride(typename Kernel::StrideB{}, n, k);

  std::size_t sfa_bytes = 0;
  std::size_t sfb_bytes = 0;
  if constexpr (HasScales<Mainloop>::value) {
    using Config = typename Mainloop::Sm1xxBlkScaledConfig;
    arguments.mainloop.layout_SFA = Config::tile_atom_to_shape_SFA(problem);
    arguments.mainloop.layout_SFB = Config::tile_atom_to_shape_SFB(problem);
    sfa_bytes = cute::size(cute::filter_zeros(arguments.mainloop.layout_SFA));
    sfb_bytes = cute::size(cute::filter_zeros(arguments.mainloop.layout_SFB));
  }
  Bytes sfa(sfa_bytes);
  Bytes sfb(sfb_bytes);
  if constexpr (HasScales<Mainloop>::value) {
    using Scale = typename Mainloop::ElementSF;
    static_assert(sizeof(Scale) == 1);
    sfa.read(folder + "/sfa.bin");
    sfb.read(folder + "/sfb.bin");
    arguments.mainloop.ptr_SFA = sfa.template as<Scale>();
    arguments.mainloop.ptr_SFB = sfb.template as<Scale>();
  }

  std::size_t c_bytes = 0;
  if constexpr (!std::is_void_v<ElementC>) {
    c_bytes = bytes_of<ElementC>(size(m, n));
  }
  Bytes c(c_bytes);
  if constexpr (!std::is_void_v<ElementC>) {
    c.read(folder + "/c.bin");
    arguments.epilogue.ptr_C = c.template as<ElementC>();
    arguments.epilogue.dC = stride(typename Kernel::StrideC{}, m, n);
  }
  Bytes d(bytes_of<ElementD>(size(m, n)));
  // Whatever the kernel leaves out shows.
  check(cudaMemset(d.template as<void>(), 0xCD, bytes_of<ElementD>(size(m, n))), "cudaMemset");
  arguments.epilogue.ptr_D = d.template as<ElementD>();
  arguments.epilogue.dD = stride(typename Kernel::StrideD{}, m, n);
  arguments.epilogue.thread.alpha = alpha;
  arguments.epilogue.thread.beta = beta;

  using Thread = decltype(arguments.epilogue.thread);
  std::size_t sfd_bytes = 0;
  if constexpr (ScalesOutput<Thread>::value) {
    constexpr int kVector = Epilogue::FusionCallbacks::Operation::SFVecSize;
    using Config = cutlass::detail::Sm1xxBlockScaledOutputConfig<kVector>;
    sfd_bytes = cute::size(cute::filter_zeros(Config::tile_atom_to_shape_SFD(problem)));
  }
  Bytes sfd(sfd_bytes);
  Bytes norm(ScalesOutput<Thread>::value ? sizeof(float) : 0);
  if constexpr (ScalesOutput<Thread>::value) {
    check(cudaMemset(sfd.template as<void>(), 0xCD, sfd_bytes), "cudaMemset");
    norm.read(folder + "/norm.bin");
    using Scale = std::remove_pointer_t<decltype(arguments.epilogue.thread.block_scale_factor_ptr)>;
    static_assert(sizeof(Scale) == 1);
    arguments.epilogue.thread.block_scale_factor_ptr = sfd.template as<Scale>();
    arguments.epilogue.thread.norm_constant_ptr = norm.template as<float>();
  }
  using Scheduler = decltype(arguments.scheduler);
  if constexpr (SplitsTiles<Scheduler>::value) {
    using Mode = decltype(arguments.scheduler.decomposition_mode);
    arguments.scheduler.decomposition_mode = splits == 0 ? Mode::StreamK : Mode::SplitK;
    arguments.scheduler.splits = splits == 0 ? 1 : splits;
  }

  Gemm gemm;
  check(Gemm::can_implement(arguments), "can_implement");
  Bytes workspace(Gemm::get_workspace_size(arguments));
  check(gemm.initialize(arguments, workspace.template as<void>()), "initialize");
  check(gemm.run(), "run");
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  d.write(folder + "/d.bin");
  if constexpr (ScalesOutput<Thread>::value) {
    sfd.write(folder + "/d.bin", std::ios::app);
  }
}

template <class Kernel>
int main(int argc, char** argv) {
  if (argc != 7 && argc != 8) {
    std::fprintf(stderr, "usage: %s M N K ALPHA BETA FOLDER [SPLITS]\n", argv[0]);
    return 2;
  }
  try {
    run<Kernel>(std::atoi(argv[1]), std::atoi(argv[2]), std::atoi(argv[3]), static_cast<float>(std::atof(argv[4])),
                static_cast<float>(std::atof(argv[5])), argv[6], argc == 8 ? std::atoi(argv[7]) : 0);
    return 0;
  } catch (std::exception const& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}

}  // namespace stock
