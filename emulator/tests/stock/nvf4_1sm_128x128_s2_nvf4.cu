// NVFP4, one SM, tiles of 128x128x256, two stages; NVFP4 out, with a scale for every 16 of a row.
#include "gemm.hpp"

namespace {

using namespace cute;
using Operand = cutlass::nv_float4_t<cutlass::float_e2m1_t>;
using Tile = Shape<_128, _128, _256>;
using Cluster = Shape<_1, _1, _1>;
using Code = cutlass::float_e2m1_t;
using Fusion = cutlass::epilogue::fusion::LinCombBlockScaleFactor<16, Code, float, cutlass::float_ue4m3_t,
                                                                  cutlass::layout::RowMajor, void>;

using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
    cutlass::arch::Sm100, cutlass::arch::OpClassBlockScaledTensorOp, Tile, Cluster,
    cutlass::epilogue::collective::EpilogueTileAuto, float, float, void, cutlass::layout::RowMajor, 32, Code,
    cutlass::layout::RowMajor, 32, cutlass::epilogue::collective::EpilogueScheduleAuto, Fusion>::CollectiveOp;
using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm100, cutlass::arch::OpClassBlockScaledTensorOp, Operand, cutlass::layout::RowMajor, 32, Operand,
    cutlass::layout::ColumnMajor, 32, float, Tile, Cluster, cutlass::gemm::collective::StageCount<2>,
    cutlass::gemm::KernelTmaWarpSpecialized1SmNvf4Sm100>::CollectiveOp;
using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Mainloop, Epilogue, void>;

}  // namespace

int main(int argc, char** argv) { return stock::main<Kernel>(argc, argv); }
