//! Who may touch which part of tensor memory when, and in which order commits arrive: small kernels by hand.

mod support;

use emulator::fault::{Fault, FaultKind};
use emulator::settings::{Model, Schedule, Settings};
use support::{Device, Outcome, Shape};

const THREADS: u32 = 128;
const WORDS: usize = 8 * THREADS as usize;

/// A kernel with operands that are all 1: D of 64 rows and 8 columns from any lane and column is 16 for each MMA.
///
/// `%r2` is shared memory with five mbarriers from 0xE000 (`%r3`) on; `%r4` tensor memory; `%r5` that of the warp's
/// lanes; `%p1` is true in the thread that issues. Each thread has eight words of output at `%rd1`.
fn text(body: &str) -> String {
    format!(
        ".version 8.8\n.target sm_100a\n.address_size 64\n.extern .shared .align 1024 .b8 smem[];\n\
         .visible .entry k(.param .u64 out)\n{{\n\
         .reg .pred %p<10>;\n.reg .b32 %r<60>;\n.reg .b64 %rd<20>;\n\
         ld.param.b64 %rd1, [out];\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %rd2, %r1, 32;\nadd.s64 %rd1, %rd1, %rd2;\n\
         mov.u32 %r2, smem;\nadd.s32 %r3, %r2, 0xE000;\nsetp.eq.u32 %p1, %r1, 0;\n\
         shl.b32 %r10, %r1, 4;\nmov.b32 %r11, 0x3C003C00;\n\
         FILL: add.s32 %r12, %r2, %r10;\nst.shared.v4.b32 [%r12], {{%r11, %r11, %r11, %r11}};\n\
         add.s32 %r10, %r10, 2048;\nsetp.lt.u32 %p2, %r10, 0x8000;\n@%p2 bra FILL;\n\
         fence.proxy.async.shared::cta;\n\
         @%p1 mbarrier.init.shared::cta.b64 [%r3], 1;\n@%p1 mbarrier.init.shared::cta.b64 [%r3+8], 1;\n\
         @%p1 mbarrier.init.shared::cta.b64 [%r3+16], 1;\n@%p1 mbarrier.init.shared::cta.b64 [%r3+24], 1;\n\
         shr.u32 %r13, %r1, 5;\nsetp.ne.u32 %p3, %r13, 0;\n@%p3 bra ALLOCATED;\n\
         tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r3+64], 32;\n\
         ALLOCATED: bar.sync 0;\nld.shared.b32 %r4, [%r3+64];\n\
         shl.b32 %r14, %r13, 21;\nadd.s32 %r5, %r4, %r14;\nadd.s32 %r6, %r4, 0x100000;\nadd.s32 %r7, %r5, 0x100000;\n\
         shr.b32 %r15, %r2, 4;\nand.b32 %r15, %r15, 0x3FFF;\ncvt.u64.u32 %rd10, %r15;\n\
         or.b64 %rd10, %rd10, 0x4000404000010000;\n\
         mov.b32 %r16, 0x4020010;\nmov.b32 %r17, 0;\nsetp.ne.u32 %p8, %r1, %r1;\nsetp.eq.u32 %p9, %r1, %r1;\n\
         {body}\n\
         bar.sync 0;\n@%p3 bra DONE;\ntcgen05.dealloc.cta_group::1.sync.aligned.b32 %r4, 32;\nDONE: ret;\n}}\n"
    )
}

/// An MMA of 64 rows into D at an address, by the thread that issues.
fn mma(d: &str) -> String {
    format!(
        "@%p1 tcgen05.mma.cta_group::1.kind::f16 [{d}], %rd10, %rd10, %r16, {{%r17, %r17, %r17, %r17}}, %p8;\n"
    )
}

fn commit(barrier: u32) -> String {
    format!(
        "@%p1 tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%r3+{}];\n",
        8 * barrier
    )
}

/// All wait for phase 0 of a barrier.
fn wait(barrier: u32, label: &str) -> String {
    format!(
        "{label}: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r3+{}], 0;\n@!%p5 bra {label};\n",
        8 * barrier
    )
}

const LOADED: &str = "tcgen05.wait::ld.sync.aligned;\n";

fn store(at: u32) -> String {
    format!("st.global.v4.b32 [%rd1+{at}], {{%r20, %r21, %r22, %r23}};\n")
}

fn schedules() -> Vec<Settings> {
    let some = [(Schedule::Eager, 0), (Schedule::Lazy, 0)].into_iter();
    let random = (0..6).map(|seed| (Schedule::Random, seed));
    let settings = some.chain(random).map(|(schedule, seed)| {
        let mut settings = Settings::new(Model::B200);
        (settings.schedule, settings.seed, settings.steps) = (schedule, seed, 1 << 20);
        settings
    });
    settings.collect()
}

