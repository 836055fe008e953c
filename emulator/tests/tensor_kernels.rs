//! Kernels that use the tensor cores by hand, against integers; and what becomes of them when a rule is broken.
//!
//! The image of shared memory is made here by the formulas of the PTX manual, so that the descriptors' address map, the
//! layout of scale factors and the accumulator's are checked absolutely, not against a second use of the same code.

use std::fmt::Write;

use emulator::counters::Counters;
use emulator::execute;
use emulator::fault::{Fault, FaultKind, Result};
use emulator::machine::global::GlobalMemory;
use emulator::machine::{Launch, Machine};
use emulator::settings::{Checks, Model, Schedule, Settings};
use emulator::{isa, ptx};

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

/// Dynamic shared memory of every kernel here.
const SHARED: u32 = 0xC000;
/// Where the parts lie, from its beginning.
const B: u32 = 0x4000;
const SFA: u32 = 0x8000;
const SFB: u32 = 0x8800;
const IMAGE: u32 = 0x9800;
const BARRIER: u32 = 0x9800;
const SLOT: u32 = 0x9810;

/// Columns of tensor memory of the scale factors.
const SFA_COLUMN: u32 = 256;
const SFB_COLUMN: u32 = 264;

struct Run {
    cells: Vec<u32>,
    counters: Counters,
}

/// Runs a kernel of one cluster: parameters are the addresses of the images and of `cells` words of output.
fn run(
    text: &str,
    threads: u32,
    images: &[Vec<u8>],
    cells: usize,
    settings: Settings,
) -> Result<Run> {
    let memory = GlobalMemory::default();
    let missing = || Fault::new(FaultKind::Launch, "no memory");
    let size = images[0].len() as u64;
    let image = memory.allocate(size * images.len() as u64).ok_or_else(missing)?;
    for (rank, bytes) in (0..).zip(images) {
        memory.write(image + rank * size, bytes)?;
    }
    let out = memory.allocate(4 * cells as u64).ok_or_else(missing)?;
    let machine = Machine { settings, memory };
    let module = ptx::parse(text)?;
    let program = isa::lower(&module, &|_| None)?;
    let kernel = program.kernels.get("k").cloned().ok_or_else(missing)?;
    let ranks = images.len() as u32;
    let parameters = [image.to_le_bytes(), out.to_le_bytes()].concat();
    let launch = Launch {
        program: program.into(),
        kernel,
        grid: [ranks, 1, 1],
        block: [threads, 1, 1],
        cluster: [ranks, 1, 1],
        dynamic_shared: SHARED,
        parameters,
        blocks_per_sm: 1,
        cooperative: false,
    };
    let counters = execute::launch(&machine, &launch)?;
    let mut bytes = vec![0; 4 * cells];
    machine.memory.read(out, &mut bytes, true)?;
    let cells = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Ok(Run { cells: cells.collect(), counters })
}

fn settings(schedule: Schedule, seed: u64) -> Settings {
    let mut settings = Settings::new(Model::B200);
    settings.schedule = schedule;
    settings.seed = seed;
    settings.threads = 1;
    settings.steps = 1 << 20;
    settings
}

fn schedules() -> Vec<Settings> {
    let random = (0..6).map(|seed| settings(Schedule::Random, seed));
    [settings(Schedule::Eager, 0), settings(Schedule::Lazy, 0)].into_iter().chain(random).collect()
}

fn kind(result: Result<Run>) -> Option<FaultKind> {
    result.err().map(|fault| fault.kind)
}

/// `%r100, %r101, …`
fn registers(first: u32, count: u32) -> String {
    let names: Vec<String> = (first..first + count).map(|at| format!("%r{at}")).collect();
    names.join(", ")
}

