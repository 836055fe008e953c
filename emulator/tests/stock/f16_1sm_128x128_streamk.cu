// f16, one SM, tiles of 128x128x64; C and D by columns. Thread blocks share tiles along K: stream-K, or a number of
// splits. Partial sums and the flags that guard them lie in global memory.
#include "gemm.hpp"

namespace {

using namespace cute;
using Half = cutlass::half_t;
using Tile = Shape<_128, _128, _64>;
using Cluster = Shape<_1, _1, _1>;

using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
    cutlass::arch::Sm100, cutlass::arch::OpClassTensorOp, Tile, Cluster,
    cutlass::epilogue::collective::EpilogueTileAuto, float, float, Half, cutlass::layout::ColumnMajor, 8, Half,
    cutlass::layout::ColumnMajor, 8, cutlass::epilogue::collective::EpilogueScheduleAuto>::CollectiveOp;
using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm100, cutlass::arch::OpClassTensorOp, Half, cutlass::layout::ColumnMajor, 8, Half,
    cutlass::layout::RowMajor, 8, float, Tile, Cluster,
    cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
    cutlass::gemm::KernelTmaWarpSpecialized1SmSm100>::CollectiveOp;
using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Mainloop, Epilogue,
                                                    cutlass::gemm::StreamKScheduler>;

}  // namespace

int main(int argc, char** argv) { return stock::main<Kernel>(argc, argv); }
