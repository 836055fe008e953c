//! The library without its checkpoints, as its users see it: one program, which links and starts once. What counts
//! allocations has a process of its own.

mod cpu;
mod engine;
mod errors;
mod exact_values;
mod formats;
mod golden_formats;
mod golden_gates;
mod isa;
mod no_rows;
mod operations;
mod oracle;
mod saturation;
#[cfg(feature = "cuda")]
mod scale_layout_cutlass;
mod shard;
mod sizes;
mod truncation;
