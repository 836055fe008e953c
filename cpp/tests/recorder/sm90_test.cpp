// What the host code asks of TMA and of the runtime for the kernels of Hopper, from the definition of the operands and
// the rows of the table alone.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "expectation.hpp"

using namespace nvfp4;
using namespace nvfp4::test;

namespace {

struct Row {
  char const* kernel;
  int tokens, columns, k, slices;

  // Tiles of eight tokens keep those of all their K. Others read them from a workspace, as fp16.
  bool resident() const { return tokens == 8; }
};

constexpr Row kRows[] = {
#define X(symbol, tile_m, tile_n, tile_k, slices, activations) {#symbol, tile_m, tile_n, tile_k, slices},
#include "registry/sm90.def"
};

constexpr std::uint64_t kGroup = 64;  // K of an atom of scales, and of a row of 128 bytes of fp16
constexpr int kResidentK = 4096;      // of one CTA
constexpr int kMostCtas = 8;          // of a portable cluster
constexpr int kWorkspace = kC + 1;

constexpr GemmShape kShapes[] = {
    {256, 4096, 7168, 1}, {1, 4096, 7168, 1},  {512, 3072, 7168, 1}, {256, 1, 256, 1},   {128, 128, 32, 1},
    {300, 1000, 992, 1},  {77, 131, 96, 1},    {200, 250, 288, 5},   {9, 97, 32768, 2},  {128, 40000, 262144, 3},
    {16, 64, 512, 1},     {70000, 64, 160, 1}, {8, 192, 4128, 1},
};

// An H100 while it lives.
class Hopper {
 public:
  Hopper() : saved_(recorder::device()) {
    recorder::device().compute_capability = 90;
    recorder::device().sm_count = 132;
  }
  ~Hopper() { recorder::device() = saved_; }

