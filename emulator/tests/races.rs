//! The checks of order: for each rule a program that keeps it, and mutants that break it and have to be found.

mod support;

use emulator::fault::{Fault, FaultKind};
use emulator::settings::{Checks, Model, Schedule, Settings};
use support::{Device, Outcome, Shape};

const BYTES: usize = 1 << 14;

/// A kernel with a pointer to global memory that is zero (`%rd1`), its thread (`%r1`), warp (`%r2`), lane (`%r3`), thread
/// block (`%r4`), rank (`%r5`), 8 KB of shared memory (`%r6`) and eight mbarriers (`%r7`). `%p1` is true in thread 0,
/// `%p2` in lane 0 of a warp, `%p3` in warp 0.
fn text(body: &str, cluster: u32) -> String {
    let cluster = format!(".explicitcluster .reqnctapercluster {cluster}, 1, 1");
    format!(
        ".version 8.8\n.target sm_100a\n.address_size 64\n\
         .extern .shared .align 1024 .b8 smem[];\n\
         .visible .entry k(.param .u64 pointer) {cluster}\n{{\n\
         .reg .pred %p<20>;\n.reg .b32 %r<60>;\n.reg .b64 %rd<20>;\n\
         ld.param.u64 %rd1, [pointer];\nmov.u32 %r1, %tid.x;\nshr.u32 %r2, %r1, 5;\nand.b32 %r3, %r1, 31;\n\
         mov.u32 %r4, %ctaid.x;\nmov.u32 %r5, %cluster_ctarank;\nmov.u32 %r6, smem;\nadd.u32 %r7, %r6, 8192;\n\
         setp.eq.u32 %p1, %r1, 0;\nsetp.eq.u32 %p2, %r3, 0;\nsetp.eq.u32 %p3, %r2, 0;\n\
         {body}\nret;\n}}\n"
    )
}

/// What a program is run with.
#[derive(Clone, Copy)]
struct Case {
    check: &'static str,
    threads: u32,
    blocks: u32,
    cluster: u32,
}

/// One of several warps, one thread block.
const BLOCK: Case = Case { check: "races", threads: 128, blocks: 1, cluster: 1 };
/// Two thread blocks that are no cluster.
const GRID: Case = Case { check: "races", threads: 32, blocks: 2, cluster: 1 };
/// Two thread blocks of a cluster.
const PAIR: Case = Case { check: "races", threads: 64, blocks: 2, cluster: 2 };

fn schedules() -> impl Iterator<Item = (Schedule, u64)> {
    let random = (0..6).map(|seed| (Schedule::Random, seed));
    [(Schedule::Eager, 0), (Schedule::Lazy, 0)].into_iter().chain(random)
}

impl Case {
    fn run(self, body: &str, schedule: (Schedule, u64), checks: Checks) -> Outcome<()> {
        let mut settings = Settings::new(Model::B200);
        (settings.schedule, settings.seed) = schedule;
        (settings.steps, settings.checks) = (1 << 20, checks);
        let device = Device::with_ptx(settings, &text(body, self.cluster))?;
        let memory = device.upload(&[0; BYTES])?;
        let shape = Shape { grid: self.blocks, block: self.threads, dynamic_shared: 8192 + 64 };
        device.launch("k", shape, &[&memory.to_le_bytes()])?;
        Ok(())
    }

    fn checks(self) -> Outcome<Checks> {
        Ok(Checks::parse(self.check)?)
    }

    /// Right under every schedule, with this check and with all of them.
    fn right(self, body: &str) -> Outcome<()> {
        for schedule in schedules() {
            for checks in [self.checks()?, Checks { copy_order: false, ..Checks::ALL }] {
                let done = self.run(body, schedule, checks);
                done.map_err(|fault| format!("{schedule:?}: {fault}\n{body}"))?;
            }
        }
        Ok(())
    }

    /// Right with this check, whatever others say.
    fn passes(self, body: &str) -> Outcome<()> {
        for schedule in schedules() {
            let done = self.run(body, schedule, self.checks()?);
            done.map_err(|fault| format!("{schedule:?}: {fault}\n{body}"))?;
        }
        Ok(())
    }

    /// Found under every schedule, and nothing without the check. The message has to name each of the words.
    fn wrong(self, body: &str, kind: FaultKind, words: &[&str]) -> Outcome<()> {
        for schedule in schedules() {
            let done = self.run(body, schedule, Checks::default());
            done.map_err(|fault| format!("without the check, {schedule:?}: {fault}\n{body}"))?;
            let fault = self.run(body, schedule, self.checks()?).err();
            let fault = fault.ok_or_else(|| format!("nothing was found: {schedule:?}\n{body}"))?;
            let found = fault.downcast_ref::<Fault>().map(|fault| fault.kind);
            assert_eq!(found, Some(kind), "{schedule:?}: {fault}\n{body}");
            let message = fault.to_string();
            for word in words {
                assert!(message.contains(word), "no \"{word}\" in {message}\n{body}");
            }
        }
        Ok(())
    }

    /// A race, of this check.
    fn race(self, body: &str) -> Outcome<()> {
        self.wrong(body, FaultKind::Race, &["nothing orders them (EMULATOR_CHECKS: races)"])
    }
}

