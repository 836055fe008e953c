//! C = silu(alpha1·A·B1ᵀ) * (alpha2·A·B2ᵀ) on several GPUs: each has its part of the rows of B1 and B2, so computes its
//! part of the columns of C; NCCL gathers the parts, and every GPU ends with all of C.
//!
//! `cargo run --release --features nccl --example 06_tensor_parallel`, with libnccl.so among the shared libraries.
//! (The layer after it, whose weights are split by columns, would take the parts as they are and add up its results.)

use std::error::Error;
use std::sync::Arc;

use cudarc::driver::CudaStream;
use cudarc::nccl::{Comm, group_end, group_start, result::NcclError, sys::is_culib_present};
use nvfp4_dual_gemm::cuda::{
    BoundPlan, Device, DeviceBuffer, DeviceMatrix, Io, Options, Plan, Stream, WeightFormat,
    Weights, cudarc_context,
};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{GemmShape, Nvfp4Matrix, f16, oracle};

const PROBLEM: GemmShape = GemmShape { m: 32, n: 4096, k: 7168, batch: 1 };

/// What one GPU has.
struct Rank {
    stream: Stream,
    theirs: Arc<CudaStream>,
    plan: BoundPlan,
    /// Its columns of C, row-major.
    part: DeviceBuffer<f16>,
    /// All parts, one after the other.
    parts: DeviceBuffer<f16>,
    c: DeviceBuffer<f16>,
}

impl Rank {
    fn new(device: &Device, b: [Nvfp4Matrix; 2], a: &Nvfp4Matrix) -> Result<Self, Box<dyn Error>> {
        let GemmShape { m, n, .. } = PROBLEM;
        let theirs = cudarc_context(device.ordinal())?.new_stream()?;
        // SAFETY: nobody captures the stream.
        let stream = unsafe { Stream::from_cudarc(&theirs) }?;
        let part = DeviceBuffer::alloc(m * b[0].rows(), device)?;
        let weights = Weights::prepare(&b[0], &b[1], WeightFormat::Separate, &stream)?;
        let a = DeviceMatrix::upload(a, &stream)?;
        let plan = Plan::new(&weights, &Options::default())?;
        let workspace = DeviceBuffer::<u8>::alloc(plan.workspace_bytes(m)?, device)?;
        let plan = plan.bind(&Io::new(&a, &part).workspace(&workspace))?;
        let parts = DeviceBuffer::alloc(m * n, device)?;
        Ok(Rank { stream, theirs, plan, part, parts, c: DeviceBuffer::alloc(m * n, device)? })
    }

    fn gather(&self, comm: &Comm) -> Result<(), Box<dyn Error>> {
        let (part, parts) = (self.part.bytes(), self.parts.bytes());
        // SAFETY: nothing is captured.
        let (part, mut parts) =
            unsafe { (part.to_cudarc(&self.theirs)?, parts.to_cudarc(&self.theirs)?) };
        comm.all_gather(&part, &mut parts).map_err(said)?;
        Ok(())
    }

    /// Makes a row-major C of the parts.
    fn interleave(&self) -> nvfp4_dual_gemm::Result<()> {
        let len = self.part.len();
        for rank in 0..self.parts.len() / len {
            let part = self.parts.slice(rank * len, len)?;
            self.c.copy_columns_from(&part, PROBLEM.m, rank * len / PROBLEM.m, &self.stream)?;
        }
        Ok(())
    }
}

/// Rows `from..from + rows` of weights: codes and scale factors of a row lie together.
fn rows(b: &Nvfp4Matrix, from: usize, rows: usize) -> nvfp4_dual_gemm::Result<Nvfp4Matrix> {
    let (codes, scales) = (b.cols() / 2, b.cols() / 16);
    Nvfp4Matrix::new(
        1,
        rows,
        b.cols(),
        b.codes()[from * codes..][..rows * codes].to_vec(),
        b.scales()[from * scales..][..rows * scales].to_vec(),
        b.global_scale(),
    )
}

fn said(NcclError(code): NcclError) -> String {
    format!("NCCL: {code:?}")
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut devices =
        Device::all_supported().inspect_err(|error| eprintln!("nothing to run on: {error}"))?;
    // As many as can have equal parts, which all_gather needs.
    while !PROBLEM.n.is_multiple_of(devices.len().max(1)) {
        devices.pop();
    }
    if devices.len() < 2 {
        let found = devices.len();
        return Err(format!("this takes two GPUs that kernels are built for, not {found}").into());
    }
    // SAFETY: looks for the library, and loads it if it is there.
    if !unsafe { is_culib_present() } {
        return Err("libnccl.so is not among the shared libraries".into());
    }

    let operands = Operands::generate(PROBLEM, Data::Full, 1)?;
    let share = PROBLEM.n / devices.len();
    let mut ranks = Vec::new();
    for (i, device) in devices.iter().enumerate() {
        let b1 = rows(&operands.b1, i * share, share)?;
        let b2 = rows(&operands.b2, i * share, share)?;
        ranks.push(Rank::new(device, [b1, b2], &operands.a)?);
        println!("rank {i}: {}, columns {}..{}", device.name(), i * share, (i + 1) * share);
    }
    let streams = ranks.iter().map(|rank| rank.theirs.clone()).collect();
    let comms = Comm::from_devices(streams).map_err(said)?;

    for rank in &ranks {
        rank.plan.launch(&rank.stream)?;
    }
    group_start().map_err(said)?;
    for (rank, comm) in ranks.iter().zip(&comms) {
        rank.gather(comm)?;
    }
    group_end().map_err(said)?;
    for rank in &ranks {
        rank.interleave()?;
    }

    let exact = oracle::exact(&operands.gemm()?)?;
    for (i, rank) in ranks.iter().enumerate() {
        let comparison = oracle::compare(&rank.c.to_vec(&rank.stream)?, &exact);
        println!(
            "rank {i}: {} values: at most {} ULP from exact, {} of them more than 1",
            comparison.count, comparison.max_ulp, comparison.beyond_one_ulp
        );
        assert!(comparison.passes());
    }
    Ok(())
}
