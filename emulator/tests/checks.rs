//! Broken rules: each small kernel breaks one, and the fault that names it has to come.

use std::sync::Arc;

use emulator::execute;
use emulator::fault::{Fault, FaultKind, Result};
use emulator::isa::{Program, lower};
use emulator::machine::global::GlobalMemory;
use emulator::machine::{Launch, Machine};
use emulator::ptx::parse;
use emulator::settings::{Model, Schedule, Settings};

/// What a kernel is run with.
struct Case {
    block: u32,
    grid: u32,
    cluster: u32,
    dynamic_shared: u32,
    schedule: Schedule,
}

impl Default for Case {
    fn default() -> Self {
        Self { block: 32, grid: 1, cluster: 1, dynamic_shared: 4096, schedule: Schedule::Eager }
    }
}

impl Case {
    /// Runs `kernel(pointer)` with this body on 4096 bytes that are zero, and gives them back.
    fn run(&self, body: &str) -> Result<Vec<u8>> {
        let text = format!(
            ".version 9.0\n.target sm_100a\n.address_size 64\n\
             .extern .shared .align 1024 .b8 dynamic[];\n\
             .entry kernel(.param .u64 pointer)\n{{\n\
             .reg .pred %p<10>; .reg .b32 %r<40>; .reg .b64 %rd<20>;\n\
             .shared .align 8 .b8 bars[64];\n\
             ld.param.u64 %rd1, [pointer];\nmov.u32 %r1, %tid.x;\n{body}\n\nret;\n}}\n"
        );
        let program: Program = lower(&parse(&text)?, &|_| None)?;
        let mut settings = Settings::new(Model::B200);
        settings.schedule = self.schedule;
        settings.steps = 1 << 20;
        let machine = Machine { settings, memory: GlobalMemory::default() };
        let address = machine.memory.allocate(4096).unwrap_or(0);
        machine.memory.fill(address, 0, 4096)?;
        let kernel = program.kernels.get("kernel").cloned().unwrap_or_default();
        let launch = Launch {
            program: Arc::new(program),
            kernel,
            grid: [self.grid, 1, 1],
            block: [self.block, 1, 1],
            cluster: [self.cluster, 1, 1],
            dynamic_shared: self.dynamic_shared,
            parameters: address.to_le_bytes().to_vec(),
            blocks_per_sm: 1,
            cooperative: false,
        };
        execute::launch(&machine, &launch)?;
        let mut bytes = vec![0; 4096];
        machine.memory.read(address, &mut bytes, false)?;
        Ok(bytes)
    }