/// Replaces the only place of something.
fn with(body: &str, from: &str, to: &str) -> String {
    assert_eq!(body.matches(from).count(), 1, "{from} in {body}");
    body.replace(from, to)
}

/// Each warp writes a part of shared memory, reads that of the next, and writes its own again.
const EXCHANGE: &str = "shl.b32 %r10, %r1, 2;\nadd.u32 %r11, %r6, %r10;\nst.shared.u32 [%r11], 0;\nbar.sync 2;\n\
    st.shared.u32 [%r11], %r1;\nbar.sync 0;\nadd.u32 %r12, %r10, 128;\nand.b32 %r12, %r12, 511;\n\
    add.u32 %r12, %r12, %r6;\nld.shared.u32 %r13, [%r12];\nbar.sync 1, 128;\nst.shared.u32 [%r11], 5;";

#[test]
fn a_barrier_orders_the_warps_of_a_thread_block() -> Outcome<()> {
    BLOCK.right(EXCHANGE)?;
    BLOCK.race(&with(EXCHANGE, "bar.sync 0;", ""))?;
    BLOCK.race(&with(EXCHANGE, "bar.sync 1, 128;", ""))?;
    // Two by two: the parts of the others are not ordered.
    let two = "shr.u32 %r14, %r2, 1;\nadd.u32 %r14, %r14, 4;\nbar.sync %r14, 64;";
    BLOCK.race(&with(EXCHANGE, "bar.sync 0;", two))?;
    // All come, and half of them do not wait.
    let some = "setp.lt.u32 %p4, %r2, 2;\n@%p4 bar.arrive 1, 128;\n@!%p4 bar.sync 1, 128;";
    BLOCK.race(&with(EXCHANGE, "bar.sync 1, 128;", some))?;
    BLOCK.right(&with(EXCHANGE, "bar.sync 0;", "barrier.red.or.pred %p4, 0, %p1;"))?;
    // The warps of a barrier of few, which are those that exchange.
    let pairs = "shl.b32 %r10, %r1, 2;\nadd.u32 %r11, %r6, %r10;\nst.shared.u32 [%r11], %r1;\n\
        shr.u32 %r14, %r2, 1;\nadd.u32 %r14, %r14, 2;\nbar.sync %r14, 64;\n\
        xor.b32 %r12, %r10, 128;\nadd.u32 %r12, %r12, %r6;\nld.shared.u32 %r13, [%r12];";
    BLOCK.right(pairs)
}

#[test]
fn both_accesses_are_named() -> Outcome<()> {
    let body = "setp.gt.u32 %p4, %r2, 1;\n@%p4 bra END;\n@%p3 bra FIRST;\n\
        bar.sync 1, 64;\nst.shared.u32 [%r6+64], 1;\nbra END;\n\
        FIRST: st.shared.u32 [%r6+64], 2;\nbar.sync 1, 64;\n@!%p2 bra END;\nst.shared.u32 [%r6+64], 3;\nEND:";
    let words = [
        "write of shared memory at 0:0x",
        "after write by CTA (0, 0, 0), warp",
        "PTX line",
        "in k, CTA (0, 0, 0), warp",
    ];
    BLOCK.wrong(body, FaultKind::Race, &words)
}

#[test]
fn bytes_side_by_side_are_no_race() -> Outcome<()> {
    for (size, kind) in [(1, "u8"), (2, "u16"), (4, "u32"), (8, "u64")] {
        // Neighbors of different warps: thread t writes element t / 32 + 4 * (t % 32).
        let value = if size == 8 { "%rd1" } else { "%r1" };
        let body = format!(
            "shl.b32 %r10, %r3, 2;\nadd.u32 %r10, %r10, %r2;\nmad.lo.u32 %r10, %r10, {size}, %r6;\n\
             st.shared.{kind} [%r10], {value};\nld.shared.{kind} {value}, [%r10];"
        );
        BLOCK.right(&body)?;
        // One byte of overlap: two warps have the same element.
        let overlap = with(
            &body,
            "add.u32 %r10, %r10, %r2;",
            "min.u32 %r14, %r2, 2;\nadd.u32 %r10, %r10, %r14;",
        );
        BLOCK.race(&overlap)?;
    }
    Ok(())
}

