//! Runs a launch: threads of the host take cluster after cluster of the grid.

use crate::fault::{Fault, Result};
use crate::machine::{Launch, Machine};
use crate::report::Counters;

/// Runs all clusters. The first fault ends the launch.
pub fn launch(_machine: &Machine, _launch: &Launch) -> Result<Counters> {
    Err(Fault::unsupported("launch"))
}