 private:
  recorder::Device const saved_;
};

std::uint64_t extent(int value) { return static_cast<std::uint64_t>(value); }

KernelInfo const& info_of(Row const& row) { return *find_kernel(row.kernel); }

Io io_for(Row const& row, int rows) {
  Io io = symbolic_io(rows);
  io.workspace = row.resident() ? nullptr : at(kWorkspace);
  io.workspace_bytes = row.resident() ? 0 : std::size_t{1} << 43;
  return io;
}

Plan plan_for(Row const& row, GemmShape const& shape) { return prepare(info_of(row), shape); }

bool possible(Row const& row, GemmShape const& shape) {
  return !row.resident() || shape.k <= kMostCtas * kResidentK;
}

// Calls check(row, shape) for every kernel and every shape that it takes.
template <class Check>
void for_each(Check const& check) {
  Hopper const hopper;
  for (Row const& row : kRows) {
    INFO(std::string(info_of(row).name));
    for (GemmShape const& shape : kShapes) {
      INFO("M = " << shape.m << ", N = " << shape.n << ", K = " << shape.k << ", batch = " << shape.batch);
      if (possible(row, shape)) {
        check(row, shape);
      }
    }
  }
}

constexpr std::size_t kWidenParameterBytes = 40;

std::vector<recorder::Launch> launches_of(Row const& row, Plan const& plan, Io const& io) {
  std::size_t const before = recorder::launches().size();
  recorder::parameter_bytes() = static_cast<std::size_t>(info_of(row).params_bytes);
  recorder::prologue_parameter_bytes() = kWidenParameterBytes;
  plan.launch(io, nullptr);
  std::vector<recorder::Launch> const all(recorder::launches().begin() + static_cast<std::ptrdiff_t>(before),
                                          recorder::launches().end());
  REQUIRE(all.size() == (row.resident() ? 1 : 2));
  return all;
}

std::vector<recorder::Launch> launches_of(Row const& row, Plan const& plan, int rows) {
  return launches_of(row, plan, io_for(row, rows));
}

bool programmatic(recorder::Launch const& launch) {
  auto const* const attribute = launch.attribute(cudaLaunchAttributeProgrammaticStreamSerialization);
  return attribute != nullptr && attribute->val.programmaticStreamSerializationAllowed == 1;
}

void check_extent(dim3 const& actual, std::uint64_t x, std::uint64_t y, std::uint64_t z) {
  CHECK(actual.x == x);
  CHECK(actual.y == y);
  CHECK(actual.z == z);
}

// Atoms of 128 rows that a tile of columns reaches into, wherever it is.
std::uint32_t scale_atoms(Row const& row) {
  int most = 0;
  for (int first = 0; first < row.columns * NVFP4_SCALE_ATOM_ROWS; first += row.columns) {
    int const last = first + row.columns - 1;
    most = std::max(most, last / NVFP4_SCALE_ATOM_ROWS - first / NVFP4_SCALE_ATOM_ROWS + 1);
  }
  return static_cast<std::uint32_t>(most);
}

// Rows of a box are swizzled over their own length; those of 32 bytes are not.
CUtensorMapSwizzle swizzle_of(std::uint64_t row_bytes) {
  switch (row_bytes) {
    case 32: return CU_TENSOR_MAP_SWIZZLE_NONE;
    case 64: return CU_TENSOR_MAP_SWIZZLE_64B;
    case 128: return CU_TENSOR_MAP_SWIZZLE_128B;
    default: FAIL("a box with rows of " << row_bytes << " bytes"); return CU_TENSOR_MAP_SWIZZLE_NONE;
  }
}

recorder::TensorMap rank3(CUtensorMapDataType type, int operand, std::vector<std::uint64_t> dim,
                          std::uint64_t row_bytes, std::vector<std::uint32_t> box, CUtensorMapSwizzle swizzle) {
  std::uint64_t const rows = dim[1];
  return {type,
          address_of(operand),
          std::move(dim),
          {row_bytes, rows * row_bytes},
          std::move(box),
          {1, 1, 1},
          CU_TENSOR_MAP_INTERLEAVE_NONE,
          swizzle,
          CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
          CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE};
}

// In the order of their places in the parameter: A as fp16, codes of the gate and of the up projection, their scales.
std::vector<recorder::TensorMap> expected_maps(Row const& row, GemmShape const& shape) {
  std::uint64_t const m = extent(shape.m), n = extent(shape.n), k = extent(shape.k),
                      batch = extent(shape.batch), groups = ceil_div(k, kGroup);
  auto const tile_k = static_cast<std::uint32_t>(row.k);
  std::vector<recorder::TensorMap> maps;
  if (!row.resident()) {
    // K ends with a whole group, of zeros where A has ended.
    maps.push_back(rank3(CU_TENSOR_MAP_DATA_TYPE_FLOAT16, kWorkspace, {groups * kGroup, m, batch}, groups * kGroup * 2,
                         {kGroup, static_cast<std::uint32_t>(row.tokens), 1}, CU_TENSOR_MAP_SWIZZLE_128B));
  }
  for (Operand const operand : {kB1, kB2}) {
    maps.push_back(rank3(CU_TENSOR_MAP_DATA_TYPE_UINT8, operand, {k / 2, n, batch}, k / 2,
                         {tile_k / 2, static_cast<std::uint32_t>(row.columns), 1}, swizzle_of(tile_k / 2)));
  }
  // Whole atoms along K are contiguous: 64 words of 8 bytes each, as a box has at most 256 elements along a dimension.
  constexpr std::uint64_t kWords = NVFP4_SCALE_ATOM_BYTES / sizeof(std::int64_t);
  for (Operand const operand : {kSFB1, kSFB2}) {
    maps.push_back(rank3(CU_TENSOR_MAP_DATA_TYPE_INT64, operand,
                         {groups * kWords, ceil_div(n, NVFP4_SCALE_ATOM_ROWS), batch},
                         groups * NVFP4_SCALE_ATOM_BYTES,
                         {static_cast<std::uint32_t>(tile_k / kGroup * kWords), scale_atoms(row), 1},
                         CU_TENSOR_MAP_SWIZZLE_NONE));
  }
  return maps;
}

std::uint64_t bytes_of_box(recorder::TensorMap const& map) {
  std::uint64_t bytes = map.data_type == CU_TENSOR_MAP_DATA_TYPE_INT64 ? 8
                        : map.data_type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16 ? 2
                                                                           : 1;
  for (std::uint32_t const elements : map.box_dim) {
    bytes *= elements;
  }
  return bytes;
}

}  // namespace