#[test]
fn the_lanes_of_a_warp_are_threads() -> Outcome<()> {
    // Lane l writes, lane l + 1 reads.
    let body = "@!%p3 bra END;\nshl.b32 %r10, %r3, 2;\nadd.u32 %r11, %r6, %r10;\nst.shared.u32 [%r11], %r1;\n\
        bar.warp.sync -1;\nadd.u32 %r12, %r10, 4;\nand.b32 %r12, %r12, 127;\nadd.u32 %r12, %r12, %r6;\n\
        ld.shared.u32 %r13, [%r12];\nEND:";
    BLOCK.right(body)?;
    BLOCK.race(&with(body, "bar.warp.sync -1;", ""))?;
    // shfl brings lanes together and orders no memory.
    BLOCK.race(&with(body, "bar.warp.sync -1;", "shfl.sync.idx.b32 %r14, %r3, 0, 31, -1;"))?;
    // One lane tells the other warp, for all of its own: they have to come together before, and there after.
    let handed = "@%p1 mbarrier.init.shared::cta.b64 [%r7], 1;\nbar.sync 0;\nshl.b32 %r10, %r3, 2;\nadd.u32 %r11, %r6, %r10;\n\
        setp.gt.u32 %p4, %r2, 1;\n@%p4 bra END;\n@!%p3 bra SECOND;\n\
        st.shared.u32 [%r11], %r1;\nbar.warp.sync -1;\n@%p1 mbarrier.arrive.shared::cta.b64 _, [%r7];\nbra END;\n\
        SECOND: @!%p2 bra COME;\nWAIT: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r7], 0;\n@!%p5 bra WAIT;\n\
        COME: bar.warp.sync 0xffffffff;\nld.shared.u32 %r13, [%r11];\nEND:";
    BLOCK.right(handed)?;
    BLOCK.race(&with(handed, "bar.warp.sync -1;", ""))?;
    let late = with(handed, "bar.warp.sync 0xffffffff;", "shfl.sync.idx.b32 %r14, %r3, 0, 31, -1;");
    BLOCK.race(&late)
}

#[test]
fn an_mbarrier_hands_over_what_arrivals_release() -> Outcome<()> {
    // Warp 0 produces, warp 1 consumes, three times in one place. Full at 0, empty at 8.
    let body = "@%p1 mbarrier.init.shared::cta.b64 [%r7], 32;\n@%p1 mbarrier.init.shared::cta.b64 [%r7+8], 32;\nbar.sync 0;\n\
        shl.b32 %r10, %r3, 2;\nadd.u32 %r11, %r6, %r10;\nxor.b32 %r12, %r10, 4;\nadd.u32 %r12, %r12, %r6;\nmov.u32 %r15, 0;\n\
        setp.gt.u32 %p4, %r2, 1;\n@%p4 bra END;\n@!%p3 bra CONSUME;\n\
        PRODUCE: and.b32 %r16, %r15, 1;\nxor.b32 %r17, %r16, 1;\n\
        EMPTY: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r7+8], %r17;\n@!%p5 bra EMPTY;\n\
        st.shared.u32 [%r11], %r15;\nmbarrier.arrive.release.cta.shared::cta.b64 _, [%r7];\n\
        add.u32 %r15, %r15, 1;\nsetp.lt.u32 %p6, %r15, 3;\n@%p6 bra PRODUCE;\nbra END;\n\
        CONSUME: and.b32 %r16, %r15, 1;\n\
        FULL: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p5, [%r7], %r16;\n@!%p5 bra FULL;\n\
        ld.shared.u32 %r13, [%r12];\nmbarrier.arrive.release.cluster.shared::cta.b64 _, [%r7+8];\n\
        add.u32 %r15, %r15, 1;\nsetp.lt.u32 %p6, %r15, 3;\n@%p6 bra CONSUME;\nEND:";
    BLOCK.right(body)?;
    BLOCK.race(&with(body, "arrive.release.cta.", "arrive.relaxed.cta."))?;
    BLOCK.race(&with(body, "parity.acquire.cta.", "parity.relaxed.cta."))?;
    // A fence makes up for it, on its own side.
    let released = with(
        body,
        "mbarrier.arrive.release.cta.",
        "fence.acq_rel.cta;\nmbarrier.arrive.relaxed.cta.",
    );
    BLOCK.right(&released)?;
    let acquired = with(body, "parity.acquire.cta.", "parity.relaxed.cta.");
    BLOCK.right(&with(
        &acquired,
        "ld.shared.u32 %r13",
        "fence.acq_rel.cta;\nld.shared.u32 %r13",
    ))?;
    BLOCK.race(&with(&acquired, "FULL: ", "fence.acq_rel.cta;\nFULL: "))?;
    let early = with(
        body,
        "st.shared.u32 [%r11], %r15;\nmbarrier.arrive.release.cta.",
        "fence.acq_rel.cta;\nst.shared.u32 [%r11], %r15;\nmbarrier.arrive.relaxed.cta.",
    );
    BLOCK.race(&early)?;
    // The arrival before the data.
    let before = with(
        body,
        "st.shared.u32 [%r11], %r15;\nmbarrier.arrive.release.cta.shared::cta.b64 _, [%r7];",
        "mbarrier.arrive.release.cta.shared::cta.b64 _, [%r7];\nst.shared.u32 [%r11], %r15;",
    );
    let filled = with(
        &before,
        "mov.u32 %r15, 0;",
        "mov.u32 %r15, 0;\n@%p3 st.shared.u32 [%r11], 0;\nbar.sync 3;",
    );
    BLOCK.race(&filled)?;
    // Only what was read is passed back: a relaxed arrival is enough in fact, and a rule of its own says that it is not
    // by the manual.
    let reused = with(body, "arrive.release.cluster.", "arrive.relaxed.cluster.");
    BLOCK.passes(&reused)?;
    let strict = Case { check: "relaxed-reuse", ..BLOCK };
    strict.wrong(
        &reused,
        FaultKind::Race,
        &["only barriers that promise nothing", "relaxed-reuse"],
    )?;
    strict.right(body)
}

