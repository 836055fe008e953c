//! The CPU backend needs no more than 64 MiB beyond its packed operands and C, whatever the size.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{
    ActivationsView, DualGemm, Engine, Gemm, GemmShape, Isa, Operation, ValuesView, bf16, f16,
};

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

/// Tests of one process count each other's bytes.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes that `work` had in use at once, more than before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    work();
    PEAK.load(Relaxed) - before
}

#[test]
fn additional_memory_is_bounded() {
    let _alone = ALONE.lock().unwrap();
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
            let more = peak_of(|| Engine::cpu_with(isa).unwrap().run_into(&gemm, &mut c).unwrap());
            assert!(more <= 64 << 20, "{isa} {problem:?}: {} MiB", more >> 20);
            // The same with 16-bit activations, which are widened in pieces: products in f32, which take longer.
            let fastest = Isa::available().first() == Some(&isa);
            if problem.flops() > if fastest { 5e9 } else { 1e8 } {
                continue;
            }
            let x = vec![bf16::ONE; batch * m * k];
            let a = ValuesView::new(batch, m, k, &x).unwrap();
            let gemm = DualGemm::new(a, &operands.b1, &operands.b2).unwrap();
            let more = peak_of(|| Engine::cpu_with(isa).unwrap().run_into(&gemm, &mut c).unwrap());
            assert!(more <= 64 << 20, "{isa} {problem:?} W4A16: {} MiB", more >> 20);
        }
    }
}

/// A second call finds the buffers of the first: what is left are the jobs of rayon's pool.
#[test]
fn further_calls_allocate_no_buffer() {
    let _alone = ALONE.lock().unwrap();
    fn check(operation: &impl Operation, len: usize, what: &str) {
        let (mut c, r) = (vec![f16::ZERO; len], 3);
        for isa in Isa::available() {
            let engine = Engine::cpu_with(isa).unwrap();
            engine.run_into(operation, &mut c).unwrap();
            let least =
                (0..r).map(|_| peak_of(|| engine.run_into(operation, &mut c).unwrap())).min();
            assert!(least < Some(16 << 10), "{isa} {what}: {least:?} bytes");
        }
    }
    let (n, k) = (513, 1024);
    for m in [1, 64] {
        let problem = GemmShape { m, n, k, batch: 1 };
        let Operands { a, b1, b2 } = Operands::generate(problem, Data::Full, 3).unwrap();
        let halves = vec![f16::ONE; m * k];
        let brains = vec![bf16::ONE; m * k];
        let (residual, bias) = (vec![f16::ONE; m * n], vec![1.0; n]);
        let views: [(&str, ActivationsView<'_>); 3] = [
            ("nvfp4", (&a).into()),
            ("f16", ValuesView::new(1, m, k, &halves).unwrap().into()),
            ("bf16", ValuesView::new(1, m, k, &brains).unwrap().into()),
        ];
        for (name, a) in views {
            let gemm = Gemm::new(a, &b1).unwrap().with_bias(&bias).unwrap();
            let gemm = gemm.with_residual(&residual).unwrap();
            check(&gemm, m * n, &format!("gemm of {name}, {m} rows"));
            let dual = DualGemm::new(a, &b1, &b2).unwrap().with_biases([&bias, &bias]).unwrap();
            check(&dual, m * n, &format!("dual gemm of {name}, {m} rows"));
        }
    }
}
