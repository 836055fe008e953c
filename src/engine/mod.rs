//! Where a dual GEMM or a layer runs: the only place that chooses between CPU, CUDA devices and the oracle.

mod backend;
#[cfg(feature = "cuda")]
mod cuda;
mod host;
mod layer;
mod saturation;

use std::fmt;
use std::sync::Arc;

use rayon::ThreadPool;

pub use backend::Backend;
pub use layer::{Layer, Spec};
pub use saturation::LayerSaturation;

use crate::cpu::{self, Scratch};
use crate::dtype::Element;
use crate::error::{Error, Operand, Result};
use crate::memory;
use crate::op::{MlpWeights, Operation};
use crate::oracle;
use crate::shape::GemmShape;
use crate::simd::Isa;

/// A place to compute: the CPU, a CUDA device, or the exact oracle. Clones are the same engine. Several threads may use
/// it at once, and all of its layers share its working memory.
///
/// ```
/// use nvfp4_dual_gemm::{Engine, MlpWeights, Nvfp4Matrix, Spec};
/// # fn main() -> nvfp4_dual_gemm::Result<()> {
/// let gate_proj = Nvfp4Matrix::quantize(&[0.5f32; 3 * 32], 1, 3, 32)?;
/// let up_proj = Nvfp4Matrix::quantize(&[0.25f32; 3 * 32], 1, 3, 32)?;
///
/// let engine = Engine::auto()?; // engine.reason() says what it is, and why
/// let layer = engine.load(MlpWeights::new(gate_proj, up_proj)?, &Spec::default())?; // packed, and uploaded, once
/// let (x, mut y) = (vec![1.0f32; 2 * 32], vec![0.0f32; 2 * 3]);
/// layer.run(&x, 2, &mut y)?; // as often as needed, with any number of rows
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    reason: String,
    /// Of the CPU; rayon's current pool where there is none.
    pool: Option<Arc<ThreadPool>>,
    scratch: Arc<Scratch>,
}

#[derive(Clone)]
enum Kind {
    Cpu(Isa),
    Oracle,
    #[cfg(feature = "cuda")]
    Cuda(cuda::Cuda),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("name", &self.to_string())
            .field("reason", &self.0.reason)
            .finish_non_exhaustive()
    }
}

/// What runs, such as `cpu (avx512)`, `cuda` or `oracle`.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.isa() {
            Some(isa) => return write!(f, "{} ({isa})", self.backend()),
            None => write!(f, "{}", self.backend())?,
        }
        #[cfg(feature = "cuda")]
        if let Some(kernel) = self.kernel() {
            write!(f, " ({kernel})")?;
        }
        Ok(())
    }
}

impl Engine {
    fn new(kind: Kind, reason: String) -> Self {
        Engine(Arc::new(Inner { kind, reason, pool: None, scratch: Arc::default() }))
    }

    /// The first CUDA device that this build has kernels for, unless it is emulated; otherwise the CPU.
    /// [`Engine::reason`] says which, and why.
    ///
    /// # Errors
    /// Those of [`Engine::cpu`].
    pub fn auto() -> Result<Self> {
        #[cfg(feature = "cuda")]
        let why_not = match cuda::Cuda::first() {
            Ok((cuda, reason)) if !cuda.device().is_emulated() => {
                return Ok(Self::new(Kind::Cuda(cuda), reason));
            }
            // It runs on this CPU, too, one instruction at a time.
            Ok((_, reason)) => format!("not {reason}"),
            Err(error) => error.to_string(),
        };
        #[cfg(not(feature = "cuda"))]
        let why_not = "no CUDA backend in this build";
        let choice = Isa::choose()?;
        Ok(Self::new(Kind::Cpu(choice.isa), format!("{why_not}; {}", choice.reason)))
    }

