//! The instructions: what a PTX module means, as operations with their operands. Nothing here knows of a machine.
//!
//! [`lower`] places variables and makes of each statement the operation of its family; a family is a module with an `Op`
//! and the function that lowers to it.

pub mod address;
pub mod bulk;
pub mod clc;
pub mod control;
mod grammar;
pub(crate) mod layout;
mod lower;
pub mod matrix;
pub mod memory;
mod program;
mod renumber;
pub mod scalar;
pub mod scope;
pub mod semantics;
pub mod shuffle;
pub mod sync;
pub mod tcgen05;
pub mod value;
pub mod wgmma;

pub use lower::lower;
pub use program::{Instruction, Kernel, Op, Program};