    /// The fault that the body has to cause, after a check of its kind and of a word of its message.
    fn fault(&self, body: &str, kind: FaultKind, word: &str) -> Option<Fault> {
        let fault = self.run(body).err();
        assert!(fault.is_some(), "no fault, but {kind:?} was expected: {body}");
        let fault = fault?;
        assert_eq!(fault.kind, kind, "{fault}\n{body}");
        assert!(fault.to_string().contains(word), "no \"{word}\" in: {fault}\n{body}");
        Some(fault)
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

#[test]
fn a_barrier_that_not_all_reach_is_a_deadlock_and_the_dump_says_who_waits() {
    let body = "setp.ge.u32 %p1, %r1, 32;\n@%p1 bra END;\nbar.sync 1, 64;\nEND:";
    let fault =
        Case { block: 64, ..Case::default() }.fault(body, FaultKind::Deadlock, "1 groups wait");
    let dump = fault.map(|fault| fault.dump.join("\n")).unwrap_or_default();
    assert!(dump.contains("warp 0 lanes 0xffffffff"), "{dump}");
    assert!(dump.contains("named barrier 1, round 0: 32 of 64 threads came"), "{dump}");
}

#[test]
fn a_phase_that_never_completes_names_the_barrier_and_what_is_missing() {
    let body = "mov.u32 %r2, bars;\n\
        setp.ne.u32 %p1, %r1, 0;\n@%p1 bra WAITS;\n\
        mbarrier.init.shared::cta.b64 [%r2+8], 2;\n\
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2+8], 512;\n\
        WAITS: bar.sync 0;\n\
        SPIN: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2+8], 0;\n@!%p2 bra SPIN;";
    let fault = Case::default().fault(body, FaultKind::Deadlock, "1 groups wait");
    let dump = fault.map(|fault| fault.dump.join("\n")).unwrap_or_default();
    assert!(dump.contains("bars+0x8"), "{dump}");
    assert!(
        dump.contains("phase 0 (parity 0): 1 of 2 arrivals and 512 bytes are missing"),
        "{dump}"
    );
    assert!(dump.contains("last to arrive: CTA 0 warp 0 lane 0"), "{dump}");
}

const SCHEDULES: [Schedule; 3] = [Schedule::Eager, Schedule::Lazy, Schedule::Random];

/// A ring of two stages whose consumer asks for the next stage before it gives the last one back, as CUTLASS's main
/// loops do. Full barriers are at 0 and 8, empty ones at 16 and 24. `MISSING` arrivals at an empty one are left out.
const PROBES: &str = "mov.u32 %r2, bars;\nmov.u32 %r11, dynamic;\nmov.u32 %r12, 0;\n\
    setp.ne.u32 %p1, %r1, 0;\n@%p1 bra READY;\n\
    mbarrier.init.shared::cta.b64 [%r2], 1;\nmbarrier.init.shared::cta.b64 [%r2+8], 1;\n\
    mbarrier.init.shared::cta.b64 [%r2+16], 1;\nmbarrier.init.shared::cta.b64 [%r2+24], 1;\n\
    READY: bar.sync 0;\nmov.u32 %r3, 0;\nand.b32 %r4, %r1, 31;\nsetp.ne.u32 %p2, %r4, 0;\n@%p2 bra END;\n\
    setp.ge.u32 %p1, %r1, 32;\n@%p1 bra CONSUMER;\n\
    PRODUCE: and.b32 %r4, %r3, 1;\nshl.b32 %r5, %r4, 3;\nadd.u32 %r5, %r5, %r2;\n\
    shr.u32 %r6, %r3, 1;\nand.b32 %r6, %r6, 1;\nxor.b32 %r7, %r6, 1;\n\
    EMPTY: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r5+16], %r7;\n@!%p3 bra EMPTY;\n\
    shl.b32 %r8, %r4, 2;\nadd.u32 %r8, %r8, %r11;\nst.shared.u32 [%r8], %r3;\n\
    mbarrier.arrive.shared::cta.b64 _, [%r5];\n\
    add.u32 %r3, %r3, 1;\nsetp.lt.u32 %p4, %r3, 6;\n@%p4 bra PRODUCE;\nbra END;\n\
    CONSUMER: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r2], 0;\n\
    CONSUME: and.b32 %r4, %r3, 1;\nshl.b32 %r5, %r4, 3;\nadd.u32 %r5, %r5, %r2;\n\
    shr.u32 %r6, %r3, 1;\nand.b32 %r6, %r6, 1;\n@%p5 bra FULL;\n\
    WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r5], %r6;\n@!%p5 bra WAIT;\n\
    FULL: shl.b32 %r8, %r4, 2;\nadd.u32 %r8, %r8, %r11;\nld.shared.u32 %r9, [%r8];\n\
    mad.lo.u32 %r12, %r12, 10, %r9;\n\
    add.u32 %r8, %r3, 1;\nand.b32 %r4, %r8, 1;\nshl.b32 %r9, %r4, 3;\nadd.u32 %r9, %r9, %r2;\n\
    shr.u32 %r10, %r8, 1;\nand.b32 %r10, %r10, 1;\n\
    mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r9], %r10;\n\
    setp.eq.u32 %p6, %r3, MISSING;\n@%p6 bra NEXT;\nsetp.eq.u32 %p6, %r3, 0;\n@%p6 bra NEXT;\n\
    mbarrier.arrive.shared::cta.b64 _, [%r9+16];\n\
    NEXT: mov.u32 %r3, %r8;\nsetp.lt.u32 %p4, %r3, 6;\n@%p4 bra CONSUME;\n\
    st.global.u32 [%rd1], %r12;\nEND:";

#[test]
fn a_probe_of_the_next_stage_returns_so_that_the_stage_can_be_filled() -> Result<()> {
    for schedule in SCHEDULES {
        let case = Case { block: 64, schedule, ..Case::default() };
        let bytes = case.run(&PROBES.replace("MISSING", "99"))?;
        assert_eq!(words(&bytes)[0], 12345, "{schedule:?}");
        // A stage that is never given back is a deadlock, whatever returns.
        let body = PROBES.replace("MISSING", "3");
        let fault = case.fault(&body, FaultKind::Deadlock, "2 groups wait");
        let dump = fault.map(|fault| fault.dump.join("\n")).unwrap_or_default();
        assert!(dump.contains("bars+0x10 ") && dump.contains("bars+0x0 "), "{dump}");
    }
    Ok(())
}

#[test]
fn waits_in_a_loop_that_cannot_end_are_a_deadlock_and_others_go_on() -> Result<()> {
    let body = |attempts: &str, after: &str| {
        format!(
            "mov.u32 %r2, bars;\nmov.u32 %r3, 0;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 bra END;\n\
             mbarrier.init.shared::cta.b64 [%r2], 1;\nmbarrier.init.shared::cta.b64 [%r2+8], 1;\n\
             SPIN: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], 0;\n@%p2 bra DONE;\n\
             mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2+8], 0;\n{attempts}\nbra SPIN;\n\
             DONE: st.global.u32 [%rd1], 7;\n{after}\nEND:"
        )
    };
    for schedule in SCHEDULES {
        let case = Case { schedule, ..Case::default() };
        // From one barrier to the other, for ever; with a fence, and with a number of attempts that changes a register.
        for attempts in ["", "fence.proxy.async.shared::cta;", "add.u32 %r3, %r3, 1;"] {
            case.fault(&body(attempts, ""), FaultKind::Deadlock, "1 groups wait");
        }
        // Who gives up after some attempts is not stuck.
        let gives_up = "add.u32 %r3, %r3, 1;\nsetp.eq.u32 %p3, %r3, 100;\n@%p3 bra DONE;";
        assert_eq!(words(&case.run(&body(gives_up, ""))?)[0], 7, "{schedule:?}");
        // Nor is who does something else at each attempt that lets it end.
        let arrives = "mbarrier.arrive.shared::cta.b64 _, [%r2];";
        assert_eq!(words(&case.run(&body(arrives, ""))?)[0], 7, "{schedule:?}");
    }
    Ok(())
}

/// Warp 1 polls memory until warp 0, whose wait can only run out of time, writes there.
#[test]
fn a_wait_runs_out_of_time_while_another_warp_polls() -> Result<()> {
    let body = "mov.u32 %r2, bars;\nmov.u32 %r3, dynamic;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 bra READY;\n\
        mbarrier.init.shared::cta.b64 [%r2], 1;\nst.shared.u32 [%r3], 0;\n\
        READY: bar.sync 0;\nsetp.ge.u32 %p1, %r1, 32;\n@%p1 bra POLLS;\n\
        mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r2], 0;\n@%p2 bra END;\n\
        st.volatile.shared.u32 [%r3], 9;\nbra END;\n\
        POLLS: ld.volatile.shared.u32 %r4, [%r3];\nsetp.eq.u32 %p3, %r4, 0;\n@%p3 bra POLLS;\n\
        st.global.u32 [%rd1], %r4;\nEND:";
    for schedule in SCHEDULES {
        let bytes = Case { block: 64, schedule, ..Case::default() }.run(body)?;
        assert_eq!(words(&bytes)[0], 9, "{schedule:?}");
    }
    Ok(())
}

#[test]
fn mbarriers_are_used_by_their_rules() {
    let init = "mov.u32 %r2, bars;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 bra END;\n\
        mbarrier.init.shared::cta.b64 [%r2], 1;\n";
    let case = Case::default();
    let check = |body: &str, kind, word| {
        case.fault(&format!("{init}{body}\nEND:"), kind, word);
    };
    check("mbarrier.arrive.shared::cta.b64 _, [%r2], 2;", FaultKind::Barrier, "2 arrivals where 1");
    check("mbarrier.init.shared::cta.b64 [%r2], 1;", FaultKind::Barrier, "lives already");
    check("mbarrier.arrive.shared::cta.b64 _, [%r2+8];", FaultKind::Barrier, "initialized");
    check("mbarrier.arrive.shared::cta.b64 _, [%r2+4];", FaultKind::Misaligned, "multiple of 8");
    check("mbarrier.init.shared::cta.b64 [%r2+8], 0;", FaultKind::Barrier, "count of 0");
    check(
        "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r2], 16;",
        FaultKind::TransactionBytes,
        "ends with 16 bytes missing",
    );
    check(
        "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%r2], 16;\n\
         mbarrier.arrive.shared::cta.b64 _, [%r2];",
        FaultKind::TransactionBytes,
        "",
    );
    check("st.shared.u32 [%r2], %r1;", FaultKind::Barrier, "");
}

#[test]
fn named_barriers_and_the_clusters_are_used_by_their_rules() {
    let case = Case { block: 64, ..Case::default() };
    case.fault("bar.sync 1, 48;", FaultKind::Barrier, "no multiple of 32");
    case.fault("mov.u32 %r2, 17;\nbar.sync %r2, 64;", FaultKind::Barrier, "there are 16");
    let unequal = "setp.ge.u32 %p1, %r1, 32;\n@%p1 bra OTHER;\nbar.sync 1, 64;\nbra END;\n\
        OTHER: bar.sync 1, 96;\nEND:";
    case.fault(unequal, FaultKind::Barrier, "others of this round said 64");
    case.fault(
        "barrier.cluster.wait.aligned;",
        FaultKind::Barrier,
        "without barrier.cluster.arrive",
    );
    let twice = "barrier.cluster.arrive.aligned;\nbarrier.cluster.arrive.aligned;";
    case.fault(twice, FaultKind::Barrier, "a second barrier.cluster.arrive");
}

#[test]
fn lanes_that_cannot_come_together_are_named() {
    let body = "setp.eq.u32 %p1, %r1, 3;\n@%p1 bra ALONE;\nbar.sync 0;\nbra END;\n\
        ALONE: bar.sync 0;\nEND:";
    Case::default().fault(body, FaultKind::Divergence, "lanes 0xfffffff7");
    let outside = "setp.ne.u32 %p1, %r1, 5;\n@%p1 bra END;\nbar.warp.sync 1;\nEND:";
    Case::default().fault(outside, FaultKind::Divergence, "lane 5 executes with a member mask");
}

#[test]
fn memory_has_bounds_and_remembers_who_wrote() {
    let case = Case::default();
    let check = |body: &str, kind, word| {
        case.fault(body, kind, word);
    };
    check("ld.global.u32 %r2, [%rd1+4096];", FaultKind::OutOfBounds, "4 bytes of global memory");
    check("ld.global.u32 %r2, [%rd1+2];", FaultKind::Misaligned, "");
    check(
        "mov.u64 %rd2, 64;\nst.u32 [%rd2], %r1;",
        FaultKind::OutOfBounds,
        "global memory at 0x40",
    );
    check(
        "mov.u32 %r2, dynamic;\nld.shared.u32 %r3, [%r2];",
        FaultKind::Uninitialised,
        "shared memory at 0x",
    );
    check(
        "mov.u32 %r2, dynamic;\nst.shared.u32 [%r2+4096], %r1;",
        FaultKind::OutOfBounds,
        "shared memory",
    );
    check("mov.u32 %r2, 0;\nst.shared.u32 [%r2], %r1;", FaultKind::OutOfBounds, "shared memory");
    check("trap;", FaultKind::Trap, "trap");
}

#[test]
fn a_fault_says_where() {
    let fault =
        Case::default().fault("\n\nld.global.u32 %r2, [%rd1+4096];", FaultKind::OutOfBounds, "");
    let place = fault.and_then(|fault| fault.place).unwrap_or_default();
    assert_eq!((place.kernel.as_str(), place.cta, place.warp), ("kernel", [0, 0, 0], 0));
    assert_eq!(place.line, 13);
}

/// Lane 0 waits for what lane 1 does further down, in a loop that lane 0 is in first.
#[test]
fn a_lane_that_polls_does_not_keep_others_from_what_it_waits_for() -> Result<()> {
    let body = "setp.eq.u32 %p1, %r1, 0;\n@!%p1 bra OTHERS;\n\
        SPIN: ld.volatile.global.u32 %r2, [%rd1];\nsetp.eq.u32 %p2, %r2, 0;\n@%p2 bra SPIN;\n\
        st.global.u32 [%rd1+4], 7;\nbra END;\n\
        OTHERS: setp.ne.u32 %p3, %r1, 1;\n@%p3 bra END;\nst.volatile.global.u32 [%rd1], 5;\nEND:";
    let bytes = Case::default().run(body)?;
    assert_eq!(words(&bytes)[..2], [5, 7]);
    Ok(())
}

/// Block 1 must run while block 0 polls global memory, on any number of threads of the host.
#[test]
fn thread_blocks_that_wait_for_each_other_are_resident_together() -> Result<()> {
    let body = "mov.u32 %r2, %ctaid.x;\nsetp.ne.u32 %p1, %r1, 0;\n@%p1 bra END;\n\
        setp.ne.u32 %p2, %r2, 0;\n@%p2 bra GIVES;\n\
        SPIN: ld.acquire.gpu.global.u32 %r3, [%rd1];\nsetp.eq.u32 %p3, %r3, 0;\n@%p3 bra SPIN;\n\
        st.global.u32 [%rd1+8], %r3;\nbra END;\n\
        GIVES: st.release.gpu.global.u32 [%rd1], 9;\nEND:";
    let bytes = Case { grid: 2, ..Case::default() }.run(body)?;
    assert_eq!(words(&bytes)[2], 9);
    Ok(())
}

#[test]
fn the_clusters_barrier_and_distributed_shared_memory() -> Result<()> {
    // Each block writes its rank to the next block's shared memory.
    let body = "mov.u32 %r2, dynamic;\nmov.u32 %r3, %cluster_ctarank;\nadd.u32 %r4, %r3, 1;\n\
        and.b32 %r4, %r4, 3;\nmapa.shared::cluster.u32 %r5, %r2, %r4;\n\
        barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n\
        st.shared::cluster.u32 [%r5], %r3;\n\
        barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n\
        ld.shared.u32 %r6, [%r2];\nmul.wide.u32 %rd2, %r3, 4;\nadd.u64 %rd3, %rd1, %rd2;\n\
        st.global.u32 [%rd3], %r6;";
    for schedule in SCHEDULES {
        let bytes =
            Case { grid: 4, cluster: 4, block: 64, schedule, ..Case::default() }.run(body)?;
        assert_eq!(words(&bytes)[..4], [3, 0, 1, 2]);
    }
    Ok(())
}

#[test]
fn bar_red_answers_every_thread_of_its_round() -> Result<()> {
    let body = "setp.lt.u32 %p1, %r1, 40;\n\
        barrier.sync 0;\nbarrier.red.popc.aligned.u32 %r2, 0, %p1;\n\
        barrier.red.and.aligned.pred %p2, 0, %p1;\nbarrier.red.or.aligned.pred %p3, 0, !%p1;\n\
        selp.u32 %r3, 100, 0, %p2;\nselp.u32 %r4, 1000, 0, %p3;\n\
        add.u32 %r2, %r2, %r3;\nadd.u32 %r2, %r2, %r4;\n\
        mul.wide.u32 %rd2, %r1, 4;\nadd.u64 %rd3, %rd1, %rd2;\nst.global.u32 [%rd3], %r2;";
    let bytes = Case { block: 96, ..Case::default() }.run(body)?;
    assert!(words(&bytes)[..96].iter().all(|word| *word == 1040));
    Ok(())
}

#[test]
fn endless_loops_are_reported_or_end_with_the_limit_of_steps() {
    Case::default().fault("L: bra L;", FaultKind::Livelock, "repeat what they did");
    // As long as a register changes, the loop may end.
    let counting = "L: add.u32 %r2, %r2, 1;\nbra L;";
    Case::default().fault(counting, FaultKind::Steps, "warp instructions");
    let with_clock = "L: mov.u32 %r2, %clock;\nbra L;";
    Case::default().fault(with_clock, FaultKind::Steps, "warp instructions");
}

/// Lanes that sleep between their polls leave their turn to the others of the warp, of which there are several groups.
#[test]
fn lanes_that_poll_leave_turns_to_each_other() -> Result<()> {
    for sleep in ["", "nanosleep.u32 8;"] {
        // Lanes 0 and 1 wait for lane 2, whose instructions come last; lane 3 waits for lane 1.
        let body = format!(
            "mov.u32 %r2, %laneid;\n\
             setp.eq.u32 %p1, %r2, 2;\n@%p1 bra SET;\n\
             setp.eq.u32 %p1, %r2, 3;\n@%p1 bra LATER;\n\
             setp.gt.u32 %p1, %r2, 1;\n@%p1 bra END;\n\
             FIRST: {sleep}\nld.volatile.global.u32 %r3, [%rd1];\n\
             setp.eq.u32 %p1, %r3, 0;\n@%p1 bra FIRST;\n\
             st.volatile.global.u32 [%rd1+4], 1;\nbra END;\n\
             LATER: {sleep}\nld.volatile.global.u32 %r3, [%rd1+4];\n\
             setp.eq.u32 %p1, %r3, 0;\n@%p1 bra LATER;\n\
             st.volatile.global.u32 [%rd1+8], 1;\nbra END;\n\
             SET: mov.u32 %r4, 0;\n\
             WORK: add.u32 %r4, %r4, 1;\nsetp.lt.u32 %p1, %r4, 20000;\n@%p1 bra WORK;\n\
             st.volatile.global.u32 [%rd1], 1;\n\
             END:"
        );
        for schedule in [Schedule::Eager, Schedule::Lazy, Schedule::Random] {
            let case = Case { block: 32, schedule, ..Case::default() };
            assert_eq!(words(&case.run(&body)?)[..3], [1, 1, 1], "{sleep} {schedule:?}");
        }
    }
    Ok(())
}

#[test]
fn what_is_not_implemented_is_named() {
    let body = "mov.u32 %r2, dynamic;\nmov.u32 %r3, bars;\n\
        st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%r2], %r1, [%r3];";
    Case::default().fault(body, FaultKind::Unsupported, "st.async");
}

#[test]
fn a_special_register_that_is_not_known_fails_where_it_is_read() -> Result<()> {
    for (read, name) in [
        ("mov.u32 %r2, %envreg3;", "special register %envreg3"),
        ("add.u32 %r2, %r1, %clock_hi;", "special register %clock_hi"),
        ("mov.u32 %r2, %place_of_tomorrow.x;", "special register %place_of_tomorrow"),
        ("mov.b64 %rd2, {%r1, %globaltimer_lo};", "special register %globaltimer_lo"),
    ] {
        let body = format!(
            "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra END;\n{read}\nEND: st.global.u32 [%rd1], 3;"
        );
        assert_eq!(words(&Case::default().run(&body)?)[0], 3, "{read}");
        Case::default().fault(read, FaultKind::Unsupported, name);
    }
    Ok(())
}

#[test]
fn launches_that_cannot_be_are_refused() {
    let case = Case { grid: 3, cluster: 2, ..Case::default() };
    case.fault("", FaultKind::Launch, "is not made of clusters");
}
