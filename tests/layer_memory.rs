//! A layer's second call finds the buffers of the first.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Engine, GemmShape, InputScale, Isa, MlpWeights, Spec, f16};

/// Counts the bytes that are asked for.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Relaxed);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is left are the jobs of rayon's pool, some hundred bytes each; x alone takes 36 KiB and more when quantized.
#[test]
fn the_second_call_allocates_no_buffer() {
    let shape = GemmShape { m: 1, n: 512, k: 1024, batch: 1 };
    let Operands { b1, b2, .. } = Operands::generate(shape, Data::Full, 3).unwrap();
    let weights = MlpWeights::new(b1, b2).unwrap();
    for isa in Isa::available() {
        let engine = Engine::cpu_with(isa).unwrap();
        for scale in [InputScale::Fixed(0.01), InputScale::Dynamic, InputScale::PerRow] {
            let layer = engine.load(weights.clone(), &Spec::default().input_scale(scale)).unwrap();
            for rows in [1, 64] {
                let x: Vec<f32> = (0..rows * 1024).map(|i| (i as f32 * 0.37).sin()).collect();
                let mut y = vec![f16::ZERO; rows * 512];
                layer.run(&x, rows, &mut y).unwrap();
                let least = (0..3)
                    .map(|_| {
                        let before = ASKED.load(Relaxed);
                        layer.run(&x, rows, &mut y).unwrap();
                        ASKED.load(Relaxed) - before
                    })
                    .min();
                assert!(least < Some(16 << 10), "{isa} {scale} {rows} rows: {least:?} bytes");
            }
        }
    }
}