/// A descriptor of what lies so far into shared memory, into a 64-bit register.
fn descriptor(text: &mut String, register: &str, offset: u32, high: u64) {
    let _ = writeln!(
        text,
        "add.s32 %r90, %r2, {offset};\nshr.b32 %r90, %r90, 4;\nand.b32 %r90, %r90, 0x3FFF;\n\
         cvt.u64.u32 {register}, %r90;\nor.b64 {register}, {register}, {high:#x};"
    );
}

/// The parts of a kernel for tcgen05 that tests replace.
struct Kernel {
    group: u32,
    /// Columns of D that each thread block reads.
    columns: u32,
    /// What one thread issues: %r13 is the address of tensor memory.
    issue: String,
}

impl Kernel {
    fn text(&self) -> String {
        let Self { group, columns, issue } = self;
        let sync = if *group == 2 {
            "barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;"
        } else {
            "bar.sync 0;"
        };
        let (to, mask) = if *group == 2 { (".multicast::cluster", ", 3") } else { ("", "") };
        let mut stores = String::new();
        for at in (0..*columns).step_by(4) {
            let _ = writeln!(
                stores,
                "st.global.v4.b32 [%rd7+{}], {{{}}};",
                4 * at,
                registers(100 + at, 4)
            );
        }
        let names = registers(100, *columns);
        let bytes = 4 * columns;
        format!(
            ".version 8.8\n.target sm_100a\n.address_size 64\n\
             .extern .shared .align 1024 .b8 smem[];\n\
             .visible .entry k(.param .u64 image, .param .u64 out)\n{{\n\
             .reg .pred %p<10>;\n.reg .b32 %r<400>;\n.reg .b64 %rd<20>;\n\
             ld.param.b64 %rd1, [image];\nld.param.b64 %rd2, [out];\n\
             mov.u32 %r1, %tid.x;\nmov.u32 %r2, smem;\nmov.u32 %r3, %cluster_ctarank;\n\
             mul.wide.u32 %rd3, %r3, {IMAGE};\nadd.s64 %rd3, %rd1, %rd3;\nshl.b32 %r4, %r1, 4;\n\
             COPY:\n\
             cvt.u64.u32 %rd4, %r4;\nadd.s64 %rd5, %rd3, %rd4;\n\
             ld.global.v4.b32 {{%r5, %r6, %r7, %r8}}, [%rd5];\nadd.s32 %r9, %r2, %r4;\n\
             st.shared.v4.b32 [%r9], {{%r5, %r6, %r7, %r8}};\nadd.s32 %r4, %r4, 2048;\n\
             setp.lt.u32 %p1, %r4, {IMAGE};\n@%p1 bra COPY;\n\
             fence.proxy.async.shared::cta;\n\
             setp.eq.u32 %p2, %r1, 0;\nadd.s32 %r10, %r2, {BARRIER};\n\
             @%p2 mbarrier.init.shared::cta.b64 [%r10], 1;\n\
             shr.u32 %r11, %r1, 5;\nsetp.ne.u32 %p3, %r11, 0;\nadd.s32 %r12, %r2, {SLOT};\n\
             @%p3 bra ALLOCATED;\n\
             tcgen05.alloc.cta_group::{group}.sync.aligned.shared::cta.b32 [%r12], 512;\n\
             tcgen05.relinquish_alloc_permit.cta_group::{group}.sync.aligned;\n\
             ALLOCATED:\n{sync}\nld.shared.b32 %r13, [%r12];\n\
             setp.eq.u32 %p4, %r3, 0;\nand.pred %p5, %p2, %p4;\n@!%p5 bra ISSUED;\n\
             setp.ne.u32 %p8, %r3, %r3;\nsetp.eq.u32 %p9, %r3, %r3;\n\
             {issue}\n\
             tcgen05.commit.cta_group::{group}.mbarrier::arrive::one.shared::cluster{to}.b64 [%r10]{mask};\n\
             ISSUED:\n\
             WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p6, [%r10], 0;\n@!%p6 bra WAIT;\n\
             shl.b32 %r14, %r11, 21;\nadd.s32 %r15, %r13, %r14;\n\
             tcgen05.ld.sync.aligned.32x32b.x{columns}.b32{{{names}}}, [%r15];\n\
             tcgen05.wait::ld.sync.aligned;\n\
             mad.lo.u32 %r16, %r3, 128, %r1;\nmul.wide.u32 %rd6, %r16, {bytes};\n\
             add.s64 %rd7, %rd2, %rd6;\n{stores}{sync}\n@%p3 bra DONE;\n\
             tcgen05.dealloc.cta_group::{group}.sync.aligned.b32 %r13, 512;\n\
             DONE:\nret;\n}}\n"
        )
    }
}