/// What the thread blocks of a pair do in order: init of mbarriers and memory, then `body`.
fn pair(body: &str) -> String {
    format!(
        "@%p1 mbarrier.init.shared::cta.b64 [%r7], 1;\n@%p1 fence.mbarrier_init.release.cluster;\n\
         shl.b32 %r10, %r1, 4;\nadd.u32 %r11, %r6, %r10;\nst.shared.v4.u32 [%r11], {{%r1, %r1, %r1, %r1}};\n\
         xor.b32 %r12, %r5, 1;\nmapa.shared::cluster.u32 %r13, %r11, %r12;\nmapa.shared::cluster.u32 %r14, %r7, %r12;\n\
         mapa.shared::cluster.u32 %r18, %r6, %r12;\n\
         barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n{body}"
    )
}

/// All of both thread blocks stay until the end.
const STAY: &str =
    "bar.warp.sync -1;\nbarrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n";

#[test]
fn the_clusters_barrier_orders_only_what_is_released() -> Outcome<()> {
    let body = pair(
        "st.shared::cluster.u32 [%r13], 7;\nbarrier.cluster.arrive.release.aligned; // there\n\
         barrier.cluster.wait.acquire.aligned; // here\nld.shared.u32 %r15, [%r11];\n\
         barrier.cluster.arrive.release.aligned; // read\nbarrier.cluster.wait.aligned;\nst.shared::cluster.u32 [%r13], 8;\n",
    ) + STAY;
    PAIR.right(&body)?;
    let relaxed = "barrier.cluster.arrive.relaxed.aligned; // there";
    let released = "barrier.cluster.arrive.release.aligned; // there";
    PAIR.race(&with(&body, released, relaxed))?;
    PAIR.right(&with(&body, released, &format!("fence.acq_rel.cluster;\n{relaxed}")))?;
    // A fence of the thread block alone does not reach the other.
    PAIR.race(&with(&body, released, &format!("fence.acq_rel.cta;\n{relaxed}")))?;
    let reused = with(&body, "arrive.release.aligned; // read", "arrive.relaxed.aligned; // read");
    PAIR.passes(&reused)?;
    let strict = Case { check: "relaxed-reuse", ..PAIR };
    strict.wrong(&reused, FaultKind::Race, &["only barriers that promise nothing"])
}

#[test]
fn arrivals_at_other_thread_blocks_have_a_scope() -> Outcome<()> {
    // Each thread 0 writes to the other block, and arrives there.
    let body = pair(
        "@!%p1 bra DONE;\nst.shared::cluster.u32 [%r13], 7;\nmbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r14];\n\
         WAIT: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p5, [%r7], 0;\n@!%p5 bra WAIT;\n\
         ld.shared.u32 %r15, [%r11];\nDONE:\n",
    ) + STAY;
    PAIR.right(&body)?;
    // CUTLASS writes no semantics and no scope at all.
    let default = with(&body, "arrive.release.cluster.shared", "arrive.shared");
    PAIR.right(&with(&default, "parity.acquire.cluster.", "parity."))?;
    PAIR.race(&with(&body, "arrive.release.cluster.", "arrive.relaxed.cluster."))?;
    PAIR.race(&with(&body, "arrive.release.cluster.", "arrive.release.cta."))?;
    PAIR.race(&with(&body, "parity.acquire.cluster.", "parity.acquire.cta."))?;
    PAIR.race(&with(&body, "parity.acquire.cluster.", "parity.relaxed.cluster."))
}

