//! Two layers of different weights in one CUDA graph, replayed on new activations.
//!
//! `cargo run --release --features cuda --example 05_cuda_graph`

use nvfp4_dual_gemm::cuda::{
    Device, DeviceBuffer, DeviceMatrix, Graph, Io, Options, Plan, Stream, WeightFormat, Weights,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{GemmShape, Result, f16, oracle};

fn main() -> Result<()> {
    let device =
        Device::first_supported().inspect_err(|error| eprintln!("nothing to run on: {error}"))?;
    let stream = Stream::new(&device)?;
    let problem = GemmShape { m: 8, n: 512, k: 1024, batch: 1 };
    let layers =
        [Operands::generate(problem, Data::Full, 1)?, Operands::generate(problem, Data::Full, 2)?];

    // Both layers read the same activations, whose memory stays in place.
    let a = DeviceMatrix::upload(&layers[0].a, &stream)?;
    let c = [
        DeviceBuffer::<f16>::alloc(8 * 512, &device)?,
        DeviceBuffer::<f16>::alloc(8 * 512, &device)?,
    ];
    let mut plans = Vec::new();
    for (layer, c) in layers.iter().zip(&c) {
        let weights = Weights::prepare(&layer.b1, &layer.b2, WeightFormat::Separate, &stream)?;
        let plan = Plan::new(&weights, &Options::default())?;
        let workspace = DeviceBuffer::<u8>::alloc(plan.workspace_bytes(8)?, &device)?;
        plans.push(plan.bind(&Io::new(&a, c).workspace(&workspace))?);
    }

    // Recorded, not run. The graph holds all that it uses.
    let graph =
        Graph::capture(&stream, |stream| plans.iter().try_for_each(|plan| plan.launch(stream)))?;
    drop(plans);

    for activations in [&layers[0].a, &layers[1].a] {
        let fresh = DeviceMatrix::upload(activations, &stream)?;
        a.codes().copy_from(fresh.codes(), &stream)?;
        a.scales().copy_from(fresh.scales(), &stream)?;
        graph.launch(&stream)?;
        for (layer, c) in layers.iter().zip(&c) {
            // The global scale is of the plan: that of the first activations.
            let (codes, scales) = (activations.codes().to_vec(), activations.scales().to_vec());
            let global = layers[0].a.global_scale();
            let a = nvfp4_dual_gemm::Nvfp4Matrix::new(1, 8, 1024, codes, scales, global)?;
            let gemm = nvfp4_dual_gemm::DualGemm::new(&a, &layer.b1, &layer.b2)?;
            assert!(oracle::compare(&c.to_vec(&stream)?, &oracle::exact(&gemm)?).passes());
        }
    }
    println!("two replays of two layers agree with the oracle");
    Ok(())
}
