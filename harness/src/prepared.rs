//! A dual GEMM with its operands where an engine wants them: what `verify` and `bench` time.

use std::marker::PhantomData;

#[cfg(feature = "cuda")]
use anyhow::bail;

#[cfg(feature = "cuda")]
use nvfp4_dual_gemm::cuda::{
    BoundPlan, Device, DeviceBuffer, DeviceMatrix, Io, Options, Plan, Stream, Weights,
};
use nvfp4_dual_gemm::{DualGemm, Element, Engine, Result};

/// An engine with the operands where it wants them.
pub struct Prepared<'a, T> {
    engine: &'a Engine,
    gemm: &'a DualGemm<'a>,
    /// Copies, where the engine is a device.
    #[cfg(feature = "cuda")]
    on_device: Option<OnDevice<T>>,
    element: PhantomData<T>,
}

impl<'a, T: Element> Prepared<'a, T> {
    /// Gets ready to run `gemm`: for a device, operands are copied to it.
    ///
    /// # Errors
    /// Those of the device.
    pub fn new(engine: &'a Engine, gemm: &'a DualGemm<'a>) -> Result<Self> {
        Ok(Prepared {
            engine,
            gemm,
            #[cfg(feature = "cuda")]
            on_device: match engine.device() {
                Some(device) => Some(OnDevice::new(engine, device, gemm)?),
                None => None,
            },
            element: PhantomData,
        })
    }

    /// Computes C: what is timed. For a device it stays there, copies are not part of it.
    ///
    /// # Errors
    /// Those of [`Engine::run_into`].
    pub fn run(&self, c: &mut [T]) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(on_device) = &self.on_device {
            return on_device.run();
        }
        self.engine.run_into(self.gemm, c)
    }

    /// Brings C to the host after the last run.
    ///
    /// # Errors
    /// Those of the device.
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
    pub fn fetch(&self, c: &mut [T]) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(on_device) = &self.on_device {
            return on_device.c.download(c, &on_device.stream);
        }
        Ok(())
    }
}

/// Copies of the operands, and a launch.
#[cfg(feature = "cuda")]
struct OnDevice<T> {
    stream: Stream,
    c: DeviceBuffer<T>,
    plan: BoundPlan,
}

#[cfg(feature = "cuda")]
impl<T: Element> OnDevice<T> {
    fn new(engine: &Engine, device: &Device, gemm: &DualGemm<'_>) -> Result<Self> {
        let stream = Stream::new(device)?;
        let options = Options::default().glu(gemm.glu()).kernel(engine.kernel());
        let a = DeviceMatrix::upload(gemm.a().nvfp4()?, &stream)?;
        let weights = Weights::prepare(gemm.b1(), gemm.b2(), options.weight_format(), &stream)?;
        let shape = gemm.shape();
        let c = DeviceBuffer::alloc(shape.batch * shape.m * shape.n, device)?;
        let plan = Plan::new(&weights, &options)?;
        let workspace = DeviceBuffer::<u8>::alloc(plan.workspace_bytes(shape.m)?, device)?;
        let plan = plan.bind(&Io::new(&a, &c).workspace(&workspace))?;
        Ok(OnDevice { stream, c, plan })
    }

    fn run(&self) -> Result<()> {
        self.plan.launch(&self.stream)?;
        self.stream.synchronize()
    }
}

/// An error where times mean nothing: on an emulated device.
pub fn require_a_clock(engine: &Engine) -> anyhow::Result<()> {
    #[cfg(feature = "cuda")]
    if let Some(device) = engine.device().filter(|device| device.is_emulated()) {
        bail!(
            "{} runs on this CPU, so that its times say nothing of the device; `nvfp4 verify --backend cuda` checks its results",
            device.name()
        );
    }
    let _ = engine;
    Ok(())
}
