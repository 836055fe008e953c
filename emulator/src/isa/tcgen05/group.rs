//! `cta_group`: how many thread blocks an instruction acts on.

use crate::fault::{Fault, Result};
use crate::ptx::Statement;

/// The number after `cta_group::`.
pub(crate) fn group(statement: &Statement) -> Result<u32> {
    match (statement.has("cta_group::1"), statement.has("cta_group::2")) {
        (true, false) => Ok(1),
        (false, true) => Ok(2),
        _ => Err(Fault::unsupported(format!("{} without one cta_group", statement.opcode()))),
    }
}