#[test]
fn thread_blocks_of_a_grid_pass_messages_through_memory() -> Outcome<()> {
    // Block 0 writes data, then a flag at 1024; block 1 polls the flag and reads the data.
    let body = "setp.ne.u32 %p4, %r3, 0;\n@%p4 bra END;\nsetp.ne.u32 %p5, %r4, 0;\n@%p5 bra READS;\n\
        st.global.u32 [%rd1+64], 5; // data\nst.release.gpu.global.u32 [%rd1+1024], 1;\nbra END;\n\
        READS: ld.acquire.gpu.global.u32 %r10, [%rd1+1024];\nsetp.eq.u32 %p6, %r10, 0;\n@%p6 bra READS;\n\
        ld.global.u32 %r11, [%rd1+64];\nEND:";
    GRID.right(body)?;
    GRID.race(&with(body, "st.release.gpu.", "st.relaxed.gpu."))?;
    GRID.race(&with(body, "ld.acquire.gpu.", "ld.relaxed.gpu."))?;
    GRID.race(&with(body, "st.release.gpu.", "st.release.cta."))?;
    GRID.race(&with(body, "ld.acquire.gpu.", "ld.acquire.cluster."))?;
    // With fences, as __threadfence and volatile flags.
    let volatile = with(body, "st.release.gpu.", "membar.gl;\nst.volatile.");
    let volatile = with(&volatile, "ld.acquire.gpu.", "ld.volatile.");
    let volatile = with(&volatile, "ld.global.u32 %r11", "fence.acq_rel.gpu;\nld.global.u32 %r11");
    GRID.right(&volatile)?;
    GRID.race(&with(&volatile, "membar.gl;", ""))?;
    GRID.race(&with(&volatile, "fence.acq_rel.gpu;", ""))?;
    GRID.race(&with(&volatile, "membar.gl;", "membar.cta;"))?;
    // The flag before the data.
    let early = with(
        body,
        "st.global.u32 [%rd1+64], 5; // data\nst.release.gpu.global.u32 [%rd1+1024], 1;",
        "st.release.gpu.global.u32 [%rd1+1024], 1;\nst.global.u32 [%rd1+64], 5;",
    );
    GRID.race(&early)?;
    // A flag that is an ordinary access is a race itself.
    GRID.race(&with(body, "st.release.gpu.", "st."))?;
    // An atomic operation is a flag, too, and one chain of them passes on what the first released.
    let counted = with(
        body,
        "st.release.gpu.global.u32 [%rd1+1024], 1;",
        "red.release.gpu.global.add.u32 [%rd1+1024], 1;",
    );
    GRID.right(&counted)?;
    GRID.race(&with(&counted, "red.release.gpu.", "red."))?;
    let taken = with(
        &counted,
        "ld.acquire.gpu.global.u32 %r10, [%rd1+1024];",
        "atom.acquire.gpu.global.or.b32 %r10, [%rd1+1024], 0;",
    );
    GRID.right(&taken)?;
    GRID.race(&with(&taken, "atom.acquire.gpu.", "atom.relaxed.gpu."))
}

#[test]
fn sums_in_global_memory_are_no_race_but_a_reader_is() -> Outcome<()> {
    // Blocks add to the same word; the last of them, by a counter, reads the sum.
    let body = "setp.ne.u32 %p4, %r3, 0;\n@%p4 bra END;\nred.global.add.u32 [%rd1], 3;\nmembar.gl;\n\
        atom.global.add.u32 %r10, [%rd1+256], 1;\nsetp.ne.u32 %p5, %r10, 1;\n@%p5 bra END;\nmembar.gl; // last\n\
        ld.global.u32 %r11, [%rd1];\nEND:";
    GRID.right(body)?;
    GRID.race(&with(body, "membar.gl;\natom", "atom"))?;
    GRID.race(&with(body, "membar.gl; // last", ""))?;
    // Both write the same place, and nobody reads.
    GRID.right("@%p1 red.global.add.u32 [%rd1], 3;")?;
    GRID.race("@%p1 st.global.u32 [%rd1], 3;")?;
    GRID.race("@%p1 red.cta.global.add.u32 [%rd1], 3;")?;
    GRID.right(
        "mul.wide.u32 %rd2, %r4, 4;\nadd.u64 %rd2, %rd1, %rd2;\n@%p1 st.global.u32 [%rd2], 3;",
    )
}

/// A bulk load of 512 bytes to shared memory, which all read; then another into the same place.
const LOADS: &str = "@%p1 mbarrier.init.shared::cta.b64 [%r7], 1;\n\
    @%p1 mbarrier.init.shared::cta.b64 [%r7+8], 1;\nbar.sync 0;\nshl.b32 %r10, %r1, 2;\nadd.u32 %r11, %r6, %r10;\n\
    @!%p1 bra FIRST;\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [%r7], 512;\n\
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r6], [%rd1], 512, [%r7];\n\
    FIRST: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r7], 0;\n@!%p5 bra FIRST;\nld.shared.u32 %r12, [%r11];\n\
    bar.sync 1, 128;\n@!%p1 bra SECOND;\nmbarrier.arrive.expect_tx.shared::cta.b64 _, [%r7+8], 512;\n\
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r6], [%rd1], 512, [%r7+8];\n\
    SECOND: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r7+8], 0;\n@!%p5 bra SECOND;\nld.shared.u32 %r12, [%r11];";

#[test]
fn bulk_loads_are_ordered_by_their_mbarrier() -> Outcome<()> {
    BLOCK.right(LOADS)?;
    BLOCK.race(&with(LOADS, "bar.sync 1, 128;", ""))?;
    // One thread waits, and the others come by without a barrier.
    let second =
        "SECOND: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r7+8], 0;\n@!%p5 bra SECOND;";
    let one = "SECOND: @!%p1 bra READ;\nSPIN: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r7+8], 0;\n@!%p5 bra SPIN;\nREAD:";
    let waits = with(LOADS, second, one);
    BLOCK.race(&waits)?;
    BLOCK.right(&with(&waits, "READ:", "READ: bar.sync 2;"))
}

/// A bulk store of what all wrote, and more stores over it.
const STORES: &str = "shl.b32 %r10, %r1, 2;\nadd.u32 %r11, %r6, %r10;\nst.shared.u32 [%r11], 0;\n\
    fence.proxy.async.shared::cta;\nbar.sync 2;\nst.shared.u32 [%r11], %r1;\nfence.proxy.async.shared::cta;\n\
    bar.sync 0;\n@!%p1 bra NEXT;\ncp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r6], 512;\n\
    cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;\nNEXT: bar.sync 1, 128;\nst.shared.u32 [%r11], 9;\n\
    fence.proxy.async.shared::cta;\n@%p1 cp.async.bulk.wait_group 0;";

