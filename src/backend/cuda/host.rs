//! The dual GEMM of host operands: copied to a device, run, copied back.

use super::buffer::DeviceBuffer;
use super::device::Device;
use super::gemm::{DualGemm, Options};
use super::kernel::{Kernel, KernelInfo};
use super::matrix::DeviceMatrix;
use super::stream::Stream;
use super::weights::{WeightFormat, Weights};
use crate::element::Element;
use crate::error::{Operand, Result};

/// A dual GEMM of host operands whose copies are on a device, so that it can run several times.
#[derive(Debug)]
pub struct OnDevice<T> {
    stream: Stream,
    c: DeviceBuffer<T>,
    plan: DualGemm,
}

impl<T: Element> OnDevice<T> {
    /// Copies the operands of `gemm` to `device` and prepares the launch. `kernel` replaces the one that the shape
    /// gets; weights are packed as it wants them.
    ///
    /// # Errors
    /// Those of [`DualGemm::prepare`] and [`Weights::prepare`].
    pub fn new(
        gemm: &crate::DualGemm<'_>,
        device: &Device,
        kernel: Option<Kernel>,
    ) -> Result<Self> {
        let stream = Stream::new(device)?;
        let format = kernel.map_or(WeightFormat::Separate, |kernel| kernel.info().weights);
        let a = DeviceMatrix::upload(gemm.a(), &stream).map_err(|e| e.with_operand(Operand::A))?;
        let weights = Weights::prepare(gemm.b1(), gemm.b2(), format, &stream)?;
        let problem = gemm.problem();
        let c = DeviceBuffer::alloc(problem.batch * problem.m * problem.n, device)?;
        let options = Options { gate: gemm.gate(), kernel, ..Options::default() };
        let plan = DualGemm::prepare(&weights, &a, &c, &options)?;
        Ok(OnDevice { stream, c, plan })
    }

    /// The kernel that runs.
    pub fn kernel(&self) -> KernelInfo {
        self.plan.kernel()
    }

    /// Runs once, and waits.
    ///
    /// # Errors
    /// [`Error::CudaCall`](crate::Error::CudaCall).
    pub fn run(&self) -> Result<()> {
        self.plan.launch(&self.stream)?;
        self.stream.synchronize()
    }

    /// Copies C \[batch, M, N\] to the host.
    ///
    /// # Errors
    /// [`Error::CudaLength`](crate::Error::CudaLength), [`Error::CudaCall`](crate::Error::CudaCall).
    pub fn download(&self, c: &mut [T]) -> Result<()> {
        self.c.download(c, &self.stream)
    }
}

/// Runs `gemm` on the first device that has a kernel, or on `kernel` there.
///
/// # Errors
/// Those of [`Device::first_supported`], [`OnDevice::new`] and [`DualGemm::launch`];
/// [`Error::Length`](crate::Error::Length).
pub fn run<T: Element>(
    gemm: &crate::DualGemm<'_>,
    kernel: Option<Kernel>,
    c: &mut [T],
) -> Result<()> {
    gemm.check_c(c.len())?;
    let on_device = OnDevice::new(gemm, &Device::first_supported()?, kernel)?;
    on_device.run()?;
    on_device.download(c)
}