fn run(body: &str, settings: Settings) -> Outcome<Vec<f32>> {
    let device = Device::with_ptx(settings, &text(body))?;
    let out = device.upload(&[0; 4 * WORDS])?;
    let shape = Shape { grid: 1, block: THREADS, dynamic_shared: 0xE100 };
    device.launch("k", shape, &[&out.to_le_bytes()])?;
    let bytes = device.download(out, 4 * WORDS)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

/// The kind of the fault that has to come under each schedule.
fn refused(body: &str, expected: FaultKind) -> Outcome<()> {
    for settings in schedules() {
        let what = format!("{:?}, seed {}", settings.schedule, settings.seed);
        let fault = run(body, settings).err().ok_or(format!("no fault: {what}\n{body}"))?;
        let kind = fault.downcast_ref::<Fault>().map(|fault| fault.kind);
        assert_eq!(kind, Some(expected), "{what}: {fault}\n{body}");
    }
    Ok(())
}

/// Two accumulators of 64 rows in the same columns, 16 lanes apart. One is read while the other is written.
#[test]
fn a_load_of_one_stage_under_the_mma_of_the_other_in_the_same_columns() -> Outcome<()> {
    let both = |load: &str| {
        [
            &*mma("%r4"),
            &commit(0),
            &wait(0, "FIRST"),
            "bar.sync 0;\n",
            &mma("%r6"),
            &commit(1),
            "bar.sync 0;\n",
            &format!("tcgen05.ld.sync.aligned.{load};\n"),
            LOADED,
            &store(0),
            &wait(1, "SECOND"),
            "tcgen05.ld.sync.aligned.16x64b.x4.b32 {%r20, %r21, %r22, %r23}, [%r7];\n",
            LOADED,
            &store(16),
        ]
        .concat()
    };
    let registers = "{%r20, %r21, %r22, %r23}";
    for settings in schedules() {
        let cells = run(&both(&format!("16x64b.x4.b32 {registers}, [%r5]")), settings)?;
        assert_eq!(cells, vec![16.0; WORDS]);
    }
    for load in ["16x64b.x4.b32 {}, [%r7]", "32x32b.x4.b32 {}, [%r5]"] {
        refused(&both(&load.replace("{}", registers)), FaultKind::TensorHazard)?;
    }
    Ok(())
}

/// The other way round: an MMA writes while a load of the other stage was not waited for.
#[test]
fn an_mma_under_a_load_that_was_not_waited_for() -> Outcome<()> {
    let both = |load: &str, d: &str| {
        [
            &*mma("%r4"),
            &mma("%r6"),
            &commit(0),
            &wait(0, "FIRST"),
            &format!(
                "tcgen05.ld.sync.aligned.16x64b.x4.b32 {{%r20, %r21, %r22, %r23}}, [{load}];\n"
            ),
            "bar.sync 0;\n",
            &mma(d),
            &commit(1),
            LOADED,
            &store(0),
            &store(16),
            &wait(1, "SECOND"),
        ]
        .concat()
    };
    for settings in schedules() {
        assert_eq!(run(&both("%r5", "%r6"), settings.clone())?, vec![16.0; WORDS]);
        assert_eq!(run(&both("%r7", "%r4"), settings)?, vec![16.0; WORDS]);
    }
    // A warp is free to wait before another one issues, so only some schedules can show it.
    for (load, d) in [("%r5", "%r4"), ("%r7", "%r6")] {
        let found =
            schedules().into_iter().filter_map(|settings| run(&both(load, d), settings).err());
        let kinds: Vec<_> = found
            .filter_map(|fault| fault.downcast_ref::<Fault>().map(|fault| fault.kind))
            .collect();
        assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == FaultKind::TensorHazard));
    }
    Ok(())
}

/// The second of two commits tracks what the first does, but its arrival may be the first to come.
#[test]
fn arrivals_of_two_commits_come_in_any_order() -> Outcome<()> {
    let body = [
        &*mma("%r4"),
        &commit(0),
        &mma("%r6"),
        &commit(1),
        &wait(1, "SECOND"),
        "mbarrier.test_wait.parity.shared::cta.b64 %p6, [%r3], 0;\nselp.u32 %r30, 1, 0, %p6;\n",
        "tcgen05.ld.sync.aligned.32x32b.x4.b32 {%r20, %r21, %r22, %r23}, [%r5];\n",
        LOADED,
        &store(0),
        &wait(0, "FIRST"),
        "st.global.b32 [%rd1+16], %r30;\n",
    ]
    .concat();
    let mut orders = [false; 2];
    for seed in 0..20 {
        let mut settings = Settings::new(Model::B200);
        (settings.schedule, settings.seed, settings.steps) = (Schedule::Random, seed, 1 << 20);
        let cells = run(&body, settings)?;
        // Whichever comes first: after the second, both accumulators are there.
        for thread in cells.chunks_exact(8) {
            assert_eq!(thread[..4], [16.0; 4]);
            orders[usize::from(thread[4].to_bits() == 1)] = true;
        }
    }
    assert_eq!(orders, [true, true]);
    Ok(())
}

/// A commit tracks what its own thread issued.
#[test]
fn a_commit_of_another_thread_says_nothing() -> Outcome<()> {
    let body = |commits: &str| {
        [
            &*mma("%r4"),
            "bar.sync 0;\n",
            &commit(0).replace("@%p1", commits),
            &wait(0, "FIRST"),
            "tcgen05.ld.sync.aligned.16x64b.x4.b32 {%r20, %r21, %r22, %r23}, [%r5];\n",
            LOADED,
            &store(0),
            // The kernel may only end when all is done.
            &commit(1),
            &wait(1, "SECOND"),
        ]
        .concat()
    };
    for settings in schedules() {
        assert_eq!(run(&body("@%p1"), settings)?[..4], [16.0; 4]);
    }
    refused(&body("setp.eq.u32 %p4, %r1, 32;\n@%p4"), FaultKind::TensorHazard)
}
