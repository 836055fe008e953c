// A host program around one of CUTLASS's own GEMM kernels for groups of problems, with nothing of ours in the kernel:
//
//   PROGRAM ALPHA BETA FOLDER M N K [M N K ...]
//
// computes D = alpha * A * B^T + beta * C for every group: number G has its operands in FOLDER/G, as those of `gemm.hpp`,
// and its d.bin goes there.
#pragma once

#include <memory>

#include "gemm.hpp"
#include "cutlass/gemm/group_array_problem_shape.hpp"

namespace stock {

// Device memory with a copy of an array of the host.
template <class Element>
class Copied {
 public:
  explicit Copied(std::vector<Element> const& host) : bytes_(host.size() * sizeof(Element)) {
    check(cudaMemcpy(bytes_.as<void>(), host.data(), host.size() * sizeof(Element), cudaMemcpyHostToDevice),
          "cudaMemcpy");
  }
  Element* data() const { return bytes_.template as<Element>(); }

 private:
  Bytes bytes_;
};

// What is one pointer, stride or layout for each group.
template <class Kernel>
struct Groups {
  using Mainloop = typename Kernel::CollectiveMainloop;
  using Epilogue = typename Kernel::CollectiveEpilogue;
  using Config = typename Mainloop::Sm1xxBlkScaledConfig;
  using Scale = typename Mainloop::ElementSF;
  using A = typename Mainloop::ArrayElementA;
  using B = typename Mainloop::ArrayElementB;
  using C = typename Epilogue::ElementC;
  using D = typename Epilogue::ElementD;
  using Shape = typename Kernel::ProblemShape::UnderlyingProblemShape;

  std::vector<Shape> shapes;
  std::vector<A const*> a;
  std::vector<B const*> b;
  std::vector<Scale const*> sfa, sfb;
  std::vector<C const*> c;
  std::vector<D*> d;
  std::vector<typename Kernel::InternalStrideA> da;
  std::vector<typename Kernel::InternalStrideB> db;
  std::vector<typename Kernel::InternalStrideC> dc;
  std::vector<typename Kernel::InternalStrideD> dd;
  std::vector<typename Mainloop::InternalLayoutSFA> layout_sfa;
  std::vector<typename Mainloop::InternalLayoutSFB> layout_sfb;
  std::vector<std::unique_ptr<Bytes>> memory;

  void* allocate(std::size_t bytes) {
    memory.push_back(std::make_unique<Bytes>(bytes));
    return memory.back()->template as<void>();
  }

  void* read(std::size_t bytes, std::string const& path) {
    allocate(bytes);
    memory.back()->read(path);
    return memory.back()->template as<void>();
  }

