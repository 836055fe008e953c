//! What the `nvfp4` command and its benchmarks share.

pub mod check;
pub mod json;
pub mod mlp;
pub mod notation;
pub mod prepared;
pub mod system;
pub mod timer;
pub mod units;
