//! The CPU backend on the shapes of the design, each instruction set, next to its peers: the dual GEMM, the same with bf16
//! activations (W4A16), and a GEMM with one weight of 2N rows, which is as much work.
//!
//! `cargo bench --bench cpu [-- --isa avx512,avx2] [--threads 2] [--rounds 3] [--repeat 9] [--shapes 1,4096,7168]
//! [--warm] [--no-peers]`
//!
//! Prints medians and least times over all rounds, and what ours are of the rate at which DRAM is read. Caches are emptied
//! before each run, of ours and of the peers, but with `--warm`. Peers are timed in the same run by `bench/peers/cpu.py`,
//! where `python3` has torch; without it they are skipped, with a message.

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use nvfp4_bench::roofline::Memory;
use nvfp4_dual_gemm::synth::{Data, Operands};
use nvfp4_dual_gemm::{
    DualGemm, Engine, Gemm, GemmShape, Isa, Operation, ValuesView, bf16, f16, oracle, synth,
};

const SHAPES: [(usize, usize, usize); 10] = [
    (256, 4096, 7168),
    (512, 4096, 7168),
    (256, 3072, 4096),
    (512, 3072, 7168),
    (1, 4096, 7168),
    (4, 4096, 7168),
    (8, 4096, 7168),
    (16, 4096, 7168),
    (32, 4096, 7168),
    (64, 4096, 7168),
];

struct Arguments {
    isas: Vec<Isa>,
    threads: usize,
    repeat: usize,
    rounds: usize,
    shapes: Vec<(usize, usize, usize)>,
    warm: bool,
    peers: bool,
}

/// What is timed.
#[derive(Clone, Copy)]
enum Work {
    DualGemm,
    W4A16,
    Gemm,
}

impl Work {
    const ALL: [(Work, &str); 3] =
        [(Work::DualGemm, ""), (Work::W4A16, " W4A16"), (Work::Gemm, " GEMM of 2N")];
}

/// Times in ms of one contender on every shape, over all rounds.
struct Contender {
    name: String,
    times: Vec<Vec<f64>>,
}

impl Contender {
    fn new(name: String, shapes: usize) -> Self {
        Contender { name, times: vec![Vec::new(); shapes] }
    }

    /// The time that a share `at` of the runs of a shape stays below: 0 the least, 0.5 the median.
    fn quantile(&self, shape: usize, at: f64) -> f64 {
        let mut times = self.times[shape].clone();
        times.sort_by(f64::total_cmp);
        times.get((times.len() as f64 * at) as usize).copied().unwrap_or(f64::NAN)
    }
}

fn main() {
    let arguments = parse();
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global().unwrap();
    let mut ours: Vec<Contender> = arguments
        .isas
        .iter()
        .flat_map(|isa| Work::ALL.map(|(_, what)| format!("{isa}{what}")))
        .map(|name| Contender::new(name, arguments.shapes.len()))
        .collect();
    let mut peers: Vec<Contender> = Vec::new();
    let memory = Memory::allocate();
    let bandwidth = memory.bandwidth();
    let empty_caches = || {
        if !arguments.warm {
            memory.read();
        }
    };
    let mut beyond = 0.0f64;
    // Machines have quiet and noisy spells: rounds give every contender some of both.
    for _ in 0..arguments.rounds {
        for (shape, &(m, n, k)) in arguments.shapes.iter().enumerate() {
            let operands =
                Operands::generate(GemmShape { m, n, k, batch: 1 }, Data::Full, 1).unwrap();
            let x: Vec<bf16> = synth::values(m * k, 1);
            let stacked =
                Operands::generate(GemmShape { m, n: 2 * n, k, batch: 1 }, Data::Full, 2).unwrap();
            let (repeat, Operands { b1, b2, .. }) = (arguments.repeat, &operands);
            for (&isa, of_isa) in arguments.isas.iter().zip(ours.chunks_mut(Work::ALL.len())) {
                for ((work, _), contender) in Work::ALL.into_iter().zip(of_isa) {
                    let times = &mut contender.times[shape];
                    let mut runs = Runs { isa, repeat, empty_caches: &empty_caches, times };
                    let share = match work {
                        Work::DualGemm => runs.time(&operands.gemm().unwrap(), [m, n]),
                        Work::W4A16 => {
                            let a = ValuesView::new(1, m, k, &x).unwrap();
                            runs.time(&DualGemm::new(a, b1, b2).unwrap(), [m, n])
                        }
                        Work::Gemm => {
                            runs.time(&Gemm::new(&operands.a, &stacked.b1).unwrap(), [m, 2 * n])
                        }
                    };
                    beyond = beyond.max(share);
                }
            }
        }
        if arguments.peers {
            let emptied = if arguments.warm { 0 } else { memory.bytes() };
            match time_peers(&arguments, emptied, &mut peers) {
                Ok(()) => {}
                Err(why) => {
                    println!("peers SKIPPED: {why}\n");
                    break;
                }
            }
        }
    }
    report(&arguments, &ours, &peers, bandwidth, beyond);
}

/// Where the times of one contender on one shape go.
struct Runs<'a> {
    isa: Isa,
    repeat: usize,
    empty_caches: &'a dyn Fn(),
    times: &'a mut Vec<f64>,
}

