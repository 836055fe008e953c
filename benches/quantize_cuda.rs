//! Throughput of the device's quantizer and swizzle next to cudaMemcpyAsync, as a Markdown table.
//!
//! `cargo bench --features cuda --bench quantize_cuda` — counted are the bytes that an operation must read plus those
//! that it must write; where the device finds the global scale, both readings of the values count. The copy, from
//! device memory to device memory, moves the same number: it copies half as many. Operation and copy are timed in
//! turns, each by events around a CUDA graph of launches, and each figure is the median over the graphs.
//!
//! "DRAM": the launches of a graph go through buffers of 512 MiB and more. "L2": all use the same buffers, which is
//! where activations that a kernel has just written often are; only for what fits.
//!
//! What the quantizer and the swizzle have left is compared with the CPU's, bit for bit, before anything is timed.

use nvfp4_dual_gemm::cuda::{
    Device, DeviceBuffer, DeviceMatrix, Event, Graph, Quantizer, Stream, swizzle_scales,
    unswizzle_scales,
};
use nvfp4_dual_gemm::format::scale_layout::ScaleLayout;
use nvfp4_dual_gemm::{Element, Nvfp4Matrix, Result, bf16, f16};

const RUNS: usize = 21;
/// Launches of a graph, at least.
const LAUNCHES: usize = 20;
/// More than any L2 holds.
const DRAM_BYTES: usize = 512 << 20;
/// What surely stays in the L2 of an H100 or a B200, copies and all.
const L2_BYTES: usize = 20 << 20;

fn main() -> Result<()> {
    let device = Device::open(0).inspect_err(|error| eprintln!("nothing to run on: {error}"))?;
    println!("{}, {} SMs\n", device.name(), device.sm_count());
    println!("| operation | shape | memory | µs | GB/s | copy µs | copy GB/s | ratio |");
    println!("|---|---|---|---:|---:|---:|---:|---:|");
    let bench = Bench { stream: Stream::new(&device)? };
    // The emulator's times mean nothing: there only that it runs.
    let shapes =
        if device.is_emulated() { [(40, 512), (7, 80)] } else { [(8192, 8192), (512, 7168)] };
    for (rows, k) in shapes {
        bench.quantize::<f16>(rows, k)?;
        bench.quantize::<bf16>(rows, k)?;
        bench.quantize::<f32>(rows, k)?;
        bench.swizzle(rows, k)?;
    }
    Ok(())
}

struct Bench {
    stream: Stream,
}

impl Bench {
    fn quantize<T: Element>(&self, rows: usize, k: usize) -> Result<()> {
        let stream = &self.stream;
        let host: Vec<T> = (0..rows * k)
            .map(|i| T::from_f32(((i as u32).wrapping_mul(2_654_435_761) as i32 as f32) * 2e-9))
            .collect();
        let expected = Nvfp4Matrix::quantize(&host, 1, rows, k)?;
        let scale = expected.global_scale();
        let expected = DeviceMatrix::upload(&expected, stream)?;
        let values = DeviceBuffer::from_host(&host, stream)?;
        let known = |_| Quantizer::with_scale(1, rows, k, scale, stream);
        let found = |_| Quantizer::dynamic(1, rows, k, stream);
        let (read, written) =
            (size_of_val(&host[..]), expected.codes().len() + expected.scales().len());
        let shape = format!("{rows}x{k}");
        for dynamic in [false, true] {
            let name = match dynamic {
                false => format!("quantize {}, scale known", T::DTYPE),
                true => format!("quantize {}, scale found", T::DTYPE),
            };
            let bytes = if dynamic { 2 * read + written } else { read + written };
            for (memory, sets) in places(read + written, stream.device()) {
                let quantizers: Vec<Quantizer> = (0..sets)
                    .map(|i| if dynamic { found(i) } else { known(i) })
                    .collect::<Result<_>>()?;
                let inputs: Vec<DeviceBuffer<T>> = (0..sets)
                    .map(|_| {
                        let input = DeviceBuffer::alloc(rows * k, stream.device())?;
                        input.copy_from(&values, stream)?;
                        Ok(input)
                    })
                    .collect::<Result<_>>()?;
                let launch = |i: usize, stream: &Stream| {
                    quantizers[i % sets].quantize(&inputs[i % sets], stream)
                };
                launch(0, stream)?;
                quantizers[0].check(stream)?;
                let matrix = quantizers[0].matrix();
                assert_eq!(matrix.codes().to_vec(stream)?, expected.codes().to_vec(stream)?);
                assert_eq!(matrix.scales().to_vec(stream)?, expected.scales().to_vec(stream)?);
                self.compare(&name, &shape, memory, bytes, sets, launch)?;
            }
        }
        Ok(())
    }

