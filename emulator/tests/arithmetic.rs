//! CUDA C++ on the emulator against the same C++ on the host.
//!
//! Each program of `tests/programs` is compiled by nvcc for both devices, loaded from its fat binary and run; g++
//! compiles the same file for the host, whose arithmetic is the reference.

mod support;

use emulator::settings::{Model, Schedule, Settings};
use support::{Device, Numbers, Outcome, Shape};

/// Runs all operations of a program on triples of numbers, in all the ways that are asked for.
fn compare(source: &str, triples: &[u64], ways: &[&[&str]]) -> Outcome<()> {
    let Some(nvcc) = support::nvcc_or_skip(source) else { return Ok(()) };
    let host = support::on_host(&nvcc, source, &support::bytes(triples))?;
    let end = host.windows(2).position(|pair| pair == b"\n\n").ok_or("no names")?;
    let names: Vec<String> =
        String::from_utf8_lossy(&host[..end]).lines().map(str::to_owned).collect();
    let expected = support::numbers(&host[end + 2..]);
    let count = triples.len() / 3;
    assert_eq!(expected.len(), names.len() * count);
    for options in ways {
        let container = support::fat_binary(&nvcc, source, options)?;
        for (model, schedule) in [(Model::B200, Schedule::Eager), (Model::H100, Schedule::Random)] {
            let settings = Settings { schedule, ..Settings::new(model) };
            let device = Device::new(settings, &container)?;
            let input = device.upload(&support::bytes(triples))?;
            let output = device.allocate(8 * expected.len() as u64)?;
            device.launch(
                "run",
                Shape { grid: names.len() as u32, block: 96, dynamic_shared: 0 },
                &[&input.to_le_bytes(), &output.to_le_bytes(), &(count as u32).to_le_bytes()],
            )?;
            let found = support::numbers(&device.download(output, 8 * expected.len())?);
            let mut wrong = Vec::new();
            for (operation, name) in names.iter().enumerate() {
                let range = operation * count..(operation + 1) * count;
                let pairs = found[range.clone()].iter().zip(&expected[range]);
                let differ = |index: usize, found: &u64, expected: &u64| {
                    let [a, b, c] = [0, 1, 2].map(|operand| triples[3 * index + operand]);
                    format!("{name}({a:#x}, {b:#x}, {c:#x}) = {found:#x}, not {expected:#x}")
                };
                let bad: Vec<_> = pairs
                    .enumerate()
                    .filter(|(_, (found, expected))| found != expected)
                    .map(|(index, (found, expected))| differ(index, found, expected))
                    .collect();
                if let Some(first) = bad.first() {
                    wrong.push(format!("{} of {count}: {first}", bad.len()));
                }
            }
            assert!(wrong.is_empty(), "{source} {options:?} {model:?}:\n{}", wrong.join("\n"));
        }
    }
    Ok(())
}

/// All pairs of the special numbers, and random ones; the third number goes through both.
fn triples(special: &[u64], random: usize, seed: u64) -> Vec<u64> {
    let mut numbers = Numbers(seed);
    let mut triples = Vec::new();
    for (row, a) in special.iter().enumerate() {
        for (column, b) in special.iter().enumerate() {
            let third = special.get((row * 7 + column * 3) % special.len());
            triples.extend([*a, *b, third.copied().unwrap_or_default()]);
        }
    }
    for _ in 0..random {
        // Random magnitudes as well.
        let [a, b, c] = [0; 3].map(|_| {
            let shift = numbers.next() % 64;
            numbers.next() >> shift
        });
        triples.extend([a, b, c]);
    }
    triples
}

#[test]
fn integers() -> Outcome<()> {
    let mut special = vec![];
    for bits in [7, 8, 15, 16, 31, 32, 63] {
        let power = 1_u64 << bits;
        special.extend([power - 1, power, power.wrapping_neg()]);
    }
    special.extend([
        0,
        1,
        2,
        3,
        5,
        24,
        33,
        64,
        200,
        255,
        u64::MAX,
        u64::MAX - 1,
        0x5A5A_5A5A_1234_89AB,
    ]);
    compare("integers.cu", &triples(&special, 1000, 1), &[&[], &["-G"]])
}

#[test]
fn floats() -> Outcome<()> {
    let mut special: Vec<u64> = Vec::new();
    // The low words are single precision, the whole numbers are double precision.
    let words = [
        0x0000_0000_u32,
        0x8000_0000,
        0x0000_0001,
        0x8000_0003,
        0x007F_FFFF,
        0x0080_0000,
        0x3F80_0000,
        0x3F80_0001,
        0xBF7F_FFFF,
        0x4B80_0001,
        0x7F7F_FFFF,
        0x7F80_0000,
        0xFF80_0000,
        0x7FC0_0000,
        0x7F80_0001,
        0x3F00_0000,
        0x3FC0_0000,
        0xC020_0000,
        0x4F00_0000,
        0xCF00_0000,
        0x4F80_0000,
        0x5F00_0000,
        0xDF00_0001,
        0x4EFF_FFFF,
        0x0D00_0000,
        0x42F6_E979,
    ];
    special.extend(words.map(u64::from));
    let doubles = [
        0.1,
        -0.5,
        1.5,
        2.5,
        1e300,
        -1e-300,
        5e-324,
        3.4028235e38,
        3.402824e38,
        1e-45,
        1.4e-46,
        2147483647.5,
        -2147483649.0,
        9.3e18,
        1.9e19,
        f64::INFINITY,
        f64::NAN,
        -0.0,
        1.0 + f64::EPSILON,
        16777217.0,
    ];
    special.extend(doubles.map(f64::to_bits));
    let mut triples = triples(&special, 600, 2);
    // Numbers of like size, so that sums cancel and round.
    let mut numbers = Numbers(3);
    for _ in 0..600 {
        let [a, b, c] = [0; 3].map(|_| {
            let bits = numbers.next();
            let single = (bits as u32 & 0x81FF_FFFF) | 0x3E00_0000;
            (bits & 0x801F_FFFF_0000_0000) | 0x3FE0_0000_0000_0000 | u64::from(single)
        });
        triples.extend([a, b, c]);
    }
    compare("floats.cu", &triples, &[&[]])
}