#[test]
fn bulk_stores_read_until_they_were_waited_for() -> Outcome<()> {
    BLOCK.right(STORES)?;
    let race = |body: &str| -> Outcome<()> {
        // Under some schedules a check that is always on comes first.
        let mut found = 0;
        for schedule in schedules() {
            let fault = BLOCK.run(body, schedule, BLOCK.checks()?).err();
            let kind = fault
                .as_ref()
                .and_then(|fault| fault.downcast_ref::<Fault>())
                .map(|fault| fault.kind);
            assert!(
                matches!(kind, Some(FaultKind::Race | FaultKind::ProxyFence)),
                "{schedule:?}: {fault:?}\n{body}"
            );
            found += usize::from(kind == Some(FaultKind::Race));
        }
        assert!(found > 0, "{body}");
        Ok(())
    };
    race(&with(STORES, "cp.async.bulk.wait_group.read 0;\n", ""))?;
    race(&with(STORES, "cp.async.bulk.wait_group.read 0;", "cp.async.bulk.wait_group.read 1;"))?;
    // Another thread waits, which has no such group.
    let other = with(
        STORES,
        "cp.async.bulk.wait_group.read 0;\nNEXT:",
        "NEXT: cp.async.bulk.wait_group.read 0;",
    );
    BLOCK.right(&other)?;
    race(&with(&other, "NEXT: cp", "NEXT: @!%p1 cp"))?;
    race(&with(STORES, "bar.sync 0;", ""))?;
    // All lanes of a warp store the same together, which is one store; those of two warps are two.
    let store = "cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r6], 512;\ncp.async.bulk.commit_group;\n\
        cp.async.bulk.wait_group 0;";
    let many = |guard: &str| {
        format!(
            "shl.b32 %r10, %r1, 2;\nadd.u32 %r11, %r6, %r10;\nst.shared.u32 [%r11], %r1;\n\
             fence.proxy.async.shared::cta;\nbar.sync 0;\n{guard}\n{store}\nEND:"
        )
    };
    BLOCK.right(&many("@!%p3 bra END;"))?;
    BLOCK.race(&many(""))?;
    race(&with(STORES, "NEXT: bar.sync 1, 128;", "NEXT:"))
}

#[test]
fn a_store_to_global_memory_is_told_when_it_is_written_not_when_it_is_read() -> Outcome<()> {
    // Block 0 stores in bulk and raises a flag; block 1 reads what was stored.
    let body = "setp.ne.u32 %p4, %r3, 0;\n@%p4 bra END;\nsetp.ne.u32 %p5, %r4, 0;\n@%p5 bra READS;\n\
        st.shared.v4.u32 [%r6], {%r1, %r1, %r1, %r1};\nfence.proxy.async.shared::cta;\n\
        cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r6], 16;\ncp.async.bulk.commit_group;\n\
        cp.async.bulk.wait_group 0;\nst.release.gpu.global.u32 [%rd1+1024], 1;\nbra END;\n\
        READS: ld.acquire.gpu.global.u32 %r10, [%rd1+1024];\nsetp.eq.u32 %p6, %r10, 0;\n@%p6 bra READS;\n\
        ld.global.u32 %r11, [%rd1];\nEND:";
    GRID.right(body)?;
    GRID.race(&with(body, "wait_group 0;", "wait_group.read 0;"))
}

/// Threads of one block store to the other, whose thread 0 stores it to global memory in bulk.
fn remote(fence: &str, after: &str) -> String {
    pair(&format!(
        "st.shared::cluster.v4.u32 [%r13], {{%r1, %r1, %r1, %r1}};\n{fence}\n\
         barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n@!%p1 bra DONE;\n{after}\n\
         mul.wide.u32 %rd2, %r4, 1024;\nadd.u64 %rd2, %rd1, %rd2;\n\
         cp.async.bulk.global.shared::cta.bulk_group [%rd2], [%r6], 1024;\ncp.async.bulk.commit_group;\n\
         cp.async.bulk.wait_group 0;\nDONE:\n"
    )) + STAY
}

#[test]
fn the_async_proxy_sees_stores_of_other_thread_blocks_after_a_fence() -> Outcome<()> {
    let case = Case { check: "proxy-fence", ..PAIR };
    // The stores of `pair` itself are the thread block's own, which are looked at without any check.
    let own = "bar.warp.sync -1;\nfence.proxy.async;\n";
    let fenced = |fence: &str, after: &str| {
        with(&remote(fence, after), "xor.b32 %r12, %r5, 1;", &format!("{own}xor.b32 %r12, %r5, 1;"))
    };
    case.right(&fenced("fence.proxy.async;", ""))?;
    case.right(&fenced("fence.proxy.async.shared::cluster;", ""))?;
    // The one who reads may fence as well: the fence stands on the way.
    case.right(&fenced("", "fence.proxy.async;"))?;
    let words = ["no fence.proxy.async on the way", "proxy-fence"];
    case.wrong(&fenced("", ""), FaultKind::ProxyFence, &words)?;
    // A fence before the stores, one of another kind, one of some of the threads.
    let early =
        with(&fenced("", ""), "st.shared::cluster.v4", "fence.proxy.async;\nst.shared::cluster.v4");
    case.wrong(&early, FaultKind::ProxyFence, &words)?;
    case.wrong(&fenced("fence.acq_rel.cluster;", ""), FaultKind::ProxyFence, &words)?;
    case.wrong(&fenced("fence.proxy.async.global;", ""), FaultKind::ProxyFence, &words)?;
    case.wrong(&fenced("@%p2 fence.proxy.async;", ""), FaultKind::ProxyFence, &words)
}

