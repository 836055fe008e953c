//! The CPU backend needs no more than 64 MiB beyond its packed operands and C, whatever the size.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Engine, GemmShape, Isa, bf16};

/// Counts the bytes in use, and their peak.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn additional_memory_is_bounded() {
    let problems = [
        (1, 8192, 8192, 1),
        (256, 4096, 7168, 1),
        (9000, 256, 4096, 1), // activations of several panels
        (70000, 16, 512, 1),
        (33, 33, 1 << 20, 1),  // no panel holds 32 rows
        (1, 1, 16, 2_000_000), // many small problems
    ];
    for (m, n, k, batch) in problems {
        let problem = GemmShape { m, n, k, batch };
        let operands = Operands::generate(problem, Data::Contest, 1).unwrap();
        let gemm = operands.gemm().unwrap();
        let mut c = vec![bf16::ZERO; batch * m * n];
        for isa in Isa::available() {
            if isa == Isa::Portable && problem.flops() > 1e10 {
                continue; // the same schedule as the others, and slow
            }
            let before = IN_USE.load(Relaxed);
            PEAK.store(before, Relaxed);
            Engine::cpu_with(isa).unwrap().run_into(&gemm, &mut c).unwrap();
            let more = PEAK.load(Relaxed) - before;
            assert!(more <= 64 << 20, "{isa} {problem:?}: {} MiB", more >> 20);
        }
    }
}
