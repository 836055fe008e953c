//! An MLP on several GPUs: each has a part of the rows of gate_proj and up_proj and the same columns of down_proj, so
//! computes a y of its own; NCCL adds them up, and every GPU ends with y.
//!
//! `cargo run --release --features nccl --example 06_tensor_parallel`, with libnccl.so among the shared libraries.

use std::error::Error;
use std::sync::Arc;

use cudarc::driver::CudaStream;
use cudarc::nccl::{
    Comm, ReduceOp, group_end, group_start, result::NcclError, sys::is_culib_present,
};
use nvfp4_dual_gemm::cuda::{Device, DeviceBuffer, Stream, cudarc_context};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Engine, GemmShape, Layer, MlpWeights, Precision, Spec, bf16, oracle};

const ROWS: usize = 32;
const K: usize = 2048;
const N: usize = 4096;

/// What one GPU has.
struct Rank {
    stream: Stream,
    theirs: Arc<CudaStream>,
    layer: Layer,
    x: DeviceBuffer<bf16>,
    /// Its part of the sum, and then the sum.
    y: DeviceBuffer<f32>,
    scratch: DeviceBuffer<u8>,
}

impl Rank {
    fn new(device: &Device, weights: MlpWeights, x: &[bf16]) -> Result<Self, Box<dyn Error>> {
        let theirs = cudarc_context(device.ordinal())?.new_stream()?;
        // SAFETY: nobody captures the stream.
        let stream = unsafe { Stream::from_cudarc(&theirs) }?;
        let layer = Engine::cuda(device.ordinal())?.load(weights, &Spec::default())?;
        let scratch_bytes = layer.on_device().ok_or("no device")?.scratch_bytes(ROWS)?;
        Ok(Rank {
            x: DeviceBuffer::from_host(x, &stream)?,
            y: DeviceBuffer::alloc(ROWS * layer.out_features(), device)?,
            scratch: DeviceBuffer::zeroed(scratch_bytes, &stream)?,
            stream,
            theirs,
            layer,
        })
    }

    fn launch(&self) -> Result<(), Box<dyn Error>> {
        let plan = self.layer.on_device().ok_or("no device")?;
        plan.launch(&self.x, ROWS, &self.y, &self.scratch, &self.stream)?;
        Ok(())
    }

    fn all_reduce(&self, comm: &Comm) -> Result<(), Box<dyn Error>> {
        // SAFETY: nothing is captured.
        let mut y = unsafe { self.y.to_cudarc(&self.theirs) }?;
        comm.all_reduce_in_place(&mut y, &ReduceOp::Sum).map_err(said)?;
        Ok(())
    }
}

fn said(NcclError(code): NcclError) -> String {
    format!("NCCL: {code:?}")
}

/// Weights K → N → K with a calibrated scale of x and of h.
fn weights() -> nvfp4_dual_gemm::Result<MlpWeights> {
    let shape = |n: usize, k: usize| GemmShape { m: 1, n, k, batch: 1 };
    let Operands { b1, b2, .. } = Operands::generate(shape(N, K), Data::Contest, 1)?;
    let down = Operands::generate(shape(K, N), Data::Contest, 2)?.b1;
    let weights = MlpWeights::new(b1, b2)?.with_input_scale(1e-3)?;
    weights.with_down(down)?.with_down_input_scale(10.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let devices =
        Device::all_supported().inspect_err(|error| eprintln!("nothing to run on: {error}"))?;
    if devices.len() < 2 {
        let found = devices.len();
        return Err(format!("this takes two GPUs that kernels are built for, not {found}").into());
    }
    // SAFETY: looks for the library, and loads it if it is there.
    if !unsafe { is_culib_present() } {
        return Err("libnccl.so is not among the shared libraries".into());
    }

    let weights = weights()?;
    let x: Vec<bf16> = (0..ROWS * K).map(|i| bf16::from_f32((i as f32 * 0.37).sin())).collect();
    let mut ranks = Vec::new();
    for (i, device) in devices.iter().enumerate() {
        let part = weights.shard(i, devices.len())?;
        println!("rank {i}: {}, {} columns of h", device.name(), part.intermediate_features());
        ranks.push(Rank::new(device, part, &x)?);
    }
    let streams = ranks.iter().map(|rank| rank.theirs.clone()).collect();
    let comms = Comm::from_devices(streams).map_err(said)?;

    for rank in &ranks {
        rank.launch()?;
    }
    group_start().map_err(said)?;
    for (rank, comm) in ranks.iter().zip(&comms) {
        rank.all_reduce(comm)?;
    }
    group_end().map_err(said)?;

    // A code of h that is next to the exact one changes a whole row: rows are compared by their lengths.
    let exact: Vec<f32> = oracle::mlp(&weights, &x, ROWS, Precision::default())?;
    for (i, rank) in ranks.iter().enumerate() {
        let y = rank.y.to_vec(&rank.stream)?;
        let errors = y.chunks(K).zip(exact.chunks(K)).map(|(y, exact)| {
            let error: f32 = y.iter().zip(exact).map(|(y, exact)| (y - exact).powi(2)).sum();
            (error / exact.iter().map(|exact| exact.powi(2)).sum::<f32>()).sqrt()
        });
        let worst = errors.fold(0.0, f32::max);
        println!("rank {i}: at most {worst:.1e} of a row from exact");
        assert!(worst < 0.02);
    }
    Ok(())
}