impl Runs<'_> {
    /// Checks a few rows, and adds `repeat` times; gives the share of values beyond 1 ULP.
    fn time(&mut self, gemm: &impl Operation, [m, n]: [usize; 2]) -> f64 {
        let (engine, mut c) = (Engine::cpu_with(self.isa).unwrap(), vec![f16::ZERO; m * n]);
        engine.run_into(gemm, &mut c).unwrap();
        // Up to eight, the last among them: it is there that the end of a tile shows.
        let rows: Vec<(usize, usize)> =
            (0..m).rev().step_by(m.div_ceil(8)).map(|r| (0, r)).collect();
        let exact = oracle::exact_rows::<f16>(gemm, &rows).unwrap();
        let sample: Vec<f16> = rows.iter().flat_map(|&(_, r)| c[r * n..][..n].to_vec()).collect();
        let comparison = oracle::compare(&sample, &exact);
        assert!(comparison.passes(), "{}: {comparison:?}", self.isa);
        for _ in 0..self.repeat {
            (self.empty_caches)();
            let start = Instant::now();
            engine.run_into(gemm, black_box(&mut c)).unwrap();
            self.times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        comparison.beyond_one_ulp as f64 / comparison.count as f64
    }
}

/// One round of the Python peers with the same number of threads.
fn time_peers(
    arguments: &Arguments,
    emptied: usize,
    peers: &mut Vec<Contender>,
) -> Result<(), String> {
    let script = "peers/cpu.py"; // cargo runs benches in the root of the package
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python)
        .arg(script)
        .args(["--threads", &arguments.threads.to_string()])
        .args(["--repeat", &arguments.repeat.to_string()])
        .args(["--empty-caches", &emptied.to_string()])
        .args(arguments.shapes.iter().map(|(m, n, k)| format!("{m},{n},{k}")))
        .output()
        .map_err(|why| format!("{python}: {why}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(why.lines().last().unwrap_or("no message").to_owned());
    }
    // One line a peer: its name, then for each shape a tab and its times with blanks between them.
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (name, fields) = line.split_once('\t').ok_or("a line without times")?;
        let at = peers.iter().position(|p| p.name == name).unwrap_or_else(|| {
            peers.push(Contender::new(name.to_owned(), arguments.shapes.len()));
            peers.len() - 1
        });
        for (times, field) in peers[at].times.iter_mut().zip(fields.split('\t')) {
            times.extend(field.split(' ').filter_map(|t| t.parse::<f64>().ok()));
        }
    }
    Ok(())
}

fn report(
    arguments: &Arguments,
    ours: &[Contender],
    peers: &[Contender],
    bandwidth: f64,
    beyond: f64,
) {
    let Arguments { threads, repeat, rounds, shapes, .. } = arguments;
    let caches = if arguments.warm { "warm" } else { "emptied" };
    let gb_per_s = bandwidth * 1e-9;
    println!(
        "{threads} threads, {rounds} rounds of {repeat} runs, caches {caches}, ms; DRAM {gb_per_s:.1} GB/s"
    );
    for (title, at) in [("medians", 0.5), ("least", 0.0)] {
        // What the peers compute is the dual GEMM.
        let best = |s: usize| {
            let ours = ours.iter().step_by(Work::ALL.len());
            ours.map(|c| c.quantile(s, at)).fold(f64::INFINITY, f64::min)
        };
        print!("{title:<34}");
        shapes.iter().for_each(|(m, n, k)| print!(" {:>15}", format!("{m},{n},{k}")));
        println!();
        for contender in ours {
            print!("{:<34}", contender.name);
            for (shape, &(m, n, k)) in shapes.iter().enumerate() {
                let time = contender.quantile(shape, at);
                let problem = GemmShape { m, n, k, batch: 1 };
                // A few rows are bound by memory, many by arithmetic.
                let rate = if m <= 16 {
                    let floor = problem.bytes(size_of::<f16>()) / bandwidth * 1e3;
                    format!("{:.0} %", 100.0 * floor / time)
                } else {
                    format!("{:.0}G", problem.flops() / time * 1e-6)
                };
                print!(" {:>15}", format!("{time:.2} ({rate})"));
            }
            println!();
        }
        for contender in peers {
            print!("{:<34}", contender.name);
            for shape in 0..shapes.len() {
                let time = contender.quantile(shape, at);
                print!(" {:>15}", format!("{time:.2} ({:.2}x)", time / best(shape)));
            }
            println!();
        }
    }
    println!(
        "(%: of the rate of DRAM; G: GFLOP/s; x: times the fastest of ours). At most {:.3} % beyond 1 ULP.",
        100.0 * beyond
    );
}

fn parse() -> Arguments {
    let mut out = Arguments {
        isas: Isa::available().into_iter().filter(|&isa| isa != Isa::Portable).collect(),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        repeat: 9,
        rounds: 3,
        shapes: SHAPES.into(),
        warm: false,
        peers: true,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--isa" => out.isas = value().split(',').map(|s| s.parse().unwrap()).collect(),
            "--threads" => out.threads = value().parse().unwrap(),
            "--repeat" => out.repeat = value().parse().unwrap(),
            "--rounds" => out.rounds = value().parse().unwrap(),
            "--shapes" => out.shapes = value().split(' ').map(shape).collect(),
            "--warm" => out.warm = true,
            "--no-peers" => out.peers = false,
            "--bench" => {}
            _ => panic!("unknown argument {word}"),
        }
    }
    out
}

/// M,N,K
fn shape(text: &str) -> (usize, usize, usize) {
    let sizes: Vec<usize> = text.split(',').map(|size| size.parse().unwrap()).collect();
    let [m, n, k] = sizes[..] else { panic!("{text} is not M,N,K") };
    (m, n, k)
}
