//! Order between threads: barriers, mbarriers, and messages through memory.

use emulator::fault::FaultKind;

use crate::program::{BLOCK, Case, GRID, PAIR, STAY, pair, with};
use crate::support::Outcome;

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
