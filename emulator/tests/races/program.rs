//! What the programs are made of and run with.

use emulator::fault::{Fault, FaultKind};
use emulator::settings::{Checks, Model, Schedule, Settings};

use crate::support::{Device, Outcome, Shape};

const BYTES: usize = 1 << 14;

/// A kernel with a pointer to global memory that is zero (`%rd1`), its thread (`%r1`), warp (`%r2`), lane (`%r3`), thread
/// block (`%r4`), rank (`%r5`), 8 KB of shared memory (`%r6`) and eight mbarriers (`%r7`). `%p1` is true in thread 0,
/// `%p2` in lane 0 of a warp, `%p3` in warp 0.
pub fn text(body: &str, cluster: u32) -> String {
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
pub struct Case {
    pub check: &'static str,
    pub threads: u32,
    pub blocks: u32,
    pub cluster: u32,
}

/// One of several warps, one thread block.
pub const BLOCK: Case = Case { check: "races", threads: 128, blocks: 1, cluster: 1 };
/// Two thread blocks that are no cluster.
pub const GRID: Case = Case { check: "races", threads: 32, blocks: 2, cluster: 1 };
/// Two thread blocks of a cluster.
pub const PAIR: Case = Case { check: "races", threads: 64, blocks: 2, cluster: 2 };

pub fn schedules() -> impl Iterator<Item = (Schedule, u64)> {
    let random = (0..6).map(|seed| (Schedule::Random, seed));
    [(Schedule::Eager, 0), (Schedule::Lazy, 0)].into_iter().chain(random)
}

impl Case {
    pub fn run(self, body: &str, schedule: (Schedule, u64), checks: Checks) -> Outcome<()> {
        let mut settings = Settings::new(Model::B200);
        (settings.schedule, settings.seed) = schedule;
        (settings.steps, settings.checks) = (1 << 20, checks);
        let device = Device::with_ptx(settings, &text(body, self.cluster))?;
        let memory = device.upload(&[0; BYTES])?;
        let shape = Shape { grid: self.blocks, block: self.threads, dynamic_shared: 8192 + 64 };
        device.launch("k", shape, &[&memory.to_le_bytes()])?;
        Ok(())
    }

    pub fn checks(self) -> Outcome<Checks> {
        Ok(Checks::parse(self.check)?)
    }

    /// Right under every schedule, with this check and with all of them.
    pub fn right(self, body: &str) -> Outcome<()> {
        for schedule in schedules() {
            for checks in [self.checks()?, Checks { copy_order: false, ..Checks::ALL }] {
                let done = self.run(body, schedule, checks);
                done.map_err(|fault| format!("{schedule:?}: {fault}\n{body}"))?;
            }
        }
        Ok(())
    }

    /// Right with this check, whatever others say.
    pub fn passes(self, body: &str) -> Outcome<()> {
        for schedule in schedules() {
            let done = self.run(body, schedule, self.checks()?);
            done.map_err(|fault| format!("{schedule:?}: {fault}\n{body}"))?;
        }
        Ok(())
    }

    /// Found under every schedule, and nothing without the check. The message has to name each of the words.
    pub fn wrong(self, body: &str, kind: FaultKind, words: &[&str]) -> Outcome<()> {
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
    pub fn race(self, body: &str) -> Outcome<()> {
        self.wrong(body, FaultKind::Race, &["nothing orders them (EMULATOR_CHECKS: races)"])
    }
}

/// Replaces the only place of something.
pub fn with(body: &str, from: &str, to: &str) -> String {
    assert_eq!(body.matches(from).count(), 1, "{from} in {body}");
    body.replace(from, to)
}

/// What the thread blocks of a pair do in order: init of mbarriers and memory, then `body`.
pub fn pair(body: &str) -> String {
    format!(
        "@%p1 mbarrier.init.shared::cta.b64 [%r7], 1;\n@%p1 fence.mbarrier_init.release.cluster;\n\
         shl.b32 %r10, %r1, 4;\nadd.u32 %r11, %r6, %r10;\nst.shared.v4.u32 [%r11], {{%r1, %r1, %r1, %r1}};\n\
         xor.b32 %r12, %r5, 1;\nmapa.shared::cluster.u32 %r13, %r11, %r12;\nmapa.shared::cluster.u32 %r14, %r7, %r12;\n\
         mapa.shared::cluster.u32 %r18, %r6, %r12;\n\
         barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n{body}"
    )
}

/// All of both thread blocks stay until the end.
pub const STAY: &str =
    "bar.warp.sync -1;\nbarrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n";
