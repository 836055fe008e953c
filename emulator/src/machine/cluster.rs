//! A cluster of thread blocks, interpreted by one thread of the host.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::counters::Counters;
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::address::{SHARED_RANK_SHIFT, split_shared};
use crate::isa::value::LANES;
use crate::machine::asynchronous::{Queues, Thread};
use crate::machine::circles::Circles;
use crate::machine::cta::{Cta, NamedBarrier};
use crate::machine::grid::Clusters;
use crate::machine::mbarrier::MBarrier;
use crate::machine::order::Order;
use crate::machine::registers::Registers;
use crate::machine::shared::SharedMemory;
use crate::machine::stall::Stall;
use crate::machine::tmem::TensorMemory;
use crate::machine::warp::Warp;
use crate::machine::{Launch, Machine};

/// Thread blocks that run together.
#[derive(Debug)]
pub struct Cluster {
    /// By rank.
    pub ctas: Vec<Cta>,
    /// What is under way.
    pub queues: Queues,
    /// Threads that arrived at the cluster's barrier, and complete rounds.
    pub(super) barrier: (u32, u64),
    /// For everything random.
    pub random: Random,
    /// For the report.
    pub counters: Counters,
    /// Number of the last operation of the tensor cores.
    tensor_operations: u64,
    /// The same of those that each thread issued.
    tensor_operations_of: BTreeMap<Thread, u64>,
    /// The grid that it is part of.
    pub grid: Arc<Clusters>,
    /// Barriers and operations that completed: the time by which waiting is measured.
    pub events: u64,
    /// Rounds over all warps in a row without such an event.
    pub quiet: u32,
    /// What warps changed beyond their own registers and local memory.
    pub changes: u64,
    /// How often they read what other clusters may change.
    pub reads: u64,
    /// Time limits of waits without any of these.
    pub(super) stall: Stall,
    /// What is known of warps that go round in circles.
    pub(super) circles: Circles,
    /// Warp instructions executed.
    pub steps: u64,
    /// A failed `clusterlaunchcontrol` answer was seen: no further request is allowed.
    pub cancel_failed: bool,
    /// The launches before this one are complete, as far as this cluster can tell.
    pub prior_complete: bool,
    /// Barriers and operations that had completed, and instructions executed, when one of them completed last.
    pub last_event: (u64, u64),
    /// Meeting points of pairs of thread blocks (`cta_group::2`): by pair, who came, and complete rounds.
    pub pairs: Vec<(u32, u64)>,
    /// What is before what, where a check needs it.
    pub order: Option<Box<Order>>,
}

impl Cluster {
    /// The cluster with this number of a grid, about to start. `slot` is its place among the resident ones.
    pub fn new(
        machine: &Machine,
        launch: &Launch,
        grid: &Arc<Clusters>,
        number: u64,
        slot: u32,
    ) -> Self {
        let id = grid.id(number);
        let size = launch.cluster_size();
        let order = Order::new(launch, machine.settings.checks, number);
        let ctas = (0..size).map(|rank| {
            let inside = coordinates(rank, launch.cluster);
            let id = [0, 1, 2].map(|axis| id[axis] * launch.cluster[axis] + inside[axis]);
            let mut cta =
                new_cta(launch, rank, id, (slot * size + rank) % machine.settings.sms.max(1));
            if order.is_some() {
                cta.shared.watch();
            }
            cta
        });
        let ctas = ctas.collect();
        Self {
            ctas,
            queues: Queues::default(),
            barrier: (0, 0),
            random: Random::new(machine.settings.seed ^ number.wrapping_mul(0xA24B_AED4_963E_E407)),
            counters: Counters { thread_blocks: u64::from(size), ..Counters::default() },
            tensor_operations: 0,
            tensor_operations_of: BTreeMap::new(),
            pairs: vec![(0, 0); size.div_ceil(2) as usize],
            grid: Arc::clone(grid),
            events: 0,
            quiet: 0,
            changes: 0,
            reads: 0,
            stall: Stall::default(),
            circles: Circles::default(),
            steps: 0,
            cancel_failed: false,
            prior_complete: true,
            last_event: (0, 0),
            order,
        }
    }

