// f16, one SM, tiles of 64x128x64, two stages; C and D by columns. The main loop asks for the next stage before it gives
// the last one back, and with 64 rows two accumulators lie in the same columns of tensor memory, 16 lanes apart.
#include "gemm.hpp"

namespace {

using namespace cute;
using Half = cutlass::half_t;
using Tile = Shape<_64, _128, _64>;
using Cluster = Shape<_1, _1, _1>;

using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
    cutlass::arch::Sm100, cutlass::arch::OpClassTensorOp, Tile, Cluster,
    cutlass::epilogue::collective::EpilogueTileAuto, float, float, Half, cutlass::layout::ColumnMajor, 8, Half,
    cutlass::layout::ColumnMajor, 8, cutlass::epilogue::collective::EpilogueScheduleAuto>::CollectiveOp;
using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm100, cutlass::arch::OpClassTensorOp, Half, cutlass::layout::ColumnMajor, 8, Half,
    cutlass::layout::RowMajor, 8, float, Tile, Cluster, cutlass::gemm::collective::StageCount<2>,
    cutlass::gemm::KernelTmaWarpSpecialized1SmSm100>::CollectiveOp;
using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Mainloop, Epilogue, void>;

}  // namespace

int main(int argc, char** argv) { return stock::main<Kernel>(argc, argv); }
