//! A warp: 32 lanes that may stand at different instructions.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::isa::value::LANES;
use crate::machine::global::Allocation;
use crate::machine::registers::Registers;
use crate::machine::tmem::Region;

/// Why a group of lanes does not go on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// For the phase with this number (0 is the first) of the mbarrier at this offset to complete.
    MBarrier {
        /// Offset in the thread block's own shared memory.
        offset: u32,
        /// Count of completed phases that is waited to be exceeded.
        phase: u64,
    },
    /// For the named barrier to complete its round with this number.
    NamedBarrier {
        /// 0..16
        id: u8,
        /// Rounds that were complete at arrival.
        round: u64,
    },
    /// For the barrier of the cluster to complete its round with this number.
    ClusterBarrier {
        /// Rounds that were complete at arrival.
        round: u64,
    },
    /// For all but `allowed` bulk groups of the lanes to be complete, or read.
    BulkGroups {
        /// How many may be left.
        allowed: u32,
        /// Whether it is enough that their source was read.
        read: bool,
    },
    /// For all but `allowed` groups of `cp.async` of the lanes to be complete.
    CopyGroups {
        /// How many may be left.
        allowed: u32,
    },
    /// For the warp's tcgen05.ld to complete.
    TensorLoads,
    /// For the warp's tcgen05.st to complete.
    TensorStores,
    /// For columns of tensor memory to become free.
    TensorColumns {
        /// How many.
        columns: u32,
    },
    /// For the peer of the pair of thread blocks to come to the same instruction (`cta_group::2`).
    Peer {
        /// Rounds that were complete at arrival.
        round: u64,
    },
    /// For all but `allowed` wgmma groups of the warp to be complete.
    WgmmaGroups {
        /// How many may be left.
        allowed: u32,
    },
    /// For the launches before this one to be complete (`griddepcontrol.wait`).
    PriorGrids,
}

/// What a group does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Executes.
    Ready,
    /// Stands at an instruction for which other lanes have to come.
    Converging,
    /// Waits, and then executes the same instruction once more.
    Retry(Wait),
    /// Waits, and then goes on with the next instruction.
    Advance(Wait),
}

/// Lanes at the same instruction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// Which.
    pub lanes: u32,
    /// Index of the instruction.
    pub pc: u32,
    /// Where the calls return to, outermost first.
    pub calls: Vec<u32>,
    /// What it does next.
    pub state: State,
}

/// Groups of `cp.async.bulk`, or of `cp.async`, of one lane.
#[derive(Clone, Debug, Default)]
pub struct BulkGroups {
    /// Operations, by number, that are in no group yet.
    pub(super) open: Vec<u64>,
    /// Operations in `open` or in a group whose source is still to be read.
    unread: Vec<u64>,
    /// Operations in `open` or in a group that are still to be written.
    unwritten: Vec<u64>,
    /// Committed groups, oldest first, from the first that is not complete.
    committed: VecDeque<Vec<u64>>,
}

impl BulkGroups {
    /// An operation is issued.
    pub fn issue(&mut self, number: u64) {
        self.open.push(number);
        self.unread.push(number);
        self.unwritten.push(number);
    }

    /// `commit_group`
    pub fn commit(&mut self) {
        self.committed.push_back(std::mem::take(&mut self.open));
        self.forget();
    }

    /// The source of an operation is read.
    pub fn read(&mut self, number: u64) {
        self.unread.retain(|other| *other != number);
    }

    /// An operation is complete.
    pub fn written(&mut self, number: u64) {
        self.unwritten.retain(|other| *other != number);
        self.forget();
    }

    /// Whether all groups but the newest `allowed` are complete, or at least read.
    pub fn is_over(&self, allowed: u32, read: bool) -> bool {
        let left = if read { &self.unread } else { &self.unwritten };
        let older = self.committed.len().saturating_sub(allowed as usize);
        self.committed.iter().take(older).flatten().all(|number| !left.contains(number))
    }

    fn forget(&mut self) {
        while let Some(oldest) = self.committed.front()
            && oldest.iter().all(|number| !self.unwritten.contains(number))
        {
            self.committed.pop_front();
        }
    }
}

/// Groups of wgmma of a warp. Operations of a warp complete in order.
#[derive(Clone, Debug, Default)]
pub struct WgmmaGroups {
    /// Operations that are in no group yet and not complete.
    open: u32,
    /// Committed groups that were not waited for, oldest first: operations that are not complete.
    committed: VecDeque<u32>,
    /// Word registers that operations of the committed groups, and last those of the open one, use.
    registers: VecDeque<Vec<u32>>,
    /// The same of the open group.
    open_registers: Vec<u32>,
    /// Groups that were waited for.
    over: u64,
}

impl WgmmaGroups {
    /// An operation that uses these registers.
    pub fn issue(&mut self, registers: Vec<u32>) {
        self.open += 1;
        self.open_registers.extend(registers);
    }

    /// `wgmma.commit_group`
    pub fn commit(&mut self) {
        self.committed.push_back(std::mem::take(&mut self.open));
        self.registers.push_back(std::mem::take(&mut self.open_registers));
    }

    /// The oldest operation is complete.
    pub fn completed(&mut self) {
        match self.committed.iter_mut().find(|left| **left > 0) {
            Some(left) => *left -= 1,
            None => self.open = self.open.saturating_sub(1),
        }
    }