    /// A thread block of the cluster that is there and has not ended.
    pub fn running(&mut self, rank: u32) -> Result<&mut Cta> {
        let size = self.ctas.len();
        match self.ctas.get_mut(rank as usize) {
            Some(cta) if !cta.finished => Ok(cta),
            Some(_) => Err(Fault::new(
                FaultKind::OutOfBounds,
                format!("thread block {rank} of the cluster has exited"),
            )),
            None => Err(Fault::new(
                FaultKind::OutOfBounds,
                format!("thread block {rank} of a cluster of {size}"),
            )),
        }
    }

    /// The mbarrier at an offset of the shared memory of a thread block.
    pub fn mbarrier(&mut self, rank: u32, offset: u32) -> Result<&mut MBarrier> {
        if !offset.is_multiple_of(8) {
            let message = format!("an mbarrier at offset {offset:#x}, no multiple of 8");
            return Err(Fault::new(FaultKind::Misaligned, message));
        }
        self.running(rank)?.mbarriers.get_mut(&offset).ok_or_else(|| {
            Fault::new(
                FaultKind::Barrier,
                format!("no mbarrier was initialized at offset {offset:#x} of thread block {rank}"),
            )
        })
    }

    /// `complete_tx` by hardware.
    pub fn complete_bytes(&mut self, rank: u32, offset: u32, bytes: u32) -> Result<()> {
        let change = |barrier: &mut MBarrier| barrier.complete_bytes(bytes);
        self.change_mbarrier(rank, offset, change)
    }

    /// `arrive` by hardware or by a thread; `who` is kept for dumps.
    pub fn arrive(&mut self, rank: u32, offset: u32, count: u32, who: &str) -> Result<()> {
        self.change_mbarrier(rank, offset, |barrier| {
            barrier.last.clear();
            barrier.last.push_str(who);
            barrier.arrive(count)
        })
    }

    /// Applies a change; a phase that it completes counts as an event.
    pub fn change_mbarrier(
        &mut self,
        rank: u32,
        offset: u32,
        change: impl FnOnce(&mut MBarrier) -> Result<()>,
    ) -> Result<()> {
        let barrier = self.mbarrier(rank, offset)?;
        let phase = barrier.phase;
        let result = change(barrier);
        let completed = barrier.phase != phase;
        if completed {
            self.events += 1;
            if let Some(order) = &mut self.order {
                order.phase_complete((rank, offset));
            }
        }
        result.map_err(|mut fault| {
            fault.message = format!("mbarrier {rank}:{offset:#x}: {}", fault.message);
            fault
        })
    }

    /// Numbers an operation of the tensor cores that this thread issued and that is carried out now.
    pub fn count_tensor_operation(&mut self, thread: Thread) -> u64 {
        self.tensor_operations += 1;
        self.tensor_operations_of.insert(thread, self.tensor_operations);
        self.tensor_operations
    }

    /// Number of the last operation of the tensor cores that this thread issued and that was carried out.
    pub fn last_tensor_operation(&self, thread: Thread) -> u64 {
        self.tensor_operations_of.get(&thread).copied().unwrap_or(0)
    }

    /// Rank and offset of a shared address that may lie in any thread block of the cluster.
    pub fn locate(&self, address: u32) -> Result<(u32, u32)> {
        let (rank, offset) = split_shared(address);
        if rank as usize >= self.ctas.len() {
            let message = format!(
                "shared address {address:#x} names thread block {rank} (bits {SHARED_RANK_SHIFT} and up) \
                 of a cluster of {}",
                self.ctas.len()
            );
            return Err(Fault::new(FaultKind::OutOfBounds, message));
        }
        Ok((rank, offset))
    }