#[test]
fn control_flow() -> Outcome<()> {
    let special = [0, 1, 2, 5, 10, 31, 32, 100, 0xFFFF_FFFF, u64::MAX];
    compare(
        "control.cu",
        &triples(&special, 300, 4),
        &[&[], &["-G"], &["-lineinfo", "-Xcicc", "-O1"]],
    )
}

#[test]
fn small_floats() -> Outcome<()> {
    let mut numbers = Numbers(5);
    let mut triples = Vec::new();
    // All values of 16 bits, and single precision of the sizes that the small formats have.
    for value in 0..1 << 16 {
        let other = numbers.next();
        triples.extend([value, other & 0xFFFF, other >> 32 & 0xFFFF]);
        if value % 16 != 0 {
            continue;
        }
        let single = |bits: u64| (bits & 0x87FF_FFFF) + 0x3C00_0000;
        triples.extend([single(other), single(other >> 29), other >> 7]);
    }
    let special = [
        0.0_f32,
        -0.0,
        0.25,
        0.75,
        1.25,
        2.5,
        3.5,
        5.0,
        -6.0,
        6.5,
        7.0,
        448.0,
        464.0,
        480.0,
        57344.0,
        65504.0,
        65519.9,
        65520.0,
        1e-3,
        0.001_953_125,
        0.000_976_562_5,
        3e38,
        f32::INFINITY,
        f32::NAN,
        6e-8,
        2.9e-8,
        1e-40,
        28.0,
        30.0,
    ];
    for a in special {
        for b in special {
            let word = |value: f32| u64::from(value.to_bits());
            triples.extend([word(a), word(b), word(-a)]);
            triples.extend([f64::from(a).to_bits(), word(-b), word(a)]);
        }
    }
    compare("small_floats.cu", &triples, &[&[]])
}

#[test]
fn threads_that_work_together() -> Outcome<()> {
    const THREADS: usize = 96;
    const TOTAL: usize = THREADS * 6;
    const PARTS: usize = 15;
    let Some(nvcc) = support::nvcc_or_skip("cooperation.cu") else { return Ok(()) };
    let mut numbers = Numbers(6);
    let input: Vec<u64> = (0..TOTAL)
        .map(|_| {
            let shift = numbers.next() % 60;
            numbers.next() >> shift
        })
        .collect();
    let expected =
        support::numbers(&support::on_host(&nvcc, "cooperation.cu", &support::bytes(&input))?);
    assert_eq!(expected.len(), PARTS * TOTAL + 38);
    for options in [&[][..], &["-G"]] {
        let container = support::fat_binary(&nvcc, "cooperation.cu", options)?;
        let schedules = [Schedule::Eager, Schedule::Lazy, Schedule::Random];
        for (schedule, seed) in schedules.into_iter().cycle().zip(0..6) {
            let model = if seed % 2 == 0 { Model::B200 } else { Model::H100 };
            let settings = Settings { schedule, seed, ..Settings::new(model) };
            let device = Device::new(settings, &container)?;
            let from = device.upload(&support::bytes(&input))?;
            let to = device.allocate(8 * (PARTS * TOTAL) as u64)?;
            let mut counts = [0_u8; 4 * 38];
            counts[4 * 33..4 * 34].fill(0xFF);
            let counts = device.upload(&counts)?;
            device.launch(
                "cooperate",
                Shape { grid: 6, block: THREADS as u32, dynamic_shared: 8 * THREADS as u32 },
                &[&from.to_le_bytes(), &to.to_le_bytes(), &counts.to_le_bytes()],
            )?;
            let mut found = support::numbers(&device.download(to, 8 * PARTS * TOTAL)?);
            let words = device.download(counts, 4 * 38)?;
            let words = words.as_chunks::<4>().0.iter();
            found.extend(words.map(|word| u64::from(u32::from_le_bytes(*word))));
            let wrong = found.iter().zip(&expected).enumerate().filter(|(_, (a, b))| a != b);
            let wrong: Vec<_> = wrong
                .map(|(at, (a, b))| {
                    format!("part {}, {}: {a:#x}, not {b:#x}", at / TOTAL, at % TOTAL)
                })
                .collect();
            let first = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
            assert!(wrong.is_empty(), "{options:?} {model:?} {schedule:?}:\n{first}");
        }
    }
    Ok(())
}