TEST_CASE("Hopper: tensor maps are those of the definition") {
  for_each([](Row const& row, GemmShape const& shape) {
    recorder::reset();
    auto const plan = plan_for(row, shape);
    CHECK(recorder::tensor_maps().size() == 4);  // of the weights
    auto const launch = launches_of(row, plan, shape.m).back();
    auto const found = recorder::find_tensor_maps(launch.parameter);
    auto const expected = expected_maps(row, shape);
    REQUIRE(found.size() == expected.size());
    CHECK(recorder::tensor_maps().size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      CHECK(words(recorder::tensor_maps().at(found[i].index)) == words(expected[i]));
      CHECK(found[i].offset % recorder::kTensorMapAlignment == 0);
    }
  });
}

TEST_CASE("Hopper: what TMA may be asked for") {
  // The rules of cuTensorMapEncodeTiled in the CUDA driver API's manual.
  for_each([](Row const& row, GemmShape const& shape) {
    for (recorder::TensorMap const& map : expected_maps(row, shape)) {
      INFO(words(map));
      std::uint64_t const inner = bytes_of_box(map) / (map.box_dim[1] * map.box_dim[2]);
      CHECK(inner % 16 == 0);
      CHECK((map.swizzle != CU_TENSOR_MAP_SWIZZLE_128B || inner <= 128));
      CHECK((map.swizzle != CU_TENSOR_MAP_SWIZZLE_64B || inner <= 64));
      for (std::uint32_t const elements : map.box_dim) {
        CHECK(elements >= 1);
        CHECK(elements <= 256);
      }
      for (std::uint64_t const elements : map.global_dim) {
        CHECK(elements >= 1);
        CHECK(elements <= std::uint64_t{1} << 32);
      }
      for (std::uint64_t const stride : map.global_strides) {
        CHECK(stride % 16 == 0);
        CHECK(stride < std::uint64_t{1} << 40);
      }
    }
  });
}

TEST_CASE("Hopper: a stage holds what its barriers expect") {
  Hopper const hopper;
  for (Row const& row : kRows) {
    KernelInfo const& info = info_of(row);
    INFO(std::string(info.name));
    std::uint64_t stage = 0;
    for (recorder::TensorMap const& map : expected_maps(row, {512, 1024, 1024, 1})) {
      // A box of tokens is one group of K, one of the others all of a tile.
      bool const tokens = map.data_type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
      stage += bytes_of_box(map) * (tokens ? extent(row.k) / kGroup : 1);
    }
    std::uint64_t const tile_k = extent(row.k), columns = extent(row.columns);
    std::uint64_t const tokens = row.resident() ? 0 : extent(row.tokens) * tile_k * 2;
    std::uint64_t const weights =
        2 * (columns * tile_k / 2 + scale_atoms(row) * NVFP4_SCALE_ATOM_ROWS * tile_k / NVFP4_SCALE_BLOCK);
    CHECK(stage == tokens + weights);
    CHECK(stage < (1 << 20));  // as far as a barrier counts bytes
    // Eight tokens of all their K, and what the epilogue has of its own, beside the stages.
    std::uint64_t const beside = row.resident() ? extent(row.tokens) * kResidentK * 2 : 0;
    CHECK(extent(info.smem_bytes) >= extent(info.stages) * stage + beside);
    CHECK(info.smem_bytes <= NVFP4_SM90_SMEM_BYTES);
    CHECK(info.params_bytes % 64 == 0);
    CHECK(info.params_bytes <= 4096);
  }
}