#[test]
fn mbarriers_are_known_to_be_initialized_where_they_are_used() -> Outcome<()> {
    let case = Case { check: "mbarrier-init", ..PAIR };
    // Thread 0 of each block arrives at the other's mbarrier.
    let body = "@%p1 mbarrier.init.shared::cta.b64 [%r7], 1;\n@%p1 fence.mbarrier_init.release.cluster;\n\
        bar.warp.sync -1;\nbarrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.acquire.aligned;\n\
        xor.b32 %r12, %r5, 1;\nmapa.shared::cluster.u32 %r14, %r7, %r12;\n\
        @%p1 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r14];\n\
        WAIT: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p5, [%r7], 0;\n@!%p5 bra WAIT;\n"
        .to_owned()
        + STAY;
    case.right(&body)?;
    let fence = "@%p1 fence.mbarrier_init.release.cluster;";
    let words = ["mbarrier.init by CTA (", "mbarrier-init"];
    let missing = with(&body, fence, "");
    case.wrong(&missing, FaultKind::Barrier, &words)?;
    // Another thread's fence, and one before.
    case.wrong(
        &with(&body, fence, "@!%p1 fence.mbarrier_init.release.cluster;"),
        FaultKind::Barrier,
        &words,
    )?;
    let early = with(
        &missing,
        "@%p1 mbarrier.init",
        "fence.mbarrier_init.release.cluster;\n@%p1 mbarrier.init",
    );
    case.wrong(&early, FaultKind::Barrier, &words)?;
    // A release does it as well, and a fence that is more than is needed.
    case.right(&with(&missing, "arrive.relaxed.aligned", "arrive.release.aligned"))?;
    case.right(&with(&body, fence, "@%p1 fence.acq_rel.cluster;"))?;
    // In one thread block it takes a barrier: here warp 1 arrives.
    let block = Case { check: "mbarrier-init", ..BLOCK };
    let alone = "@%p1 mbarrier.init.shared::cta.b64 [%r7], 1;\nbar.sync 0;\nsetp.eq.u32 %p4, %r1, 32;\n\
        @%p4 mbarrier.arrive.shared::cta.b64 _, [%r7];";
    block.right(alone)?;
    let flag = "@%p1 st.relaxed.cta.shared.u32 [%r6], 1;\n@%p1 bra END;\n\
        setp.ne.u32 %p4, %r1, 32;\n@%p4 bra END;\nPOLL: ld.relaxed.cta.shared.u32 %r10, [%r6];\nsetp.ne.u32 %p5, %r10, 1;\n\
        @%p5 bra POLL;\nmbarrier.arrive.shared::cta.b64 _, [%r7];\nEND:";
    let flagged = format!(
        "@%p1 st.shared.u32 [%r6], 0;\nbar.sync 1;\n@%p1 mbarrier.init.shared::cta.b64 [%r7], 1;\n{flag}"
    );
    block.wrong(&flagged, FaultKind::Barrier, &words)?;
    let released = with(&flagged, "st.relaxed.cta", "st.release.cta");
    block.right(&with(&released, "ld.relaxed.cta", "ld.acquire.cta"))
}

/// Warp 0 stores to tensor memory; warp 4, whose lanes of it are the same, loads from there.
fn tensor(before: &str, arrive: &str, wait: &str, after: &str) -> String {
    format!(
        "@%p1 mbarrier.init.shared::cta.b64 [%r7], 32;\n@!%p3 bra ALLOCATED;\n\
         tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r7+32], 32;\nALLOCATED: bar.sync 0;\n\
         ld.shared.u32 %r20, [%r7+32];\nsetp.eq.u32 %p6, %r2, 4;\n@%p3 bra STORES;\n@%p6 bra LOADS;\nbra DONE;\n\
         STORES: tcgen05.st.sync.aligned.32x32b.x1.b32 [%r20], {{%r1}};\ntcgen05.wait::st.sync.aligned;\n{before}\n\
         mbarrier.arrive.{arrive}.cluster.shared::cta.b64 _, [%r7];\nbra DONE;\n\
         LOADS: mbarrier.try_wait.parity.{wait}.cluster.shared::cta.b64 %p5, [%r7], 0;\n@!%p5 bra LOADS;\n{after}\n\
         tcgen05.ld.sync.aligned.32x32b.x1.b32 {{%r21}}, [%r20];\ntcgen05.wait::ld.sync.aligned;\n\
         DONE: bar.warp.sync -1;\nbar.sync 0;\n@!%p3 bra END;\ntcgen05.dealloc.cta_group::1.sync.aligned.b32 %r20, 32;\nEND:"
    )
}

