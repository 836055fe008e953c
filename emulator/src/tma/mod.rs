//! The tensor memory accelerator: tensor maps, swizzles, reductions.
//!
//! Nothing here knows of instructions, nor of the state of a machine: copies call it, and the runtime encodes maps with
//! it.

pub mod element;
pub mod map;
pub mod reduce;
pub mod replace;
pub mod swizzle;
