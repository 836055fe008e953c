// NVFP4, one SM, tiles of 128x128x256; C and D of f16. Groups of any sizes: the kernel makes the tensor maps of each
// with `tensormap.replace`.
#include "grouped.hpp"

namespace {

using namespace cute;
using Operand = cutlass::nv_float4_t<cutlass::float_e2m1_t>;
using Half = cutlass::half_t;
using Tile = Shape<_128, _128, _256>;
using Cluster = Shape<_1, _1, _1>;

using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
    cutlass::arch::Sm100, cutlass::arch::OpClassBlockScaledTensorOp, Tile, Cluster,
    cutlass::epilogue::collective::EpilogueTileAuto, float, float, Half, cutlass::layout::RowMajor*, 8, Half,
    cutlass::layout::RowMajor*, 8, cutlass::epilogue::PtrArrayTmaWarpSpecialized1Sm>::CollectiveOp;
using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    cutlass::arch::Sm100, cutlass::arch::OpClassBlockScaledTensorOp, Operand, cutlass::layout::RowMajor*, 32, Operand,
    cutlass::layout::ColumnMajor*, 32, float, Tile, Cluster,
    cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
    cutlass::gemm::KernelPtrArrayTmaWarpSpecialized1SmNvf4Sm100>::CollectiveOp;
using Kernel = cutlass::gemm::kernel::GemmUniversal<cutlass::gemm::GroupProblemShape<Shape<int, int, int>>, Mainloop,
                                                    Epilogue>;

}  // namespace

int main(int argc, char** argv) { return stock::main_of_groups<Kernel>(argc, argv); }