    /// All threads of a warp arrive at the cluster's barrier.
    pub fn arrive_at_barrier(&mut self) {
        self.barrier.0 += LANES as u32;
        self.complete_cluster_barrier();
    }

    /// Complete rounds of the cluster's barrier.
    pub fn barrier_rounds(&self) -> u64 {
        self.barrier.1
    }

    /// Completes the round if all warps that have not exited, or have arrived before they did, are there.
    fn complete_cluster_barrier(&mut self) {
        let missing = self
            .ctas
            .iter()
            .flat_map(|cta| &cta.warps)
            .any(|warp| !warp.groups.is_empty() && warp.cluster_round != Some(self.barrier.1));
        if !missing && self.barrier.0 > 0 {
            if let Some(order) = &mut self.order {
                order.cluster_complete(self.barrier.1);
            }
            self.barrier = (0, self.barrier.1 + 1);
            self.events += 1;
        }
    }

    /// The counts, with those of the warps.
    pub fn take_counters(&mut self) -> Counters {
        let mut counters = std::mem::take(&mut self.counters);
        let warps = self.ctas.iter().map(|cta| cta.warps.len()).max().unwrap_or(0);
        counters.instructions.resize(warps, 0);
        counters.epilogue.resize(warps, 0);
        for warp in self.ctas.iter().flat_map(|cta| &cta.warps) {
            counters.instructions[warp.index as usize] += warp.executed;
            if warp.reads_accumulators {
                counters.epilogue[warp.index as usize] += warp.executed;
            }
        }
        counters
    }

    /// A warp of the thread block has exited: barriers may be complete without it.
    pub fn exit_from_barriers(&mut self, rank: u32) {
        let cta = &mut self.ctas[rank as usize];
        let live = 32 * cta.warps.iter().filter(|warp| !warp.groups.is_empty()).count() as u32;
        for (id, barrier) in (0..).zip(&mut cta.named) {
            if barrier.arrived > 0 && !barrier.counted {
                barrier.expected = live;
                if barrier.arrived >= live {
                    if let Some(order) = &mut self.order {
                        order.named_complete(rank, id, barrier.round);
                    }
                    barrier.complete();
                    self.events += 1;
                }
            }
        }
        self.complete_cluster_barrier();
    }
}

/// Place in a box by number, x fastest.
pub(super) fn coordinates(number: u32, dimensions: [u32; 3]) -> [u32; 3] {
    let [x, y, _] = dimensions.map(|extent| extent.max(1));
    [number % x, number / x % y, number / (x * y)]
}

fn new_cta(launch: &Launch, rank: u32, id: [u32; 3], smid: u32) -> Cta {
    let kernel = &launch.kernel;
    let threads = launch.threads();
    let warps = threads.div_ceil(32);
    let end = kernel.dynamic_shared + launch.dynamic_shared;
    Cta {
        rank,
        id,
        smid,
        shared: SharedMemory::new(end.saturating_sub(crate::isa::address::SHARED_RESERVED), warps),
        mbarriers: Default::default(),
        named: std::array::from_fn(|_| NamedBarrier::default()),
        tmem: TensorMemory::default(),
        warps: (0..warps)
            .map(|index| {
                let lanes = (threads - index * 32).min(32);
                let mask = (u64::from(u32::MAX) >> (32 - lanes)) as u32;
                let registers = Registers::new(kernel.registers);
                let local = kernel.local + kernel.call_bytes;
                Warp::new(index, mask, kernel.start, registers, local as usize)
            })
            .collect(),
        finished: false,
        launched_dependents: false,
    }
}

/// xorshift64*: small, fast, the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Equal seeds give equal numbers.
    pub fn new(seed: u64) -> Self {
        // A finalizer spreads neighboring seeds; the state must not be zero.
        let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((state ^ (state >> 31)) | 1)
    }

    /// The next number.
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() >> 33) as usize % end
    }
}
