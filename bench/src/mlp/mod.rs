//! A whole MLP, `y = down(glu(gate(x), up(x)))`, from x in bf16 to y in bf16.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod device;
pub mod layer;
pub mod markdown;
pub mod report;
#[cfg(feature = "cuda")]
mod stages;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, ensure};

use nvfp4_dual_gemm::{Glu, InputScale, Precision, Spec, bf16};
use nvfp4_harness::check::Rows;
use nvfp4_harness::mlp as check;

pub use layer::Layer;

/// Sizes of a layer, written KxNxH: x \[M, K\], h \[M, N\], y \[M, H\].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Values of a token before the layer.
    pub k: usize,
    /// Values of a token between the projections.
    pub n: usize,
    /// Values of a token after the layer.
    pub h: usize,
}

/// The MLP of Llama 3 8B, the shared expert of DeepSeek-V3, and the MLP of Qwen 32B.
pub const SUITE: [Shape; 3] = [
    Shape { k: 4096, n: 14336, h: 4096 },
    Shape { k: 7168, n: 2048, h: 7168 },
    Shape { k: 5120, n: 25600, h: 5120 },
];

/// Numbers of tokens that a layer is measured with.
pub const TOKENS: [usize; 4] = [1, 16, 128, 1024];

/// K and N are multiples of this: with it, nothing is padded on a device.
const MULTIPLE: usize = 32;

impl Shape {
    /// Weights of the three projections.
    pub fn parameters(&self) -> usize {
        self.n * (2 * self.k + self.h)
    }

    /// Floating-point operations of the three GEMMs, a multiply-add counted as two.
    pub fn flops(&self, rows: usize) -> f64 {
        2.0 * rows as f64 * self.parameters() as f64
    }

    /// Bytes of the weights: packed codes, and one scale byte per 16 of them.
    pub fn weight_bytes(&self) -> usize {
        self.parameters() / 2 + self.parameters() / 16
    }

    /// Bytes of the weights of the dual GEMM or of the down projection, whichever are less.
    pub fn least_weight_bytes(&self) -> usize {
        (2 * self.k).min(self.h) * self.n / 16 * 9
    }

    /// Bytes of x and y.
    pub fn value_bytes(&self, rows: usize) -> usize {
        2 * rows * (self.k + self.h)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}x{}x{}", self.k, self.n, self.h))
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "expected KxNxH, such as 4096x14336x4096";
        let parts: Vec<&str> = text.split(['x', 'X', '×']).map(str::trim).collect();
        let &[k, n, h] = &parts[..] else { return Err(form.to_owned()) };
        let size = |name: &str, part: &str| match part.parse::<u32>() {
            Ok(0) => Err(format!("{name} must not be 0")),
            Ok(size) => Ok(size as usize),
            Err(error) => Err(format!("{name} = {part}: {error}; {form}")),
        };
        let shape = Shape { k: size("K", k)?, n: size("N", n)?, h: size("H", h)? };
        for (name, size) in [("K", shape.k), ("N", shape.n)] {
            if !size.is_multiple_of(MULTIPLE) {
                return Err(format!("{name} = {size} is no multiple of {MULTIPLE}"));
            }
        }
        Ok(shape)
    }
}

/// A way of ours to compute a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Activations in NVFP4, with calibrated global scales of x and h.
    W4A4,
    /// Activations in NVFP4, with global scales that are found in each call.
    W4A4Dynamic,
    /// Activations in bf16.
    W4A16,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::W4A4, Mode::W4A4Dynamic, Mode::W4A16];

    /// As it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Mode::W4A4 => "w4a4",
            Mode::W4A4Dynamic => "w4a4-dynamic",
            Mode::W4A16 => "w4a16",
        }
    }

    /// As it stands in a table.
    pub fn title(self) -> &'static str {
        match self {
            Mode::W4A4 => "W4A4",
            Mode::W4A4Dynamic => "W4A4 dynamic",
            Mode::W4A16 => "W4A16",
        }
    }

    /// How an engine is to load a layer.
    pub fn spec(self) -> Spec {
        Spec::default().precision(match self {
            Mode::W4A4 => Precision::W4A4 { scale: InputScale::Calibrated },
            Mode::W4A4Dynamic => Precision::W4A4 { scale: InputScale::Dynamic },
            Mode::W4A16 => Precision::W4A16,
        })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Mode::ALL.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| format!("{text} is none of {}", Mode::ALL.map(Mode::name).join(", ")))
    }
}

/// How layers are measured.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Seed, GLU, what the caches hold, and how often; values have a distribution of their own.
    pub common: crate::Settings,
    /// Ours, in this order.
    pub modes: Vec<Mode>,
    /// Rounds, in turns with the peers; `None`: 3 with peers, else 1.
    pub rounds: Option<usize>,
    /// Peers to take turns with.
    pub peers: Option<crate::peers::Choice>,
}

impl Settings {
    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.peers.is_some() { 3 } else { 1 })
    }
}

/// Checks two rows of y, and gives how far they are from the oracle run from x to y: the largest ‖error‖ over ‖row‖.
fn checked(
    layer: &nvfp4_dual_gemm::Layer,
    x: &[bf16],
    rows: usize,
    y: &[bf16],
) -> anyhow::Result<f64> {
    let check = check::check(layer, x, rows, y, Rows::Some(2))?.context("nothing was checked")?;
    check.require()?;
    check.end_to_end.context("a layer without a down projection")
}

/// Peers have one GLU.
fn check_comparable(glu: Glu) -> anyhow::Result<()> {
    ensure!(glu == Glu::Swiglu, "--peers: the peers have no GLU but swiglu");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_go_there_and_back() {
        for text in ["4096x14336x4096", "32x64x7"] {
            assert_eq!(text.parse::<Shape>().unwrap().to_string(), text);
        }
        assert_eq!("32X96×5".parse::<Shape>(), Ok(Shape { k: 32, n: 96, h: 5 }));
        for (text, part) in [
            ("32x64", "expected KxNxH"),
            ("32x64x7x1", "expected KxNxH"),
            ("32x0x7", "N must not be 0"),
            ("32x64x0", "H must not be 0"),
            ("48x64x7", "K = 48 is no multiple of 32"),
            ("32x16x7", "N = 16 is no multiple of 32"),
            ("32x-64x7", "N = -64"),
            ("32x64x4294967296", "H = 4294967296"),
        ] {
            let error = text.parse::<Shape>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    /// Llama 3 8B: 3·4096·14336 weights of 4.5 bits.
    #[test]
    fn sizes_are_those_of_three_projections() {
        let [llama, shared, qwen] = SUITE;
        assert_eq!(llama.parameters(), 176_160_768);
        assert_eq!(llama.weight_bytes(), 99_090_432);
        assert_eq!(llama.least_weight_bytes(), 33_030_144);
        assert_eq!(llama.flops(2), 704_643_072.0);
        assert_eq!(shared.parameters(), 44_040_192);
        assert_eq!(qwen.weight_bytes(), 221_184_000);
        assert_eq!(qwen.value_bytes(16), 327_680);
    }

    #[test]
    fn modes_go_there_and_back() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        assert!("w8a8".parse::<Mode>().unwrap_err().contains("w4a4, w4a4-dynamic, w4a16"));
    }
}