    /// The CPU, with the instruction set that [`NVFP4_CPU_ISA`](crate::ISA_VARIABLE) names, or else the fastest that
    /// this machine has.
    ///
    /// # Errors
    /// [`Error::Environment`] when `NVFP4_CPU_ISA` has a value that means nothing, [`Error::BackendUnavailable`] for
    /// one that this machine does not have.
    pub fn cpu() -> Result<Self> {
        let choice = Isa::choose()?;
        Ok(Self::new(Kind::Cpu(choice.isa), choice.reason))
    }

    /// The CPU with one instruction set.
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`] when this machine does not have it, [`Error::Environment`].
    pub fn cpu_with(isa: Isa) -> Result<Self> {
        isa.check()?;
        Ok(Self::new(Kind::Cpu(isa), "asked for".to_owned()))
    }

    /// CUDA device `ordinal`, which may be emulated.
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`] in a build without feature `cuda`. Else that of the driver or the device, such as
    /// [`CudaError::NoDriver`](crate::CudaError::NoDriver), [`CudaError::NoSuchDevice`](crate::CudaError::NoSuchDevice), and [`CudaError::Architecture`](crate::CudaError::Architecture) for a device that no
    /// kernel of this build is for.
    #[cfg_attr(not(feature = "cuda"), allow(unused_variables))]
    pub fn cuda(ordinal: usize) -> Result<Self> {
        #[cfg(feature = "cuda")]
        return cuda::Cuda::open(ordinal).map(|(cuda, reason)| Self::new(Kind::Cuda(cuda), reason));
        #[cfg(not(feature = "cuda"))]
        Err(no_cuda())
    }

    /// The exact oracle: sums without an error, and one rounding at the end. It is slow.
    pub fn oracle() -> Self {
        Self::new(Kind::Oracle, "asked for".to_owned())
    }

    /// An engine of this kind.
    ///
    /// # Errors
    /// Those of [`Engine::auto`], [`Engine::cpu`] and [`Engine::cuda`].
    pub fn of(backend: Backend) -> Result<Self> {
        match backend {
            Backend::Auto => Self::auto(),
            Backend::Cpu => Self::cpu(),
            Backend::Oracle => Ok(Self::oracle()),
            #[cfg(feature = "cuda")]
            Backend::Cuda => {
                cuda::Cuda::first().map(|(cuda, reason)| Self::new(Kind::Cuda(cuda), reason))
            }
            #[cfg(not(feature = "cuda"))]
            Backend::Cuda => Err(no_cuda()),
        }
    }

    /// The same engine, whose work on the CPU runs in `pool`. By default it runs in rayon's current pool: that of the
    /// calling thread, or else the global one. Small problems run on the calling thread either way.
    pub fn with_pool(&self, pool: Arc<ThreadPool>) -> Self {
        Engine(Arc::new(Inner { pool: Some(pool), ..Inner::clone(&self.0) }))
    }

    /// The same device, with this kernel for all runs, whatever their size. Weights are packed in the format that it
    /// takes.
    ///
    /// # Errors
    /// [`Error::BackendUnavailable`] for an engine that is no CUDA device, [`CudaError::KernelArchitecture`](crate::CudaError::KernelArchitecture) for a kernel
    /// that does not run on the device.
    #[cfg(feature = "cuda")]
    pub fn with_kernel(&self, kernel: crate::cuda::Kernel) -> Result<Self> {
        match &self.0.kind {
            Kind::Cuda(cuda) => {
                let kind = Kind::Cuda(cuda.with_kernel(kernel)?);
                Ok(Engine(Arc::new(Inner { kind, ..Inner::clone(&self.0) })))
            }
            _ => {
                let reason = format!("kernel {kernel} is for a CUDA device");
                Err(Error::BackendUnavailable { backend: self.to_string(), reason })
            }
        }
    }

    /// The kind of the engine; never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        match &self.0.kind {
            Kind::Cpu(_) => Backend::Cpu,
            Kind::Oracle => Backend::Oracle,
            #[cfg(feature = "cuda")]
            Kind::Cuda(_) => Backend::Cuda,
        }
    }

    /// The instruction set of a CPU engine.
    pub fn isa(&self) -> Option<Isa> {
        match &self.0.kind {
            Kind::Cpu(isa) => Some(*isa),
            _ => None,
        }
    }

    /// Why it was chosen, in one sentence.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The kernel that all runs get ([`Engine::with_kernel`]).
    #[cfg(feature = "cuda")]
    pub fn kernel(&self) -> Option<crate::cuda::Kernel> {
        match &self.0.kind {
            Kind::Cuda(cuda) => cuda.kernel(),
            _ => None,
        }
    }

    /// The CUDA device that it runs on.
    #[cfg(feature = "cuda")]
    pub fn device(&self) -> Option<&crate::cuda::Device> {
        match &self.0.kind {
            Kind::Cuda(cuda) => Some(cuda.device()),
            _ => None,
        }
    }

    /// What its results are held to ([`oracle::Comparison::within`]), where each is made of `sums` sums of `k` products: 2
    /// for a dual GEMM, 1 for a GEMM.
    pub fn bound(&self, k: usize, sums: usize) -> oracle::Bound {
        let on = |capability| oracle::Bound::on(capability, k, sums);
        self.compute_capability().map_or_else(oracle::Bound::default, on)
    }

    /// Of its CUDA device.
    fn compute_capability(&self) -> Option<(u32, u32)> {
        match &self.0.kind {
            Kind::Cpu(_) | Kind::Oracle => None,
            #[cfg(feature = "cuda")]
            Kind::Cuda(cuda) => Some(cuda.device().compute_capability()),
        }
    }

    /// Prepares weights for many runs: [`MlpWeights`] or the layer of a checkpoint. The CPU uses them as they are; for
    /// a device they are packed and uploaded, once.
    ///
    /// # Errors
    /// Those of [`MlpWeights::input_scale`] where the calibrated scale is asked for; [`Error::GluParameter`],
    /// [`Error::GlobalScale`], [`Error::Alpha`]; on a device those of `cuda::Plan::new` and `cuda::Weights::prepare`.
    pub fn load<W: TryInto<MlpWeights>>(&self, weights: W, spec: &Spec) -> Result<Layer>
    where
        Error: From<W::Error>,
    {
        Layer::new(self, weights.try_into()?, spec)
    }

    /// Computes C \[batch, M, N\] of a [`DualGemm`](crate::DualGemm) or a [`Gemm`](crate::Gemm), row-major, once. Weights that are used more than once should be loaded
    /// ([`Engine::load`]): on a device, every call uploads all operands.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; those of the device.
    pub fn run<T: Element>(&self, gemm: &impl Operation) -> Result<Vec<T>> {
        let mut c = memory::filled(T::default(), gemm.problem().c_len(), Operand::C)?;
        self.run_into(gemm, &mut c)?;
        Ok(c)
    }

    /// [`Engine::run`] into `c` \[batch, M, N\].
    ///
    /// # Errors
    /// Those of [`Engine::run`], and [`Error::Length`].
    pub fn run_into<T: Element>(&self, gemm: &impl Operation, c: &mut [T]) -> Result<()> {
        let problem = gemm.problem();
        problem.check_c(c.len())?;
        match &self.0.kind {
            Kind::Cpu(isa) => {
                self.in_pool(problem.work(), || cpu::run(gemm, *isa, &self.0.scratch, c))
            }
            Kind::Oracle => self.in_pool(problem.work(), || oracle::exact_into(gemm, c)),
            #[cfg(feature = "cuda")]
            Kind::Cuda(cuda) => cuda.run_into(&problem, c),
        }
    }

    /// Runs `work` where its parallel parts use the engine's pool: in there, or on the calling thread where there is no
    /// such pool, or no parallel part.
    fn in_pool<R: Send>(&self, shape: GemmShape, work: impl FnOnce() -> R + Send) -> R {
        match &self.0.pool {
            Some(pool) if !cpu::is_small(shape) => pool.install(work),
            _ => work(),
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn no_cuda() -> Error {
    let reason = "this build has no CUDA backend".to_owned();
    Error::BackendUnavailable { backend: Backend::Cuda.to_string(), reason }
}