#[test]
fn tensor_memory_is_ordered_by_releases_or_by_fences_on_both_sides() -> Outcome<()> {
    let case = Case { check: "tensor-fence", threads: 160, blocks: 1, cluster: 1 };
    let (before, after) =
        ("tcgen05.fence::before_thread_sync;", "tcgen05.fence::after_thread_sync;");
    case.right(&tensor("", "release", "acquire", ""))?;
    case.right(&tensor(before, "relaxed", "relaxed", after))?;
    case.right(&tensor(before, "relaxed", "acquire", ""))?;
    let words = ["tcgen05.fence on both sides", "tensor-fence"];
    for (before, arrive, wait, after) in [
        ("", "relaxed", "relaxed", after),
        ("", "relaxed", "acquire", after),
        (before, "relaxed", "relaxed", ""),
        ("", "release", "relaxed", ""),
        (after, "relaxed", "relaxed", before),
    ] {
        let body = tensor(before, arrive, wait, after);
        case.wrong(&body, FaultKind::TensorHazard, &words)?;
    }
    Ok(())
}

/// `cp.async` into shared memory, which is in the generic proxy, and what all others read of it.
const COPIES: &str = "shl.b32 %r10, %r1, 4;\nadd.u32 %r11, %r6, %r10;\nmul.wide.u32 %rd2, %r1, 16;\nadd.u64 %rd2, %rd1, %rd2;\n\
    st.shared.u32 [%r11], 0;\nbar.sync 2;\n\
    cp.async.ca.shared.global [%r11], [%rd2], 16;\ncp.async.commit_group;\ncp.async.wait_group 0;\nbar.sync 0;\n\
    xor.b32 %r12, %r10, 1024;\nadd.u32 %r12, %r12, %r6;\nld.shared.u32 %r13, [%r12];\ncp.async.wait_all;";

#[test]
fn copies_of_threads_are_waited_for_and_handed_over() -> Outcome<()> {
    BLOCK.right(COPIES)?;
    BLOCK.race(&with(COPIES, "bar.sync 0;", ""))?;
    BLOCK.race(&with(COPIES, "cp.async.wait_group 0;", ""))?;
    BLOCK.race(&with(COPIES, "cp.async.wait_group 0;", "cp.async.wait_group 1;"))?;
    BLOCK.right(&with(
        COPIES,
        "cp.async.commit_group;\ncp.async.wait_group 0;",
        "cp.async.wait_all;",
    ))?;
    // By an mbarrier that follows the copies.
    let arrives = format!(
        "@%p1 mbarrier.init.shared::cta.b64 [%r7], 128;\n{}",
        with(
            &with(
                COPIES,
                "cp.async.commit_group;\ncp.async.wait_group 0;",
                "cp.async.mbarrier.arrive.noinc.shared.b64 [%r7];"
            ),
            "bar.sync 0;",
            "WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p5, [%r7], 0;\n@!%p5 bra WAIT;",
        )
    );
    BLOCK.right(&arrives)?;
    // An arrival of the thread itself does not wait for its copies.
    let early = with(
        &arrives,
        "cp.async.mbarrier.arrive.noinc.shared.b64 [%r7];",
        "mbarrier.arrive.shared::cta.b64 _, [%r7];",
    );
    BLOCK.race(&early)
}

#[test]
fn strong_accesses_to_shared_memory_pass_messages() -> Outcome<()> {
    // Thread 0 writes and raises a flag; thread 32 polls it and reads.
    let body = "@%p1 st.shared.u32 [%r6], 0;\n@%p1 st.shared.u32 [%r6+64], 0;\nbar.sync 0;\nsetp.eq.u32 %p4, %r1, 32;\n\
        @%p1 bra WRITES;\n@%p4 bra POLLS;\nbra END;\n\
        WRITES: st.shared.u32 [%r6], 5;\natom.release.cta.shared.exch.b32 %r10, [%r6+64], 1;\nbra END;\n\
        POLLS: ld.acquire.cta.shared.u32 %r11, [%r6+64];\nsetp.eq.u32 %p5, %r11, 0;\n@%p5 bra POLLS;\n\
        ld.shared.u32 %r12, [%r6];\nEND:";
    BLOCK.right(body)?;
    BLOCK.race(&with(body, "atom.release.cta.", "atom."))?;
    BLOCK.race(&with(body, "ld.acquire.cta.", "ld.volatile."))?;
    // A counter of all is no race; who reads it in an ordinary way without a barrier is one.
    let counted = "@%p1 st.shared.u32 [%r6], 0;\nbar.sync 2;\n@%p1 st.shared.u32 [%r6], 0;\nbar.sync 0;\natom.shared.add.u32 %r10, [%r6], 1;\nbar.sync 1, 128;\n\
        ld.shared.u32 %r11, [%r6];";
    BLOCK.right(counted)?;
    BLOCK.race(&with(counted, "bar.sync 1, 128;", ""))?;
    BLOCK.race(&with(counted, "bar.sync 0;", ""))
}
