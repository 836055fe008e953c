//! The device layer and the kernels, on a GPU or on the emulator; `harness` has the choice.
//!
//! Without the harness of rustc, because a test that needs a device is started as a process of its own where that
//! device is emulated, and because `ignored` and its reason depend on the machine.

#[cfg(feature = "cudarc")]
mod borrowed;
mod bound;
mod examples;
mod gemm;
mod hardware;
mod harness;
mod host;
#[cfg(feature = "cudarc")]
mod interop;
mod layer;
mod mlp;
mod no_rows;
mod operations;
mod padding;
mod plan;
mod programmatic;
mod quantize;
mod rounding;
mod runtime;
mod streams;
mod truncation;
mod waits;

use nvfp4_dual_gemm::GemmShape;

fn problem(m: usize, n: usize, k: usize, batch: usize) -> GemmShape {
    GemmShape { m, n, k, batch }
}

fn main() {
    let mut tests = host::all();
    #[cfg(feature = "cudarc")]
    tests.extend(interop::all().into_iter().chain(borrowed::all()));
    tests.extend(harness::in_drawn_orders(runtime::all));
    tests.extend(harness::in_drawn_orders(streams::all));
    tests.extend(examples::all());
    tests.extend(plan::all());
    tests.extend(harness::in_drawn_orders(hardware::ordered));
    tests.extend(hardware::all());
    tests.extend(quantize::all());
    tests.extend(gemm::all());
    tests.extend(rounding::all());
    tests.extend(truncation::all());
    tests.extend(padding::all());
    tests.extend(programmatic::all());
    tests.extend(waits::all());
    tests.extend(no_rows::all());
    tests.extend(layer::all());
    tests.extend(operations::all());
    tests.extend(mlp::all());
    harness::main(tests);
}
