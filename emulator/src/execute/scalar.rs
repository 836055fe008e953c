//! Instructions that compute from registers to registers: arithmetic, logic, comparison, conversion, `mov`.
//!
//! Each is lowered to a closure that runs over all 32 lanes at once and writes those that execute. Functions are
//! therefore total: they are also computed for lanes that do not execute.

mod approximate;
mod carry;
mod compare;
mod convert;
mod float;
mod halves;
mod integer;
mod moves;
mod operands;

use std::fmt;
use std::sync::Arc;

use super::{Flow, Step};
use crate::fault::{Fault, Result};
use crate::machine::address::{SHARED_RANK_SHIFT, shared};
use crate::machine::registers::{LANES, Registers};
use crate::program::{Convergence, Lowered, Op as AnyOp, Scope};
use crate::ptx::{Register, Special, Statement};
use crate::settings::Mufu;
use operands::Build;

/// What an instruction acts on.
#[derive(Debug)]
pub struct Lanes<'a> {
    registers: &'a mut Registers,
    /// Lanes that execute.
    mask: u32,
    rank: u32,
    /// The seed of perturbed approximations.
    perturb: Option<u64>,
}

/// Code of an instruction.
type Code = Arc<dyn Fn(&mut Lanes<'_>) + Send + Sync>;

/// Lowered.
#[derive(Clone)]
pub enum Op {
    /// Computes.
    Code(Code),
    /// `mov` of a special register.
    Special {
        /// Destination.
        into: Register,
        /// Source.
        from: Special,
    },
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(_) => f.write_str("Code"),
            Self::Special { into, from } => write!(f, "Special({into:?}, {from:?})"),
        }
    }
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered {
    let build = Build { statement, scope };
    let op = match statement.family.as_str() {
        "mov" => moves::lower(&build)?,
        "setp" | "set" | "selp" | "slct" | "testp" => compare::lower(&build)?,
        "cvt" => convert::lower(&build)?,
        "ex2" | "lg2" | "sin" | "cos" | "tanh" => approximate::lower(&build)?,
        "rcp" | "rsqrt" | "sqrt" => match build.has_any(&["approx"]) {
            true => approximate::lower(&build)?,
            false => float::lower(&build)?,
        },
        "createpolicy" => moves::lower_policy(&build)?,
        family => match build.kind() {
            // Carries come first: they have the types of integers.
            _ if build.has_any(&["cc"]) || matches!(family, "addc" | "subc" | "madc") => {
                carry::lower(&build)?
            }
            "f32" | "f64" | "f32x2" => float::lower(&build)?,
            "f16" | "f16x2" | "bf16" | "bf16x2" => halves::lower(&build)?,
            _ => integer::lower(&build)?,
        },
    };
    Ok((AnyOp::Scalar(op), Convergence::None))
}

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Code(code) => {
            let (mask, rank) = (step.lanes, step.rank);
            let settings = &step.machine.settings;
            let perturb = (settings.mufu == Mufu::Perturbed).then_some(settings.seed);
            let registers = &mut step.warp().registers;
            code(&mut Lanes { registers, mask, rank, perturb });
        }
        Op::Special { into, from } => {
            for lane in step.each_lane() {
                let value = step.special(*from, lane);
                step.set(*into, lane, value);
            }
        }
    }
    Ok(Flow::Next)
}

/// The error of a form that is not known.
fn unsupported(what: &str) -> Fault {
    Fault::unsupported(what)
}

/// Ranks of thread blocks of a cluster, for constants that hold one.
const RANKS: u32 = 16;

/// The address of a shared variable in every thread block of a cluster.
fn shared_addresses(offset: u32) -> impl Iterator<Item = u32> {
    const { assert!(RANKS <= 1 << (32 - SHARED_RANK_SHIFT)) };
    (0..RANKS).map(move |rank| shared(rank, offset))
}

/// All lanes.
const ALL: u32 = (1 << (LANES - 1)) | ((1 << (LANES - 1)) - 1);
