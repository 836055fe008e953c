//! `cp.async`: copies of up to 16 bytes by each lane, in the generic proxy.
//!
//! The copies of a warp are carried out in their order: that is one of the orders that hardware may choose, and it
//! lets `cp.async.mbarrier.arrive` follow the copies before it.

use super::store::misaligned;
use crate::execute::step::{Flow, Step};
use crate::fault::Result;
use crate::isa::bulk::copies::{Op, SourceBytes};
use crate::machine::asynchronous::{Agent, Completion, Operation};
use crate::machine::mbarrier::MAX_COUNT;
use crate::machine::order::Issue;
use crate::machine::warp::Wait;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Copy { into, from, bytes, source } => {
            let mut parts = Vec::new();
            for lane in step.each_lane() {
                let from = step.address(from, lane);
                let (_, into) = step.own_shared(into, lane)?;
                let read = match source {
                    SourceBytes::All => *bytes,
                    SourceBytes::Some(value) => step.value(*value, lane) as u32,
                    SourceBytes::NoneIf(value) if step.value(*value, lane) & 1 != 0 => 0,
                    SourceBytes::NoneIf(_) => *bytes,
                };
                if into % bytes != 0 || !from.is_multiple_of(u64::from(*bytes)) || read > *bytes {
                    return misaligned(format!(
                        "cp.async of {read} of {bytes} bytes from {from:#x} to {into:#x}"
                    ));
                }
                step.cta().shared.peek(into, *bytes)?;
                parts.push(Part { lane, from, read, into });
            }
            let number = step.cluster.queues.next_number();
            for part in &parts {
                if let Some(groups) = step.warp().copies.get_mut(part.lane) {
                    groups.issue(number);
                }
            }
            let copy = Copy { rank: step.rank, warp: step.warp, number, bytes: *bytes, parts };
            let lane = step.first_lane();
            step.submit(agent(step), lane, Issue::Copies, Box::new(copy))?;
        }
        Op::Commit => commit(step),
        Op::Wait { allowed, all } => {
            if *all {
                commit(step);
            }
            let copies = &step.warp_ref().copies;
            let mut groups = step.each_lane().filter_map(|lane| copies.get(lane));
            if !groups.all(|groups| groups.is_over(*allowed, false)) {
                return Ok(Flow::Retry(Wait::CopyGroups { allowed: *allowed }));
            }
            if let Some((order, who)) = step.order() {
                order.wait_group(who, false, *allowed, false);
            }
        }
        Op::Arrive { barrier, increments } => {
            let mut barriers = Vec::new();
            for lane in step.each_lane() {
                let (rank, offset) = step.own_shared(barrier, lane)?;
                let found = step.cluster.mbarrier(rank, offset)?;
                if *increments {
                    found.pending = (found.pending + 1).min(MAX_COUNT);
                }
                barriers.push(offset);
            }
            let arrive = Arrive { rank: step.rank, warp: step.warp, barriers };
            let lane = step.first_lane();
            step.submit(agent(step), lane, Issue::AfterCopies, Box::new(arrive))?;
        }
    }
    Ok(Flow::Next)
}

fn commit(step: &mut Step<'_>) {
    for lane in step.each_lane() {
        if let Some(groups) = step.warp().copies.get_mut(lane) {
            groups.commit();
        }
    }
    if let Some((order, who)) = step.order() {
        order.commit_group(who, false);
    }
}

/// One queue for each warp.
fn agent(step: &Step<'_>) -> Agent {
    Agent::Copy(1 << 62 | u64::from(step.rank) << 32 | u64::from(step.warp))
}

/// What one lane copies.
#[derive(Clone, Copy, Debug)]
struct Part {
    lane: usize,
    from: u64,
    read: u32,
    into: u32,
}

/// What the lanes of a warp copy together.
#[derive(Debug)]
struct Copy {
    rank: u32,
    warp: u32,
    number: u64,
    bytes: u32,
    parts: Vec<Part>,
}

impl Operation for Copy {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let cta = at.cluster.running(self.rank)?;
        for part in &self.parts {
            let mut bytes = [0; 16];
            // Where nothing is read, the address need not be one.
            if part.read > 0 {
                at.machine.memory.read(part.from, &mut bytes[..part.read as usize], true)?;
            }
            cta.shared.store(part.into, &bytes[..self.bytes as usize], Some(self.warp))?;
            let warp = cta.warps.get_mut(self.warp as usize);
            if let Some(groups) = warp.and_then(|warp| warp.copies.get_mut(part.lane)) {
                groups.read(self.number);
                groups.written(self.number);
            }
        }
        if at.is_watched() {
            for part in &self.parts {
                at.touch_shared(self.rank, part.into, self.bytes, true)?;
                if part.read > 0 {
                    at.touch_global(part.from, u64::from(part.read), false, false)?;
                }
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("cp.async of {} lanes of warp {}:{}", self.parts.len(), self.rank, self.warp)
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.rank]
    }
}

/// Arrivals after the copies before.
#[derive(Debug)]
struct Arrive {
    rank: u32,
    warp: u32,
    barriers: Vec<u32>,
}

impl Operation for Arrive {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let who = format!("cp.async of warp {}", self.warp);
        for offset in &self.barriers {
            at.signal((self.rank, *offset))?;
            at.cluster.arrive(self.rank, *offset, 1, &who)?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("cp.async.mbarrier.arrive of warp {}:{}", self.rank, self.warp)
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.rank]
    }
}