    /// `wgmma.wait_group` is over: all but the newest groups are complete.
    pub fn waited(&mut self, allowed: u32) {
        let over = self.committed.len().saturating_sub(allowed as usize);
        self.committed.drain(..over);
        self.registers.drain(..over);
        self.over += over as u64;
    }

    /// How many groups were ever committed.
    pub fn all(&self) -> u64 {
        self.over + self.committed.len() as u64
    }

    /// How many of them, from the first on, are complete.
    pub fn complete(&self) -> u64 {
        self.over + self.committed.iter().take_while(|left| **left == 0).count() as u64
    }

    /// Whether an operation that was not waited for uses a register.
    pub fn uses(&self, register: u32) -> bool {
        let groups = self.registers.iter().chain([&self.open_registers]);
        groups.flatten().any(|other| *other == register)
    }

    /// Whether no operation is left to be waited for.
    pub fn is_empty(&self) -> bool {
        self.open_registers.is_empty() && self.registers.is_empty()
    }
}

/// What a warp has issued of tcgen05.ld and not waited for by tcgen05.wait::ld.
#[derive(Clone, Debug, Default)]
pub struct PendingLoads {
    /// Word registers that are being filled.
    pub registers: Vec<u32>,
    /// What is being read.
    pub regions: Vec<Region>,
}

/// 32 lanes.
#[derive(Debug, Default)]
pub struct Warp {
    /// Its place in the thread block.
    pub index: u32,
    /// Lanes that exist.
    pub lanes: u32,
    /// Lanes that have exited.
    pub exited: u32,
    /// Lanes by place; those that have exited are in none.
    pub groups: Vec<Group>,
    /// Values.
    pub registers: Registers,
    /// Local memory of each lane, then its `.param` variables of calls.
    pub local: Vec<Vec<u8>>,
    /// Registers that tcgen05.ld still fills, until tcgen05.wait::ld.
    pub loads: PendingLoads,
    /// Bulk groups by lane.
    pub bulk: Vec<BulkGroups>,
    /// Groups of `cp.async` by lane.
    pub copies: Vec<BulkGroups>,
    /// wgmma groups.
    pub wgmma: WgmmaGroups,
    /// Instructions executed.
    pub executed: u64,
    /// The allocation of its last access to global memory: the next is likely there too.
    pub allocation: Option<Arc<Allocation>>,
    /// It has read accumulators: its instructions count as those of the epilogue.
    pub reads_accumulators: bool,
    /// The round of the cluster's barrier that it arrived in and has not waited for.
    pub cluster_round: Option<u64>,
    /// `bar.red`: the barrier and its round that it arrived in, until it takes the answer.
    pub reduction: Option<(u8, u64)>,
    /// Lanes whose `mbarrier.try_wait` has run into its time limit: the next one they execute does not wait.
    pub out_of_time: u32,
    /// Turns that ended because the time was over, or that a poll gave up: another group gets the next one.
    pub turns: u32,
}

impl Warp {
    /// A warp whose `lanes` stand at the instruction `start`.
    pub fn new(index: u32, lanes: u32, start: u32, registers: Registers, local: usize) -> Self {
        Self {
            index,
            lanes,
            groups: vec![Group { lanes, pc: start, calls: Vec::new(), state: State::Ready }],
            registers,
            local: vec![vec![0; local]; if local == 0 { 0 } else { LANES }],
            bulk: vec![BulkGroups::default(); LANES],
            copies: vec![BulkGroups::default(); LANES],
            ..Self::default()
        }
    }

    /// Lanes that have not exited.
    pub fn alive(&self) -> u32 {
        self.lanes & !self.exited
    }

    /// Takes lanes out of a group into a new one that stands at `pc`, ready; `group` must keep some.
    pub fn split(&mut self, group: usize, lanes: u32, pc: u32) {
        let from = &mut self.groups[group];
        from.lanes &= !lanes;
        let calls = from.calls.clone();
        self.groups.push(Group { lanes, pc, calls, state: State::Ready });
    }

    /// Brings the groups that stand where this one stands, and wait for nothing but others, into it. Gives its place
    /// afterwards.
    pub fn gather(&mut self, group: usize) -> usize {
        let mut kept = group;
        let mut other = 0;
        while other < self.groups.len() {
            let (here, there) = (&self.groups[kept], &self.groups[other]);
            let same = other != kept
                && here.pc == there.pc
                && here.calls == there.calls
                && matches!(there.state, State::Ready | State::Converging);
            if !same {
                other += 1;
                continue;
            }
            let lanes = there.lanes;
            self.groups[kept].lanes |= lanes;
            self.groups.swap_remove(other);
            if kept == self.groups.len() {
                kept = other;
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_groups_but_the_newest_have_to_be_over() {
        let mut groups = BulkGroups::default();
        groups.issue(1);
        groups.issue(2);
        groups.commit();
        groups.issue(3);
        groups.commit();
        groups.issue(4);
        // What is in no group is not waited for.
        assert!(groups.is_over(2, false) && !groups.is_over(1, true));
        // The newer group does not stand for the older one.
        groups.read(3);
        groups.written(3);
        assert!(!groups.is_over(1, true) && !groups.is_over(0, true));
        groups.read(1);
        groups.read(2);
        assert!(groups.is_over(0, true) && !groups.is_over(1, false));
        groups.written(2);
        groups.written(1);
        assert!(groups.is_over(0, false));
        assert!(groups.committed.is_empty());
        // An operation may be over before its group is committed.
        groups.read(4);
        groups.written(4);
        groups.commit();
        assert!(groups.is_over(0, false) && groups.open.is_empty());
    }
}