TEST_CASE("Hopper: a cluster has one tile of C") {
  for_each([](Row const& row, GemmShape const& shape) {
    KernelInfo const& info = info_of(row);
    recorder::reset();
    auto const plan = plan_for(row, shape);
    recorder::Launch const launch = launches_of(row, plan, shape.m).back();
    CHECK(launch.function == std::string("nvfp4_") + info.name);
    CHECK(launch.smem_bytes == static_cast<std::size_t>(info.smem_bytes));
    // A warpgroup for each 32 columns and slice of K, and one that loads.
    check_extent(launch.block, 128 * (1 + extent(row.columns) / 32 * extent(row.slices)), 1, 1);
    CHECK(launch.block.x == static_cast<unsigned>(info.threads));

    auto const* const attribute = launch.attribute(cudaLaunchAttributeClusterDimension);
    REQUIRE(attribute != nullptr);
    auto const& cluster = attribute->val.clusterDim;
    check_extent({cluster.x, cluster.y, cluster.z}, cluster.x, 1, 1);
    REQUIRE(cluster.x >= 1);
    CHECK(cluster.x <= static_cast<unsigned>(kMostCtas));
    // Each CTA has some of K, and no more than it can keep.
    std::uint64_t const k_tiles = ceil_div(extent(shape.k), extent(row.k));
    CHECK(cluster.x <= k_tiles);
    if (row.resident()) {
      CHECK(ceil_div(k_tiles, cluster.x) * extent(row.k) <= kResidentK);
    }
    std::uint64_t const tiles = ceil_div(extent(shape.m), extent(row.tokens)) *
                                ceil_div(extent(shape.n), extent(row.columns)) * extent(shape.batch);
    check_extent(launch.grid, tiles * cluster.x, 1, 1);
    for (LaunchShape const& told : {plan.launch_shape(shape.m), plan.bind(io_for(row, shape.m)).launch_shape()}) {
      check_extent(launch.grid, told.grid[0], told.grid[1], told.grid[2]);
      check_extent(launch.block, told.block[0], told.block[1], told.block[2]);
      check_extent({cluster.x, cluster.y, cluster.z}, told.cluster[0], told.cluster[1], told.cluster[2]);
      CHECK(told.smem_bytes == launch.smem_bytes);
    }
  });
}

TEST_CASE("Hopper: more K than a cluster keeps of eight tokens is refused") {
  Hopper const hopper;
  Row const& row = *std::find_if(std::begin(kRows), std::end(kRows), [](Row const& r) { return r.resident(); });
  GemmShape const most{8, 64, kMostCtas * kResidentK, 1};
  CHECK(plan_for(row, most).launch_shape(8).cluster[0] == kMostCtas);
  for (GemmShape const& shape : kShapes) {
    if (possible(row, shape)) {
      continue;
    }
    try {
      plan_for(row, shape);
      FAIL_CHECK("K = " << shape.k << " was taken");
    } catch (Error const& error) {
      CHECK(error.status() == NVFP4_STATUS_INVALID_ARGUMENT);
      CHECK(std::string(error.what()).find("k = " + std::to_string(shape.k)) != std::string::npos);
    }
  }
}

