//! Who runs when: threads of the host, clusters, warps, and the lanes of a warp.

mod cluster;
mod grid;
mod lanes;

pub use grid::{launch, launch_after};