  void add(int m, int n, int k, std::string const& folder) {
    auto const size = [](int rows, int columns) { return static_cast<std::size_t>(rows) * columns; };
    auto const stride = [](auto kind, int rows, int columns) {
      return cutlass::make_cute_packed_stride(kind, cute::make_shape(rows, columns, 1));
    };
    auto const problem = cute::make_shape(m, n, k, 1);
    shapes.push_back(cute::make_shape(m, n, k));
    a.push_back(static_cast<A const*>(read(bytes_of<typename Mainloop::ElementA>(size(m, k)), folder + "/a.bin")));
    b.push_back(static_cast<B const*>(read(bytes_of<typename Mainloop::ElementB>(size(n, k)), folder + "/b.bin")));
    da.push_back(stride(typename Kernel::InternalStrideA{}, m, k));
    db.push_back(stride(typename Kernel::InternalStrideB{}, n, k));
    layout_sfa.push_back(Config::tile_atom_to_shape_SFA(problem));
    layout_sfb.push_back(Config::tile_atom_to_shape_SFB(problem));
    sfa.push_back(static_cast<Scale const*>(
        read(cute::size(cute::filter_zeros(layout_sfa.back())), folder + "/sfa.bin")));
    sfb.push_back(static_cast<Scale const*>(
        read(cute::size(cute::filter_zeros(layout_sfb.back())), folder + "/sfb.bin")));
    c.push_back(static_cast<C const*>(read(bytes_of<C>(size(m, n)), folder + "/c.bin")));
    dc.push_back(stride(typename Kernel::InternalStrideC{}, m, n));
    d.push_back(static_cast<D*>(allocate(bytes_of<D>(size(m, n)))));
    // Whatever the kernel leaves out shows.
    check(cudaMemset(d.back(), 0xCD, bytes_of<D>(size(m, n))), "cudaMemset");
    dd.push_back(stride(typename Kernel::InternalStrideD{}, m, n));
  }
};

template <class Kernel>
void run_groups(float alpha, float beta, std::string const& folder, std::vector<int> const& extents) {
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
  Groups<Kernel> groups;
  int const count = static_cast<int>(extents.size() / 3);
  for (int group = 0; group < count; ++group) {
    int const* const of = extents.data() + 3 * group;
    groups.add(of[0], of[1], of[2], folder + "/" + std::to_string(group));
  }
  Copied const shapes(groups.shapes);
  Copied const a(groups.a), b(groups.b);
  Copied const sfa(groups.sfa), sfb(groups.sfb);
  Copied const c(groups.c);
  Copied const d(groups.d);
  Copied const da(groups.da);
  Copied const db(groups.db);
  Copied const dc(groups.dc);
  Copied const dd(groups.dd);
  Copied const layout_sfa(groups.layout_sfa);
  Copied const layout_sfb(groups.layout_sfb);

  typename Gemm::Arguments arguments{};
  arguments.mode = cutlass::gemm::GemmUniversalMode::kGrouped;
  arguments.problem_shape = {count, shapes.data(), groups.shapes.data()};
  arguments.mainloop.ptr_A = a.data();
  arguments.mainloop.dA = da.data();
  arguments.mainloop.ptr_B = b.data();
  arguments.mainloop.dB = db.data();
  arguments.mainloop.ptr_SFA = sfa.data();
  arguments.mainloop.layout_SFA = layout_sfa.data();
  arguments.mainloop.ptr_SFB = sfb.data();
  arguments.mainloop.layout_SFB = layout_sfb.data();
  arguments.epilogue.thread.alpha = alpha;
  arguments.epilogue.thread.beta = beta;
  arguments.epilogue.ptr_C = c.data();
  arguments.epilogue.dC = dc.data();
  arguments.epilogue.ptr_D = d.data();
  arguments.epilogue.dD = dd.data();
  // The grid of this one is as large as the number of multiprocessors says.
  arguments.hw_info.sm_count = cutlass::KernelHardwareInfo::query_device_multiprocessor_count(0);

  Gemm gemm;
  check(Gemm::can_implement(arguments), "can_implement");
  Bytes workspace(Gemm::get_workspace_size(arguments));
  check(gemm.initialize(arguments, workspace.template as<void>()), "initialize");
  check(gemm.run(), "run");
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  for (int group = 0; group < count; ++group) {
    // The last one that a group allocated.
    std::size_t const each = groups.memory.size() / count;
    groups.memory[(group + 1) * each - 1]->write(folder + "/" + std::to_string(group) + "/d.bin");
  }
}

template <class Kernel>
int main_of_groups(int argc, char** argv) {
  if (argc < 7 || (argc - 4) % 3 != 0) {
    std::fprintf(stderr, "usage: %s ALPHA BETA FOLDER M N K [M N K ...]\n", argv[0]);
    return 2;
  }
  try {
    std::vector<int> extents;
    for (int at = 4; at < argc; ++at) {
      extents.push_back(std::atoi(argv[at]));
    }
    run_groups<Kernel>(static_cast<float>(std::atof(argv[1])), static_cast<float>(std::atof(argv[2])), argv[3], extents);
    return 0;
  } catch (std::exception const& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}

}  // namespace stock