TEST_CASE("Hopper: the kernel ahead widens all of A into the workspace") {
  // As kernels/sm90/widen_tokens.hpp takes it.
  struct Parameter {
    std::uint64_t codes, scales;
    std::int32_t row_bytes, groups;
    std::uint64_t tokens;
    std::int32_t rows, padding;
  };
  constexpr std::uint64_t kThreads = 256, kThreadsOfGroup = 4, kMostRows = 65535;
  for_each([&](Row const& row, GemmShape const& shape) {
    std::uint64_t const groups = ceil_div(extent(shape.k), kGroup);
    std::uint64_t const bytes = extent(shape.batch) * extent(shape.m) * groups * kGroup * 2;
    recorder::reset();
    auto const plan = plan_for(row, shape);
    CHECK(plan.workspace_size(shape.m) == (row.resident() ? 0 : bytes));
    auto const launches = launches_of(row, plan, shape.m);
    if (row.resident()) {
      return;
    }
    recorder::Launch const& launch = launches.front();
    CHECK(launch.function.find("widen_tokens") != std::string::npos);
    check_extent(launch.block, kThreads, 1, 1);
    // Rows beyond the most of a grid are taken in turns.
    check_extent(launch.grid, ceil_div(groups * kThreadsOfGroup, kThreads),
                 std::min<std::uint64_t>(extent(shape.m), kMostRows), extent(shape.batch));
    CHECK(launch.smem_bytes == 0);
    auto const* const cluster = launch.attribute(cudaLaunchAttributeClusterDimension);
    if (cluster != nullptr) {
      check_extent({cluster->val.clusterDim.x, cluster->val.clusterDim.y, cluster->val.clusterDim.z}, 1, 1, 1);
    }
    static_assert(sizeof(Parameter) == kWidenParameterBytes);
    REQUIRE(launch.parameter.size() == sizeof(Parameter));
    Parameter parameter{};
    std::memcpy(&parameter, launch.parameter.data(), sizeof(parameter));
    CHECK(parameter.codes == address_of(kA));
    CHECK(parameter.scales == address_of(kSFA));
    CHECK(parameter.row_bytes == shape.k / 2);
    CHECK(extent(parameter.groups) == groups);
    CHECK(parameter.tokens == address_of(kWorkspace));
    CHECK(parameter.rows == shape.m);
  });
}

TEST_CASE("Hopper: the kernel begins under the one that widens A, and that under another only where asked for") {
  Hopper const hopper;
  for (Row const& row : kRows) {
    INFO(std::string(info_of(row).name));
    for (int const asked : {0, 1}) {
      Spec spec = spec_for(info_of(row), {256, 512, 512, 1});
      spec.programmatic_launch = asked;
      recorder::reset();
      auto const launches = launches_of(row, Plan::prepare(spec, symbolic_weights(spec.weights)), 256);
      CHECK(programmatic(launches.front()) == (asked == 1));
      CHECK(programmatic(launches.back()) == (asked == 1 || !row.resident()));
    }
  }
}

TEST_CASE("Hopper: prepare() sets the kernel's shared memory, launch() encodes the workspace, launches, and no more") {
  Hopper const hopper;
  for (Row const& row : kRows) {
    KernelInfo const& info = info_of(row);
    INFO(std::string(info.name));
    recorder::reset();
    auto const plan = plan_for(row, {300, 1000, 992, 2});
    CHECK(recorder::launches().empty());
    // The kernel, and the one that widens A.
    auto const& loaded = recorder::loaded_functions();
    REQUIRE(loaded.size() == (row.resident() ? 1 : 2));
    CHECK(loaded.front() == std::string("nvfp4_") + info.name);
    if (!row.resident()) {
      CHECK(loaded.back().find("widen_tokens") != std::string::npos);
    }
    bool large = false;
    for (recorder::FunctionAttribute const& set : recorder::function_attributes()) {
      bool const memory = set.attribute == cudaFuncAttributeMaxDynamicSharedMemorySize &&
                          set.function == std::string("nvfp4_") + info.name;
      large |= memory && set.value == info.smem_bytes;
    }
    CHECK(large);
    auto const bound = plan.bind(io_for(row, 300));
    for (bool const is_bound : {false, true}) {
      recorder::reset();
      for (int i = 0; i < 2; ++i) {
        if (is_bound) {
          bound.launch(nullptr);
        } else {
          launches_of(row, plan, 300);
        }
      }
      auto counts = counted_calls();
      CHECK(counts["cudaLaunchKernelExC"] == (row.resident() ? 2 : 4));
      CHECK(counts["cuTensorMapEncodeTiled"] == (row.resident() || is_bound ? 0 : 2));
      CHECK(counts["cudaGetDevice"] <= 2);  // to be on the plan's device, which it is already
      for (char const* const known : {"cudaLaunchKernelExC", "cuTensorMapEncodeTiled", "cudaGetDevice"}) {
        counts.erase(known);
      }
      for (auto const& [name, count] : counts) {
        FAIL_CHECK("launch() calls " << name << " " << count << " times");
      }
    }
  }
}

