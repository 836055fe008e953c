//! What an access, an arrival or a fence says of the order of memory (PTX ISA, "Memory Consistency Model").

use crate::ptx::Statement;

/// Which threads may observe an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Those of the thread block.
    Block,
    /// Those of the cluster.
    Cluster,
    /// All of the device, and of the system.
    Device,
}

/// Of one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Semantics {
    /// Not `.weak`: `.relaxed` or stronger, `.volatile`, or atomic.
    pub is_strong: bool,
    /// What comes after is after what was observed.
    pub acquires: bool,
    /// What came before is before what is observed.
    pub releases: bool,
    /// The scope that is written out, or that is the default.
    pub scope: Scope,
}

impl Semantics {
    /// Of an ordinary load or store.
    pub const WEAK: Self =
        Self { is_strong: false, acquires: false, releases: false, scope: Scope::Device };

    /// From the words of an opcode. `scope` stands where none is written.
    fn parse(statement: &Statement, scope: Scope) -> Self {
        let has = |word| statement.has(word);
        let scope = match (has("cta"), has("cluster"), has("gpu") || has("sys")) {
            (true, ..) => Scope::Block,
            (_, true, _) => Scope::Cluster,
            (_, _, true) => Scope::Device,
            _ => scope,
        };
        let both = has("acq_rel") || has("sc");
        let acquires = both || has("acquire");
        let releases = both || has("release");
        let is_strong = acquires || releases || has("relaxed") || has("volatile") || has("mmio");
        Self { is_strong, acquires, releases, scope }
    }

    /// Of `ld` and `st`.
    pub(crate) fn access(statement: &Statement) -> Self {
        Self::parse(statement, Scope::Device)
    }

    /// Of `atom` and `red`, which are strong whatever they say.
    pub(crate) fn atomic(statement: &Statement) -> Self {
        Self { is_strong: true, ..Self::parse(statement, Scope::Device) }
    }

    /// Of an arrival, which releases if nothing else is written. Without a scope it reaches as far as its mbarrier: so
    /// CUTLASS writes arrivals at other thread blocks.
    pub(crate) fn arrival(statement: &Statement) -> Self {
        let parsed = Self::parse(statement, Scope::Cluster);
        Self { is_strong: true, releases: !statement.has("relaxed"), acquires: false, ..parsed }
    }

    /// Of a wait, which acquires if nothing else is written.
    pub(crate) fn wait(statement: &Statement) -> Self {
        let parsed = Self::parse(statement, Scope::Cluster);
        Self { is_strong: true, acquires: !statement.has("relaxed"), releases: false, ..parsed }
    }

    /// Of `fence` and `membar`.
    pub(crate) fn fence(statement: &Statement) -> Self {
        let parsed = Self::parse(statement, Scope::Device);
        if parsed.acquires || parsed.releases {
            return parsed;
        }
        // `membar`, and `fence` without a word, are both.
        Self { is_strong: true, acquires: true, releases: true, ..parsed }
    }
}

/// A fence, by what it orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// `fence.acq_rel`, `fence.sc`, `membar` and their halves.
    Memory(Semantics),
    /// `fence.mbarrier_init.release.cluster`
    Inits,
    /// `tcgen05.fence::before_thread_sync`
    BeforeSync,
    /// `tcgen05.fence::after_thread_sync`
    AfterSync,
}
