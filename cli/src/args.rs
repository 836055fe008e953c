//! Arguments that several commands share.

use anyhow::bail;
use clap::ValueEnum;

use nvfp4_dual_gemm::synth::{CONTEST_BENCHMARKS, CONTEST_SEED, CONTEST_TESTS, Data};
use nvfp4_dual_gemm::{Backend, DType, Engine, GemmShape, Glu, Isa};
use nvfp4_harness::check::Rows;
use nvfp4_harness::notation::{self, IsaArg};

use crate::select::{self, Engines};

/// What computes.
#[derive(Debug, clap::Args)]
pub struct BackendArgs {
    /// auto, cpu, oracle or cuda
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Kernel of the cuda backend, by the name that `nvfp4 doctor` shows [default: by the shape]
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
}

impl BackendArgs {
    /// The one engine of `run` and `mlp`.
    pub fn one(&self) -> anyhow::Result<Engine> {
        select::one(self.backend, self.kernel.as_deref())
    }
}

/// What computes, one after the other.
#[derive(Debug, clap::Args)]
pub struct PathArgs {
    #[command(flatten)]
    backend: BackendArgs,
    #[arg(long, value_delimiter = ',', value_parser = notation::isa, help = isa_help("the fastest"))]
    isa: Vec<IsaArg>,
}

/// The text of `--isa`.
pub fn isa_help(default: &str) -> String {
    let names = Isa::ALL.map(|isa| isa.to_string()).join(", ");
    format!("Instruction sets of the cpu backend: {names}, all [default: {default}]")
}

impl PathArgs {
    /// What is asked for; without `--isa` the instruction set that the backend would use itself.
    pub fn engines(&self) -> anyhow::Result<Engines> {
        let BackendArgs { backend, kernel } = &self.backend;
        select::choose(*backend, &self.isa, kernel.as_deref())
    }

    /// The same, but without `--isa` and `--kernel` each instruction set.
    pub fn every_engine(&self) -> anyhow::Result<Engines> {
        let BackendArgs { backend, kernel } = &self.backend;
        let all = matches!(backend, Backend::Auto | Backend::Cpu) && kernel.is_none();
        match self.isa[..] {
            [] if all => select::choose(*backend, &[IsaArg::All], None),
            _ => self.engines(),
        }
    }
}

/// Synthetic operands.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct DataArgs {
    /// contest: codes ±{0, .5, 1, 1.5}, scales in [0, 1); full: all codes and scale bytes
    #[arg(long, value_name = "KIND", default_value = "contest")]
    pub data: Data,
    /// Same seed, same operands, on every machine
    #[arg(long, allow_negative_numbers = true, default_value_t = CONTEST_SEED)]
    pub seed: u64,
}

/// What is computed, and by how many threads.
#[derive(Debug, clap::Args)]
pub struct ComputeArgs {
    /// swiglu, gpt-oss, geglu-tanh or clamped:LIMIT,SLOPE,OFFSET [default: swiglu]
    #[arg(long, value_parser = notation::glu)]
    pub glu: Option<Glu>,
    /// Type of C: f16, bf16 or f32
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub out_dtype: DType,
    /// Threads to use [default: RAYON_NUM_THREADS, or else all CPUs]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    threads: Option<usize>,
}

impl ComputeArgs {
    /// That of a command that has no other default.
    pub fn glu(&self) -> Glu {
        self.glu.unwrap_or_default()
    }

    /// Takes the number of threads for all later work.
    pub fn use_threads(&self) -> anyhow::Result<()> {
        use_threads(self.threads)
    }
}

/// How much of a result is looked at.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Rows of C to check against the exact oracle: auto (about a second's worth), all, or a number
    #[arg(long, value_name = "ROWS", allow_negative_numbers = true, default_value_t = Rows::Auto)]
    pub check: Rows,
}