TEST_CASE("Hopper: a plan for any rows launches the selection's kernel, and asks nothing for it") {
  Hopper const hopper;
  Spec any = spec_for(info_of(kRows[0]), {1, 4096, 7168, 1});
  any.kernel = nullptr;
  auto const plan = Plan::prepare(any, symbolic_weights(any.weights));
  recorder::reset();
  int launches = 0, encoded = 0;
  for (int const rows : {1, 8, 9, 16, 17, 33, 64, 65, 129, 256, 257, 512, 5000}) {
    CAPTURE(rows);
    Io io = symbolic_io(rows);
    io.workspace_bytes = plan.workspace_size(rows);
    io.workspace = io.workspace_bytes == 0 ? nullptr : at(kWorkspace);
    CHECK((io.workspace_bytes == 0) == (plan.kernel(rows).tile_m == 8));
    plan.launch(io, nullptr);
    CHECK(recorder::launches().back().function == std::string("nvfp4_") + plan.kernel(rows).name);
    encoded += io.workspace_bytes != 0;
    launches += 1 + (io.workspace_bytes != 0);
  }
  auto counts = counted_calls();
  CHECK(counts["cudaLaunchKernelExC"] == launches);
  CHECK(counts["cuTensorMapEncodeTiled"] == encoded);
  CHECK(counts["cudaGetDevice"] <= launches);
  CHECK(counts.size() == 3);
}

TEST_CASE("Hopper: a launch has its own A, and the weights of its plan") {
  Hopper const hopper;
  for (Row const& row : kRows) {
    INFO(std::string(info_of(row).name));
    GemmShape const shape{300, 1000, 992, 2};
    recorder::reset();
    Weights weights = symbolic_weights(NVFP4_WEIGHTS_SEPARATE);
    weights.b2_scales = static_cast<std::uint8_t const*>(weights.b2_scales) + 8192;
    auto const plan = Plan::prepare(spec_for(info_of(row), shape), weights);
    for (int const moved : {0, 4096}) {
      Io io = io_for(row, shape.m);
      io.a_codes = static_cast<std::uint8_t const*>(io.a_codes) + moved;
      auto const launches = launches_of(row, plan, io);
      auto const found = recorder::find_tensor_maps(launches.back().parameter);
      auto const expected = expected_maps(row, shape);
      REQUIRE(found.size() == expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        recorder::TensorMap wanted = expected[i];
        wanted.address += wanted.address == address_of(kSFB2) ? 8192 : 0;
        CHECK(words(recorder::tensor_maps().at(found[i].index)) == words(wanted));
        CHECK((found[i].index < 4) == (wanted.address != address_of(kWorkspace)));
      }
      if (!row.resident()) {
        std::uint64_t codes = 0;
        std::memcpy(&codes, launches.front().parameter.data(), sizeof(codes));
        CHECK(codes == address_of(kA) + static_cast<std::uint64_t>(moved));
      }
    }
  }
}

TEST_CASE("Hopper: drivers up to 13.1 do not read beyond small tensors") {
  Hopper const hopper;
  for (int const driver : {13000, 13020}) {
    recorder::device().driver_version = driver;
    recorder::reset();
    Row const& row = kRows[0];
    for (recorder::StampedMap const& place :
         recorder::find_tensor_maps(launches_of(row, plan_for(row, {16, 64, 512, 1}), 16).back().parameter)) {
      CHECK(place.small_tensor_bit == (driver > 13010));
    }
  }
}
