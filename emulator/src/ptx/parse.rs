//! Stub.
use super::Module;
use crate::fault::{Fault, Result};

/// Parses a translation unit.
pub fn parse(_text: &str) -> Result<Module> {
    Err(Fault::unsupported("parser"))
}