/// Sizes to go through.
#[derive(Debug, clap::Args)]
pub struct SizeArgs {
    /// Size to go through; may be given several times
    #[arg(long, value_name = "MxNxK[xL]", value_parser = notation::shape)]
    shape: Vec<GemmShape>,
    /// Lists of sizes to go through
    #[arg(long, value_delimiter = ',')]
    suite: Vec<Suite>,
}

impl SizeArgs {
    /// All of them; those of `otherwise` where none is given.
    pub fn problems(&self, otherwise: Suite) -> Vec<GemmShape> {
        let listed = self.suite.iter().flat_map(|suite| suite.problems());
        let problems: Vec<GemmShape> = self.shape.iter().copied().chain(listed).collect();
        if problems.is_empty() { otherwise.problems() } else { problems }
    }
}

/// Runs an expression with the Rust type of a [`DType`] by a name of the caller's.
macro_rules! with_dtype {
    ($dtype:expr, $T:ident => $run:expr) => {
        match $dtype {
            nvfp4_dual_gemm::DType::F16 => {
                type $T = nvfp4_dual_gemm::f16;
                $run
            }
            nvfp4_dual_gemm::DType::Bf16 => {
                type $T = nvfp4_dual_gemm::bf16;
                $run
            }
            nvfp4_dual_gemm::DType::F32 => {
                type $T = f32;
                $run
            }
            other => anyhow::bail!("--out-dtype {other} is not known to this command"),
        }
    };
}
pub(crate) use with_dtype;

/// More threads than any machine has CPUs.
pub const MAX_THREADS: usize = 4096;

/// A number of threads, at least one.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=MAX_THREADS) => Ok(n),
        _ => Err(format!("expected a number from 1 to {MAX_THREADS}")),
    }
}

/// Takes the number of threads for all later work; without one, rayon's choice stands
/// (`RAYON_NUM_THREADS`, or else all CPUs).
pub fn use_threads(threads: Option<usize>) -> anyhow::Result<()> {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    match (threads, std::env::var(VARIABLE)) {
        (Some(threads), _) => {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        }
        // rayon would start them all, and take minutes to do so. It passes over what is no number.
        (None, Ok(text)) if text.parse().is_ok_and(|n: u64| n > MAX_THREADS as u64) => {
            bail!("environment variable {VARIABLE}={text}: expected at most {MAX_THREADS}");
        }
        _ => {}
    }
    Ok(())
}

/// A number of timed runs, at least one.
pub fn repeat(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1_000_000) => Ok(n),
        _ => Err("expected a number from 1 to 1000000".to_owned()),
    }
}

/// Lists of shapes.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum Suite {
    /// Odd sizes, batches, edges of tiles: seconds.
    Quick,
    /// The ten test shapes of GPU MODE's nvfp4_dual_gemm contest.
    Contest,
    /// The four benchmark shapes of the same contest.
    Benchmark,
    /// M = 1, 2, 4, 8, 16 with N = 4096, K = 7168.
    Decode,
    /// The four benchmark shapes, and M = 1, 8, 16, 32, 64 with N = 4096, K = 7168.
    Hopper,
}

impl Suite {
    pub fn problems(self) -> Vec<GemmShape> {
        let problem = |(m, n, k, batch)| GemmShape { m, n, k, batch };
        match self {
            Suite::Quick => [
                (1, 1, 16, 1),
                (1, 256, 512, 1),
                (3, 19, 48, 2),
                (16, 33, 2048, 1),
                (33, 65, 272, 3),
                (128, 128, 256, 1),
                (129, 257, 1040, 1),
                (256, 512, 256, 1),
            ]
            .map(problem)
            .to_vec(),
            Suite::Contest => CONTEST_TESTS.to_vec(),
            Suite::Benchmark => CONTEST_BENCHMARKS.to_vec(),
            Suite::Decode => [1, 2, 4, 8, 16].map(|m| problem((m, 4096, 7168, 1))).to_vec(),
            Suite::Hopper => {
                let decode = [1, 8, 16, 32, 64].map(|m| problem((m, 4096, 7168, 1)));
                CONTEST_BENCHMARKS.into_iter().chain(decode).collect()
            }
        }
    }
}
