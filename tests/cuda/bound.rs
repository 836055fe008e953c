//! A launch with all its operands, and a workspace of its own.

use nvfp4_dual_gemm::cuda::{
    BoundPlan, DeviceBuffer, DeviceMatrix, DeviceView, Io, Options, Plan, Weights,
};
use nvfp4_dual_gemm::{Element, Result};

pub fn bound<T: Element>(
    weights: &Weights,
    a: &DeviceMatrix,
    c: &DeviceView<T>,
    options: &Options,
) -> Result<BoundPlan> {
    bound_with(weights, a, c, options, [None, None])
}

/// With scalars in device memory.
pub fn bound_with<T: Element>(
    weights: &Weights,
    a: &DeviceMatrix,
    c: &DeviceView<T>,
    options: &Options,
    [factor1, factor2]: [Option<&DeviceView<f32>>; 2],
) -> Result<BoundPlan> {
    let plan = Plan::new(weights, options)?;
    let workspace = DeviceBuffer::<u8>::alloc(plan.workspace_bytes(a.rows())?, weights.device())?;
    plan.bind(&Io::new(a, c).workspace(&workspace).factors(factor1, factor2))
}