/// Where byte `c` of row `r` of an operand with 128-byte rows and 128-byte swizzle lies (PTX ISA, "Swizzling modes"):
/// bits 4 to 6 of the address are XORed with bits 7 to 9. The operand begins at a multiple of 1024.
fn swizzled(row: usize, byte: usize) -> usize {
    row * 128 + (byte ^ (row % 8) << 4)
}

const OPERAND: u64 = 0x4000_4040_0001_0000;
const SCALES: u64 = 0x0000_4008_0001_0000;

const DOUBLED: [i64; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// UE4M3 in units of 2^-9.
fn ue4m3(code: u8) -> i64 {
    let (exponent, mantissa) = (i64::from(code >> 3), i64::from(code & 7));
    if exponent == 0 { mantissa } else { (8 | mantissa) << (exponent - 1) }
}

/// A problem of `m` by `n` by 64 in NVFP4 with distinct random scales.
struct Nvfp4 {
    a: Vec<[u8; 64]>,
    b: Vec<[u8; 64]>,
    a_scales: Vec<[u8; 4]>,
    b_scales: Vec<[u8; 4]>,
}

impl Nvfp4 {
    fn new(m: usize, n: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut codes = |rows: usize| -> Vec<[u8; 64]> {
            (0..rows).map(|_| std::array::from_fn(|_| random.next() as u8 & 15)).collect()
        };
        let (a, b) = (codes(m), codes(n));
        let mut scales = |rows: usize| -> Vec<[u8; 4]> {
            (0..rows).map(|_| std::array::from_fn(|_| (random.next() % 0x7F) as u8)).collect()
        };
        Self { a_scales: scales(m), b_scales: scales(n), a, b }
    }

    /// Shared memory of a thread block with these rows of A, of B, and scale factors of these rows of B.
    fn image(&self, a: std::ops::Range<usize>, b: std::ops::Range<usize>) -> Vec<u8> {
        let mut image = vec![0; IMAGE as usize];
        for (at, rows) in [(0, &self.a[a.clone()]), (B as usize, &self.b[b])] {
            for (row, codes) in rows.iter().enumerate() {
                for (k, code) in codes.iter().enumerate() {
                    image[at + swizzled(row, k / 2)] |= code << (4 * (k % 2));
                }
            }
        }
        // CUTLASS, sm100_blockscaled_layout.hpp: 128 rows to an atom of 512 bytes.
        for (at, scales) in [(SFA, &self.a_scales[a]), (SFB, &self.b_scales[..])] {
            for (row, codes) in scales.iter().enumerate() {
                let offset = row / 128 * 512 + row % 32 * 16 + row % 128 / 32 * 4;
                image[at as usize + offset..][..4].copy_from_slice(codes);
            }
        }
        image
    }

    fn expected(&self, m: usize, n: usize) -> f32 {
        let sum: i64 = (0..4)
            .map(|group| {
                let products = (16 * group..16 * group + 16).map(|k| {
                    DOUBLED[usize::from(self.a[m][k])] * DOUBLED[usize::from(self.b[n][k])]
                });
                products.sum::<i64>()
                    * ue4m3(self.a_scales[m][group])
                    * ue4m3(self.b_scales[n][group])
            })
            .sum();
        // Fewer than 53 bits, so that this rounds once.
        (sum as f64 * 2f64.powi(-20)) as f32
    }

    fn issue(group: u32, m: u32, n: u32) -> String {
        let mut text = String::new();
        descriptor(&mut text, "%rd10", 0, OPERAND);
        descriptor(&mut text, "%rd11", B, OPERAND);
        descriptor(&mut text, "%rd12", SFA, SCALES);
        let _ = writeln!(text, "add.s32 %r20, %r13, {SFA_COLUMN};");
        let _ = writeln!(text, "tcgen05.cp.cta_group::{group}.32x128b.warpx4 [%r20], %rd12;");
        for atom in 0..n.div_ceil(128) {
            descriptor(&mut text, "%rd13", SFB + 512 * atom, SCALES);
            let _ = writeln!(text, "add.s32 %r21, %r13, {};", SFB_COLUMN + 4 * atom);
            let _ = writeln!(text, "tcgen05.cp.cta_group::{group}.32x128b.warpx4 [%r21], %rd13;");
        }
        let idesc = 1 << 7 | 1 << 10 | (n / 8) << 17 | (m / 16) << 24;
        let _ = writeln!(
            text,
            "add.s32 %r21, %r13, {SFB_COLUMN};\nmov.b32 %r22, {idesc};\n\
             tcgen05.mma.cta_group::{group}.kind::mxf4nvf4.block_scale.block16 [%r13], %rd10, %rd11, %r22, \
             [%r20], [%r21], %p8;"
        );
        text
    }
}

#[test]
fn nvfp4_of_one_thread_block() -> Result<()> {
    for n in [64usize, 128] {
        let case = Nvfp4::new(128, n, 1);
        let kernel = Kernel { group: 1, columns: n as u32, issue: Nvfp4::issue(1, 128, n as u32) };
        for settings in schedules() {
            let result = run(&kernel.text(), 128, &[case.image(0..128, 0..n)], 128 * n, settings)?;
            for (at, cell) in result.cells.iter().enumerate() {
                let expected = case.expected(at / n, at % n);
                assert_eq!(f32::from_bits(*cell), expected, "row {}, column {}", at / n, at % n);
            }
            let key = format!("mxf4nvf4 cta_group::1 128x{n}x64");
            assert_eq!(result.counters.mma.get(&key), Some(&1));
        }
    }
    Ok(())
}

#[test]
fn nvfp4_of_a_pair() -> Result<()> {
    // Each thread block: half of the rows of A, half of the columns of B, and all scale factors of B.
    let (m, n) = (256, 128);
    let case = Nvfp4::new(m, n, 2);
    let kernel = Kernel { group: 2, columns: n as u32, issue: Nvfp4::issue(2, 256, n as u32) };
    let images = [case.image(0..128, 0..64), case.image(128..256, 64..128)];
    for settings in schedules() {
        let result = run(&kernel.text(), 128, &images, m * n, settings)?;
        for (at, cell) in result.cells.iter().enumerate() {
            let expected = case.expected(at / n, at % n);
            assert_eq!(f32::from_bits(*cell), expected, "row {}, column {}", at / n, at % n);
        }
    }
    Ok(())
}

/// Half-precision integers, so that every sum is exact.
struct Halves {
    a: Vec<[i8; 16]>,
    b: Vec<[i8; 16]>,
}

/// A small integer as binary16.
fn half(value: i8) -> u16 {
    if value == 0 {
        return 0;
    }
    let magnitude = u16::from(value.unsigned_abs());
    let leading = 15 - magnitude.leading_zeros() as u16;
    let sign = if value < 0 { 0x8000 } else { 0 };
    sign | (leading + 15) << 10 | (magnitude << (10 - leading)) & 0x3FF
}

impl Halves {
    fn new(m: usize, n: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut matrix = |rows: usize| -> Vec<[i8; 16]> {
            (0..rows).map(|_| std::array::from_fn(|_| (random.next() % 31) as i8 - 15)).collect()
        };
        Self { a: matrix(m), b: matrix(n) }
    }

    fn image(&self, a: std::ops::Range<usize>, b: std::ops::Range<usize>) -> Vec<u8> {
        let mut image = vec![0; IMAGE as usize];
        for (at, rows) in [(0, &self.a[a]), (B as usize, &self.b[b])] {
            for (row, values) in rows.iter().enumerate() {
                for (k, value) in values.iter().enumerate() {
                    let place = at + swizzled(row, 2 * k);
                    image[place..place + 2].copy_from_slice(&half(*value).to_le_bytes());
                }
            }
        }
        image
    }

    fn expected(&self, m: usize, n: usize) -> f32 {
        let products = self.a[m].iter().zip(&self.b[n]);
        products.map(|(a, b)| i32::from(*a) * i32::from(*b)).sum::<i32>() as f32
    }

    /// Two MMAs: the second adds the same once more.
    fn issue(group: u32, m: u32, n: u32, collectors: [&str; 2]) -> String {
        let mut text = String::new();
        descriptor(&mut text, "%rd10", 0, OPERAND);
        descriptor(&mut text, "%rd11", B, OPERAND);
        let idesc = 1 << 4 | (n / 8) << 17 | (m / 16) << 24;
        let zeros = vec!["%r23"; 4 * group as usize].join(", ");
        let _ = writeln!(text, "mov.b32 %r22, {idesc};\nmov.b32 %r23, 0;");
        for (collector, predicate) in collectors.iter().zip(["%p8", "%p9"]) {
            let _ = writeln!(
                text,
                "tcgen05.mma.cta_group::{group}.kind::f16{collector} [%r13], %rd10, %rd11, %r22, \
                 {{{zeros}}}, {predicate};"
            );
        }
        text
    }
}

const FILL: [&str; 2] = [".collector::a::fill", ".collector::a::lastuse"];

#[test]
fn halves_of_one_thread_block() -> Result<()> {
    let n = 64;
    let case = Halves::new(128, n, 3);
    let kernel =
        Kernel { group: 1, columns: n as u32, issue: Halves::issue(1, 128, n as u32, FILL) };
    for settings in schedules() {
        let result = run(&kernel.text(), 128, &[case.image(0..128, 0..n)], 128 * n, settings)?;
        for (at, cell) in result.cells.iter().enumerate() {
            assert_eq!(f32::from_bits(*cell), 2.0 * case.expected(at / n, at % n), "{at}");
        }
    }
    Ok(())
}

#[test]
fn halves_of_a_pair_with_128_rows() -> Result<()> {
    // 64 rows to a thread block: columns 0..n/2 in lanes 0..64, the others in lanes 64..128.
    let n = 128;
    let case = Halves::new(128, n, 4);
    let kernel = Kernel { group: 2, columns: 64, issue: Halves::issue(2, 128, n as u32, FILL) };
    let images = [case.image(0..64, 0..64), case.image(64..128, 64..128)];
    for settings in schedules() {
        let result = run(&kernel.text(), 128, &images, 2 * 128 * 64, settings)?;
        for (at, cell) in result.cells.iter().enumerate() {
            let (rank, lane, column) = (at / (128 * 64), at / 64 % 128, at % 64);
            let (m, n) = (64 * rank + lane % 64, 64 * (lane / 64) + column);
            assert_eq!(f32::from_bits(*cell), 2.0 * case.expected(m, n), "row {m}, column {n}");
        }
    }
    Ok(())
}

/// What is changed in the text, and what has to be found.
#[test]
fn broken_rules_are_found() -> Result<()> {
    let case = Nvfp4::new(128, 64, 5);
    let kernel = Kernel { group: 1, columns: 64, issue: Nvfp4::issue(1, 128, 64) };
    let text = kernel.text();
    let images = [case.image(0..128, 0..64)];
    let cp = "tcgen05.cp.cta_group::1.32x128b.warpx4 [%r20], %rd12;";
    let cases = [
        (
            "mbarrier.try_wait.parity.shared::cta.b64 %p6, [%r10], 0;",
            "bar.sync 0;\nsetp.eq.u32 %p6, %r1, %r1;",
            FaultKind::TensorHazard,
        ),
        ("tcgen05.wait::ld.sync.aligned;", "", FaultKind::PendingRegister),
        ("fence.proxy.async.shared::cta;", "", FaultKind::ProxyFence),
        (cp, "", FaultKind::Uninitialised),
        ("shl.b32 %r14, %r11, 21;", "shl.b32 %r14, %r11, 20;", FaultKind::TensorMemory),
        (
            "[%r13], %rd10, %rd11, %r22, [%r20], [%r21], %p8",
            "[%r13], %rd10, %rd11, %r22, [%r20], [%r21], %p9",
            FaultKind::Uninitialised,
        ),
        ("[%r12], 512;", "[%r12], 48;", FaultKind::TensorMemory),
        ("[%r12], 512;", "[%r12], 256;", FaultKind::TensorMemory),
        ("%r13, 512;", "%r13, 256;", FaultKind::TensorMemory),
        (
            "@%p3 bra DONE;\ntcgen05.dealloc.cta_group::1.sync.aligned.b32 %r13, 512;",
            "",
            FaultKind::InFlightAtExit,
        ),
        ("mxf4nvf4.block_scale.block16", "mxf4nvf4.block_scale.block32", FaultKind::Descriptor),
        (
            "mxf4nvf4.block_scale.block16",
            "mxf4nvf4.block_scale.block16.collector::a::lastuse",
            FaultKind::Descriptor,
        ),
        (
            "or.b64 %rd10, %rd10, 0x4000404000010000",
            "or.b64 %rd10, %rd10, 0x4000004000010000",
            FaultKind::Descriptor,
        ),
        (
            "tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%r10];",
            "",
            FaultKind::Deadlock,
        ),
        (
            "tcgen05.relinquish_alloc_permit.cta_group::1",
            "tcgen05.relinquish_alloc_permit.cta_group::2",
            FaultKind::TensorMemory,
        ),
    ];
    for (from, to, expected) in cases {
        assert!(text.contains(from), "{from}");
        let broken = text.replacen(from, to, 1);
        for mut settings in [settings(Schedule::Eager, 0), settings(Schedule::Lazy, 0)] {
            let schedule = settings.schedule;
            // Hardware waits for the registers by itself.
            settings.checks.pending_registers = expected == FaultKind::PendingRegister;
            let found = kind(run(&broken, 128, &images, 128 * 64, settings));
            assert_eq!(found, Some(expected), "{from} -> {to} ({schedule:?})");
        }
    }
    Ok(())
}

#[test]
fn a_copy_over_scale_factors_in_use_is_found_by_its_check() -> Result<()> {
    let case = Nvfp4::new(128, 64, 6);
    let mut issue = Nvfp4::issue(1, 128, 64);
    issue.push_str("tcgen05.cp.cta_group::1.32x128b.warpx4 [%r20], %rd12;\n");
    let kernel = Kernel { group: 1, columns: 64, issue };
    let images = [case.image(0..128, 0..64)];
    let mut settings = settings(Schedule::Eager, 0);
    settings.checks = Checks { copy_order: false, ..Checks::ALL };
    run(&kernel.text(), 128, &images, 128 * 64, settings.clone())?;
    settings.checks = Checks { copy_order: true, ..Checks::default() };
    let found = kind(run(&kernel.text(), 128, &images, 128 * 64, settings));
    assert_eq!(found, Some(FaultKind::TensorHazard));
    Ok(())
}

#[test]
fn loads_and_stores_of_all_shapes() -> Result<()> {
    // Columns 0..32 are stored by 32x32b; each shape reads some back. Cell (lane, column) holds 1000 * lane + column.
    // Each line: shape, registers, extra operand, and the map of the manual for thread t and register i.
    type Map = fn(u32, u32) -> (u32, u32);
    let shapes: [(&str, u32, &str, Map); 6] = [
        ("32x32b.x8", 8, "", |t, i| (t, i)),
        ("16x64b.x8", 8, "", |t, i| (t / 4 + t % 2 * 8, t / 2 % 2 + 2 * i)),
        ("16x128b.x4", 8, "", |t, i| (t / 4 + i % 2 * 8, t % 4 + i / 2 * 4)),
        ("16x256b.x2", 8, "", |t, i| (t / 4 + i / 2 % 2 * 8, t % 4 * 2 + i % 2 + i / 4 * 8)),
        ("16x32bx2.x8", 8, ", 16", |t, i| (t % 16, i + t / 16 * 16)),
        ("16x256b.x1.pack::16b", 4, "", |t, i| (t / 4 + i / 2 % 2 * 8, t % 4 * 2 + i % 2)),
    ];
    for (shape, count, extra, map) in shapes {
        let packed = shape.contains("pack");
        let mut text = String::from(
            ".version 8.8\n.target sm_100a\n.address_size 64\n\
             .extern .shared .align 1024 .b8 smem[];\n\
             .visible .entry k(.param .u64 image, .param .u64 out)\n{\n\
             .reg .pred %p<10>;\n.reg .b32 %r<400>;\n.reg .b64 %rd<20>;\n\
             ld.param.b64 %rd2, [out];\nmov.u32 %r1, %tid.x;\nmov.u32 %r2, smem;\n\
             shr.u32 %r11, %r1, 5;\nsetp.ne.u32 %p3, %r11, 0;\n@%p3 bra ALLOCATED;\n\
             tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r2], 32;\n\
             ALLOCATED:\nbar.sync 0;\nld.shared.b32 %r13, [%r2];\n\
             shl.b32 %r14, %r11, 21;\nadd.s32 %r15, %r13, %r14;\nmul.lo.u32 %r3, %r1, 1000;\n",
        );
        for column in 0..32 {
            let _ = writeln!(text, "add.s32 %r{}, %r3, {column};", 100 + column);
        }
        let _ = write!(
            text,
            "tcgen05.st.sync.aligned.32x32b.x32.b32 [%r15], {{{}}};\n\
             tcgen05.wait::st.sync.aligned;\n\
             tcgen05.ld.sync.aligned.{shape}.b32 {{{}}}, [%r15]{extra};\n\
             tcgen05.wait::ld.sync.aligned;\nmul.wide.u32 %rd6, %r1, {};\nadd.s64 %rd7, %rd2, %rd6;\n",
            registers(100, 32),
            registers(200, count),
            4 * count
        );
        for at in 0..count {
            let _ = writeln!(text, "st.global.b32 [%rd7+{}], %r{};", 4 * at, 200 + at);
        }
        text.push_str(
            "bar.sync 0;\n@%p3 bra DONE;\n\
             tcgen05.dealloc.cta_group::1.sync.aligned.b32 %r13, 32;\nDONE:\nret;\n}\n",
        );
        for settings in schedules() {
            let cells = 128 * count as usize;
            let result = run(&text, 128, &[vec![0; 16]], cells, settings)?;
            for (at, cell) in (0..).zip(&result.cells) {
                let (thread, register) = (at / count, at % count);
                let (lane, column) = map(thread % 32, register);
                let lane = lane + thread / 32 * 32;
                let expected = if packed {
                    let value = |column| (1000 * lane + column) & 0xFFFF;
                    value(2 * column) | value(2 * column + 1) << 16
                } else {
                    1000 * lane + column
                };
                assert_eq!(*cell, expected, "{shape} thread {thread} register {register}");
            }
        }
    }
    Ok(())
}
