//! `cp.async.bulk.tensor` and `cp.reduce.async.bulk.tensor`.

use super::maps::Source;
use super::route::Destination;
use super::store::{Owner, alone, count, misaligned};
use super::{boxes, route};
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::bulk::tensor::{Op, Way};
use crate::machine::asynchronous::{Completion, Operation};
use crate::machine::order::Issue;
use crate::ptx::Space;
use crate::tma::map::TensorMap;
use crate::tma::reduce::{Number, Operator, Reduction};

/// Alignment of a box in shared memory, in bytes.
const ALIGNMENT: u32 = 128;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    let mut counted = None;
    for lane in step.each_lane() {
        let source = Source::find(step, &op.map, lane)?;
        let map = source.decode_ranked(step, op.coordinates.len())?;
        let coordinates: Vec<i32> =
            op.coordinates.iter().map(|value| step.value(*value, lane) as i32).collect();
        match &op.way {
            Way::Load { into, barrier, mask, pairs } => {
                let into = match into.space {
                    Space::Shared => step.own_shared(into, lane)?,
                    _ => step.cluster_shared(into, lane)?,
                };
                check_offset(&map, into.1)?;
                let barrier = step.cluster_shared(barrier, lane)?;
                let mask = mask.map(|mask| step.value(mask, lane) as u32);
                let size = step.cluster.ctas.len() as u32;
                let parts = route::destinations(into, barrier, mask, *pairs, size)?;
                route::check(step.cluster, &parts, map.box_bytes())?;
                let moved = step.cluster.counters.loads.entry(source.key()).or_default();
                count(moved, map.transaction_bytes(), parts.len());
                for to in parts {
                    let coordinates = coordinates.clone();
                    let load = Load { source, coordinates, to };
                    step.submit(alone(step.cluster), lane, Issue::Alone, Box::new(load))?;
                }
            }
            Way::Store { from, operator } => {
                let (_, offset) = step.own_shared(from, lane)?;
                check_offset(&map, offset)?;
                step.cta().shared.peek(offset, map.box_bytes())?;
                let reduction = reduction(&map, *operator)?;
                boxes::check_direction(&map, reduction)?;
                // CUTLASS's epilogues store a box with all lanes of a warp: one copy as far as time goes.
                let this = Some((source, coordinates.clone(), offset));
                if counted != this {
                    let moved = step.cluster.counters.stores.entry(source.key()).or_default();
                    count(moved, map.transaction_bytes(), 1);
                    counted = this;
                }
                let owner = Owner::issue(step, lane);
                let store = Store { source, coordinates, offset, reduction, owner };
                step.submit(alone(step.cluster), lane, Issue::Bulk, Box::new(store))?;
            }
        }
    }
    Ok(Flow::Next)
}

fn check_offset(map: &TensorMap, offset: u32) -> Result<()> {
    if !offset.is_multiple_of(ALIGNMENT) {
        return misaligned(format!(
            "a box at offset {offset:#x} of shared memory, no multiple of {ALIGNMENT}; {}",
            map.describe()
        ));
    }
    Ok(())
}

fn reduction(map: &TensorMap, operator: Option<Operator>) -> Result<Option<Reduction>> {
    let Some(operator) = operator else { return Ok(None) };
    let number = Number::of(map.element);
    match number.and_then(|number| Reduction::new(operator, number)) {
        Some(reduction) => Ok(Some(reduction)),
        None => {
            let message = format!("a reduction by {operator:?}; {}", map.describe());
            Err(Fault::new(FaultKind::Descriptor, message))
        }
    }
}

/// A part of a load: that to one thread block.
#[derive(Debug)]
struct Load {
    source: Source,
    coordinates: Vec<i32>,
    to: Destination,
}

impl Operation for Load {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let map = self.source.decode(at.machine, at.launch)?;
        let to = self.to;
        let image = boxes::load(&map, &at.machine.memory, &self.coordinates, to.offset)?;
        let shared = &mut at.cluster.running(to.rank)?.shared;
        for (offset, bytes) in image.pieces() {
            shared.store_async(offset, bytes)?;
        }
        if at.is_watched() {
            for (address, bytes) in boxes::ranges(&map, &self.coordinates, false)? {
                at.touch_global(address, bytes, false, false)?;
            }
        }
        at.complete_bytes(to.barrier, map.transaction_bytes())
    }

    fn describe(&self) -> String {
        let Destination { rank, offset, barrier } = self.to;
        format!(
            "TMA load at {:?} to {rank}:{offset:#x}, mbarrier {}:{:#x}",
            self.coordinates, barrier.0, barrier.1
        )
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.to.rank, self.to.barrier.0]
    }
}

/// A store, or reduction, that is to read its source.
#[derive(Debug)]
struct Store {
    source: Source,
    coordinates: Vec<i32>,
    offset: u32,
    reduction: Option<Reduction>,
    owner: Owner,
}

impl Operation for Store {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let map = self.source.decode(at.machine, at.launch)?;
        let Self { coordinates, offset, reduction, owner, .. } = *self;
        let shared = &at.cluster.running(owner.rank)?.shared;
        let linear = boxes::source(&map, shared, &coordinates, offset)?;
        owner.read(at, Box::new(Write { map, coordinates, linear, reduction, owner }))
    }

    fn describe(&self) -> String {
        format!("TMA store at {:?} from {:#x}: its source", self.coordinates, self.offset)
    }

    fn holds_thread_block(&self) -> bool {
        true
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.owner.rank]
    }
}

/// A store whose source is read.
#[derive(Debug)]
struct Write {
    map: TensorMap,
    coordinates: Vec<i32>,
    linear: Vec<u8>,
    reduction: Option<Reduction>,
    owner: Owner,
}

impl Operation for Write {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let memory = &at.machine.memory;
        boxes::scatter(&self.map, memory, &self.coordinates, &self.linear, self.reduction)?;
        if at.is_watched() {
            for (address, bytes) in boxes::ranges(&self.map, &self.coordinates, true)? {
                at.touch_global(address, bytes, true, self.reduction.is_some())?;
            }
        }
        self.owner.written(at);
        Ok(())
    }

    fn describe(&self) -> String {
        format!("TMA store at {:?}: its write", self.coordinates)
    }

    fn may_outlive_thread_block(&self) -> bool {
        true
    }

    fn uses(&self) -> Vec<u32> {
        Vec::new()
    }
}
