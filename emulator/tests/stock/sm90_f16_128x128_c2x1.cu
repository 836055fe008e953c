// f16 on Hopper, tiles of 128x128x64, clusters of 2; f16 in and out. With -DSTOCK_F32 D is f32 and there is no C: the
// accumulators themselves.
#include "gemm.hpp"

namespace {

using namespace cute;
using Half = cutlass::half_t;
using Tile = Shape<_128, _128, _64>;
using Cluster = Shape<_2, _1, _1>;
#ifdef STOCK_F32
using ElementC = void;
using ElementD = float;
#else
using ElementC = Half;
using ElementD = Half;
#endif

using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster,
    cutlass::epilogue::collective::EpilogueTileAuto, float, float, ElementC, cutlass::layout::RowMajor, 8, ElementD,
    cutlass::layout::RowMajor, 8, cutlass::epilogue::TmaWarpSpecializedCooperative>::CollectiveOp;
using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Half, cutlass::layout::RowMajor, 8, Half,
    cutlass::layout::ColumnMajor, 8, float, Tile, Cluster,
    cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
    cutlass::gemm::KernelTmaWarpSpecializedCooperative>::CollectiveOp;
using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Mainloop, Epilogue, void>;

}  // namespace

int main(int argc, char** argv) { return stock::main<Kernel>(argc, argv); }
