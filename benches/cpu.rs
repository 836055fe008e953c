//! The CPU backend on the shapes of the design, each instruction set, next to its peers.
//!
//! `cargo bench --bench cpu [-- --isa avx512,avx2] [--threads 2] [--repeat 15] [--no-peers]`
//!
//! Prints medians. Peers are timed in the same run by `benches/peers/cpu.py`, where `python3` has
//! torch; without it they are skipped, with a message.

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use nvfp4_dual_gemm::backend::cpu::{self, Isa};
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{Problem, f16, reference};

const SHAPES: [(usize, usize, usize); 9] = [
    (256, 4096, 7168),
    (512, 4096, 7168),
    (256, 3072, 4096),
    (512, 3072, 7168),
    (1, 4096, 7168),
    (4, 4096, 7168),
    (8, 4096, 7168),
    (16, 4096, 7168),
    (32, 4096, 7168),
];

struct Arguments {
    isas: Vec<Isa>,
    threads: usize,
    repeat: usize,
    peers: bool,
}

fn main() {
    let arguments = parse();
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global().unwrap();
    println!("{} threads, median / least of {} runs, ms", arguments.threads, arguments.repeat);
    print!("{:<18}", "M,N,K");
    for isa in &arguments.isas {
        print!(" {:>26}", format!("{isa} (GFLOP/s)"));
    }
    println!("   beyond 1 ULP");
    let mut best = Vec::new();
    for (m, n, k) in SHAPES {
        let problem = Problem { m, n, k, batch: 1 };
        let ops = Operands::generate(problem, Data::Full, 1).unwrap();
        let gemm = ops.gemm().unwrap();
        print!("{:<18}", format!("{m},{n},{k}"));
        let mut fastest = f64::INFINITY;
        let mut beyond = 0.0f64;
        for &isa in &arguments.isas {
            let mut c = vec![f16::ZERO; m * n];
            cpu::run(&gemm, isa, &mut c).unwrap();
            let rows: Vec<(usize, usize)> = (0..m).step_by(m.div_ceil(8)).map(|r| (0, r)).collect();
            let exact = reference::exact_rows::<f16>(&gemm, &rows).unwrap();
            let sample: Vec<f16> =
                rows.iter().flat_map(|&(_, r)| c[r * n..][..n].iter().copied()).collect();
            let comparison = reference::compare(&sample, &exact);
            assert!(comparison.passes(), "{isa} {problem:?}: {comparison:?}");
            beyond = beyond.max(comparison.beyond_one_ulp as f64 / comparison.count as f64);
            let mut times: Vec<f64> = (0..arguments.repeat)
                .map(|_| {
                    let start = Instant::now();
                    cpu::run(&gemm, isa, black_box(&mut c)).unwrap();
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let median = times[times.len() / 2];
            fastest = fastest.min(median);
            let rate = problem.flops() / median * 1e-6;
            print!(" {:>26}", format!("{median:.2} / {:.2} ({rate:.0})", times[0]));
        }
        println!("   {:.3} %", 100.0 * beyond);
        best.push(fastest);
    }
    if arguments.peers {
        peers(&arguments, &best);
    }
}

fn parse() -> Arguments {
    let mut out = Arguments {
        isas: Isa::available(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        repeat: 15,
        peers: true,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--isa" => out.isas = value().split(',').map(|s| s.parse().unwrap()).collect(),
            "--threads" => out.threads = value().parse().unwrap(),
            "--repeat" => out.repeat = value().parse().unwrap(),
            "--no-peers" => out.peers = false,
            "--bench" => {}
            _ => panic!("unknown argument {word}"),
        }
    }
    out
}

/// Runs the Python peers with the same thread count and prints their times over ours.
fn peers(arguments: &Arguments, ours: &[f64]) {
    let script = "benches/peers/cpu.py"; // cargo runs benches in the root of the package
    let shapes: Vec<String> = SHAPES.iter().map(|(m, n, k)| format!("{m},{n},{k}")).collect();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python)
        .arg(script)
        .args(["--threads", &arguments.threads.to_string()])
        .args(["--repeat", &arguments.repeat.to_string()])
        .args(&shapes)
        .output();
    let output = match output {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            println!("\npeers SKIPPED: {}", why.lines().last().unwrap_or("no message"));
            return;
        }
        Err(why) => return println!("\npeers SKIPPED: {python}: {why}"),
    };
    println!("\npeers, same threads: ms (times the fastest of ours)");
    // One line a peer: name, then a tab and a time (or -) for each shape.
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut fields = line.split('\t');
        println!("{}", fields.next().unwrap_or(""));
        for ((shape, time), ours) in shapes.iter().zip(fields).zip(ours) {
            match time.parse::<f64>() {
                Ok(ms) => println!("  {shape:<18} {ms:>9.2} ({:.2}x)", ms / ours),
                Err(_) => println!("  {shape:<18} {time:>9}"),
            }
        }
    }
}
