//! The parts of a run.

use std::fmt;

/// A part of the run of a layer, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// x becomes activations: it is quantized, or rounded to 16 bits where it is f32.
    X,
    /// `h = glu(x·gate_projᵀ, x·up_projᵀ)`
    GateUp,
    /// h becomes activations, where the stage before has not done so itself.
    H,
    /// `y = h·down_projᵀ`
    Down,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::X => "x",
            Stage::GateUp => "gate and up",
            Stage::H => "h",
            Stage::Down => "down",
        })
    }
}
