//! Instructions that compute from registers to registers: arithmetic, logic, comparison, conversion, `mov`.
//!
//! Each is lowered to a closure that runs over all 32 lanes at once and writes those that execute. Functions are
//! therefore total: they are also computed for lanes that do not execute. They see values and nothing of a machine.

mod approximate;
mod carry;
mod compare;
mod convert;
mod float;
mod halves;
mod integer;
mod lanes;
mod moves;
mod operands;
mod single;

pub use lanes::{Code, Lanes, Op};

use crate::isa::scope::{Lowered, Scope};
use crate::isa::value::Convergence;
use crate::ptx::Statement;
use operands::Build;

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
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
    Ok((Some(op), Convergence::None))
}