    fn swizzle(&self, rows: usize, k: usize) -> Result<()> {
        let stream = &self.stream;
        let layout = ScaleLayout::new(1, rows, k)?;
        let host: Vec<u8> = (0..layout.row_major_len()).map(|i| (i * 11 % 127) as u8).collect();
        let expected = layout.swizzle(&host)?;
        let bytes = host.len() + expected.len();
        let shape = format!("{rows}x{}", k / 16);
        for (memory, sets) in places(bytes, stream.device()) {
            let pairs: Vec<_> = (0..sets)
                .map(|_| {
                    let row_major = DeviceBuffer::from_host(&host, stream)?;
                    Ok((row_major, DeviceBuffer::<u8>::zeroed(expected.len(), stream)?))
                })
                .collect::<Result<_>>()?;
            let there = |i: usize, stream: &Stream| {
                let (row_major, swizzled) = &pairs[i % sets];
                swizzle_scales(row_major, 1, rows, k, swizzled, stream)
            };
            let back = |i: usize, stream: &Stream| {
                let (row_major, swizzled) = &pairs[i % sets];
                unswizzle_scales(swizzled, 1, rows, k, row_major, stream)
            };
            for i in 0..sets {
                there(i, stream)?;
            }
            assert_eq!(pairs[0].1.to_vec(stream)?, expected);
            self.compare("swizzle scales", &shape, memory, bytes, sets, there)?;
            self.compare("unswizzle scales", &shape, memory, bytes, sets, back)?;
            assert_eq!(pairs[0].0.to_vec(stream)?, host);
        }
        Ok(())
    }

    /// A line of the table.
    fn compare(
        &self,
        name: &str,
        shape: &str,
        memory: &str,
        bytes: usize,
        sets: usize,
        launch: impl Fn(usize, &Stream) -> Result<()>,
    ) -> Result<()> {
        let stream = &self.stream;
        let device = stream.device();
        let buffers: Vec<_> = (0..sets)
            .map(|_| {
                let from = DeviceBuffer::<u8>::zeroed(bytes / 2, stream)?;
                Ok((from, DeviceBuffer::<u8>::zeroed(bytes / 2, stream)?))
            })
            .collect::<Result<_>>()?;
        let copy = |i: usize, stream: &Stream| {
            let (from, to) = &buffers[i % sets];
            to.copy_from(from, stream)
        };
        let launches = sets.max(if device.is_emulated() { 1 } else { LAUNCHES });
        let ours =
            Graph::capture(stream, |stream| (0..launches).try_for_each(|i| launch(i, stream)))?;
        let copies =
            Graph::capture(stream, |stream| (0..launches).try_for_each(|i| copy(i, stream)))?;
        let (begin, end) = (Event::new(device)?, Event::new(device)?);
        let time = |graph: &Graph| -> Result<f64> {
            begin.record(stream)?;
            graph.launch(stream)?;
            end.record(stream)?;
            stream.synchronize()?;
            Ok(f64::from(begin.elapsed_ms(&end)?) * 1e3 / launches as f64)
        };
        let (mut of_ours, mut of_copies) = (Vec::new(), Vec::new());
        let runs = if device.is_emulated() { 1 } else { RUNS };
        for run in 0..runs + 2 {
            let (one, other) = (time(&ours)?, time(&copies)?);
            if run >= 2 {
                of_ours.push(one);
                of_copies.push(other);
            }
        }
        let (ours, copy) = (median(of_ours), median(of_copies));
        let rate = |us: f64| bytes as f64 / us / 1e3;
        println!(
            "| {name} | {shape} | {memory} | {ours:.2} | {:.0} | {copy:.2} | {:.0} | {:.3} |",
            rate(ours),
            rate(copy),
            copy / ours
        );
        Ok(())
    }
}

/// Where the buffers are to be, and how many sets of them make it so.
fn places(bytes: usize, device: &Device) -> Vec<(&'static str, usize)> {
    if device.is_emulated() {
        return vec![("emulated", 1)];
    }
    let mut places = vec![("DRAM", DRAM_BYTES.div_ceil(bytes).clamp(2, 2048))];
    if bytes <= L2_BYTES {
        places.push(("L2", 1));
    }
    places
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
