//! Order of asynchronous operations, of proxies, and of tensor memory.

use emulator::fault::{Fault, FaultKind};

use crate::program::{BLOCK, Case, GRID, PAIR, STAY, pair, schedules, with};
use crate::support::Outcome;

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
