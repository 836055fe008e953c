//! Named barriers of a thread block, the barrier of the cluster, and `bar.warp.sync`.
//!
//! The hardware counts threads in whole warps; so does this. A barrier without a count waits for the warps that have
//! not exited.

use crate::execute::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::cluster::Cluster;
use crate::machine::registers::LANES;
use crate::machine::warp::Wait;
use crate::program::{Convergence, Lowered, Scope, Value};
use crate::ptx::{Guard, Operand, Register, Statement};

/// What `bar.red` computes of the predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// How many are true.
    Count,
    /// Whether all are.
    And,
    /// Whether any is.
    Or,
}

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `bar.warp.sync`
    Warp,
    /// `bar.sync`, `bar.arrive`, `bar.red`
    Named {
        /// 0..16
        id: Value,
        /// Threads of all warps; none for all of the thread block.
        count: Option<Value>,
        /// Whether it waits.
        waits: bool,
        /// What it computes, of which predicate, into which register.
        reduction: Option<(Reduction, Guard, Register)>,
    },
    /// `barrier.cluster.arrive`
    ClusterArrive,
    /// `barrier.cluster.wait`
    ClusterWait,
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered {
    let unsupported = || Fault::unsupported(statement.opcode());
    let words: Vec<&str> = statement.suffixes.iter().map(String::as_str).collect();
    let operands = statement.operands.as_slice();
    let (op, convergence) = match (words.as_slice(), operands) {
        (["warp", "sync"], [members]) => {
            (Op::Warp, Convergence::Members(scope.value(members, 32)?))
        }
        (["cluster", "arrive", ..], []) => (Op::ClusterArrive, Convergence::Warp),
        (["cluster", "wait", ..], []) => (Op::ClusterWait, Convergence::Warp),
        ([..], operands) => {
            let has = |word| statement.has(word);
            let reduction = match (has("popc"), has("and"), has("or")) {
                _ if !has("red") => None,
                (true, ..) => Some(Reduction::Count),
                (_, true, _) => Some(Reduction::And),
                (_, _, true) => Some(Reduction::Or),
                _ => return Err(unsupported()),
            };
            let (reduction, rest) = match (reduction, operands) {
                (None, rest) => (None, rest),
                (Some(which), [Operand::Register(into), rest @ .., predicate]) => {
                    let guard = match predicate {
                        Operand::Register(register) => {
                            Guard { register: *register, negated: false }
                        }
                        Operand::Not(register) => Guard { register: *register, negated: true },
                        _ => return Err(unsupported()),
                    };
                    (Some((which, guard, *into)), rest)
                }
                _ => return Err(unsupported()),
            };
            let (id, count) = match rest {
                [id] => (scope.value(id, 32)?, None),
                [id, count] => (scope.value(id, 32)?, Some(scope.value(count, 32)?)),
                _ => return Err(unsupported()),
            };
            if !has("sync") && !has("arrive") && !has("red") {
                return Err(unsupported());
            }
            let op = Op::Named { id, count, waits: !has("arrive"), reduction };
            (op, Convergence::Warp)
        }
    };
    Ok((crate::program::Op::Sync(super::Op::Barrier(op)), convergence))
}

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Warp => Ok(Flow::Next),
        Op::Named { id, count, waits, reduction } => {
            named(step, *id, *count, *waits, reduction.as_ref())
        }
        Op::ClusterArrive => cluster_arrive(step),
        Op::ClusterWait => {
            let Some(round) = step.warp().cluster_round else {
                let message = "barrier.cluster.wait without barrier.cluster.arrive before it";
                return Err(Fault::new(FaultKind::Barrier, message));
            };
            if step.cluster.barrier.1 > round {
                step.warp().cluster_round = None;
                return Ok(Flow::Next);
            }
            Ok(Flow::Retry(Wait::ClusterBarrier { round }))
        }
    }
}

fn named(
    step: &mut Step<'_>,
    id: Value,
    count: Option<Value>,
    waits: bool,
    reduction: Option<&(Reduction, Guard, Register)>,
) -> Result<Flow> {
    let lane = step.first_lane();
    let number = step.value(id, lane);
    let count = count.map(|count| step.value(count, lane) as u32);
    let live = 32 * step.cta().warps.iter().filter(|warp| !warp.groups.is_empty()).count() as u32;
    if number >= 16 {
        let message = format!("named barrier {number}; there are 16");
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    let index = number as usize;
    if let (Some(_), Some((which, _, into))) = (step.warp().reduction.take(), reduction) {
        let [and, or] = step.cta().named[index].answer;
        let answer = match which {
            Reduction::Count => step.cta().named[index].count,
            Reduction::And => and,
            Reduction::Or => or,
        };
        for lane in step.each_lane() {
            step.set(*into, lane, u64::from(answer));
        }
        return Ok(Flow::Next);
    }
    let expected = match count {
        None => live,
        Some(count) if count == 0 || count % 32 != 0 || count > 32 * 64 => {
            let message = format!("named barrier {number} for {count} threads, no multiple of 32");
            return Err(Fault::new(FaultKind::Barrier, message));
        }
        Some(count) => count,
    };
    let lanes = step.lanes;
    let predicates = reduction.map(|(_, guard, _)| {
        let bits = step.warp_ref().registers.predicates[guard.register.index as usize];
        lanes & if guard.negated { !bits } else { bits }
    });
    let barrier = &mut step.cta().named[index];
    if barrier.arrived > 0 && barrier.expected != expected && count.is_some() {
        let message = format!(
            "named barrier {number} for {expected} threads; others of this round said {}",
            barrier.expected
        );
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    if barrier.arrived == 0 {
        barrier.reduction = [0, 0];
        barrier.counted = count.is_some();
    }
    barrier.expected = expected;
    barrier.arrived += LANES as u32;
    if let Some(bits) = predicates {
        barrier.reduction[0] += bits.count_ones();
        barrier.reduction[1] += lanes.count_ones();
    }
    let round = barrier.round;
    if barrier.arrived > barrier.expected {
        let message = format!(
            "named barrier {number} for {} threads: {} have come",
            barrier.expected, barrier.arrived
        );
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    let complete = barrier.arrived == barrier.expected;
    if complete {
        barrier.complete();
        step.cluster.events += 1;
    }
    if !waits {
        return Ok(Flow::Next);
    }
    let wait = Wait::NamedBarrier { id: index as u8, round };
    if reduction.is_some() {
        step.warp().reduction = Some((index as u8, round));
        return Ok(Flow::Retry(wait));
    }
    Ok(if complete { Flow::Next } else { Flow::Advance(wait) })
}

fn cluster_arrive(step: &mut Step<'_>) -> Result<Flow> {
    let round = step.cluster.barrier.1;
    if step.warp().cluster_round.replace(round).is_some() {
        let message = "a second barrier.cluster.arrive without barrier.cluster.wait between";
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    step.cluster.barrier.0 += LANES as u32;
    step.cluster.complete_cluster_barrier();
    Ok(Flow::Next)
}

impl Cluster {
    /// Completes the round if all warps that have not exited, or have arrived before they did, are there.
    fn complete_cluster_barrier(&mut self) {
        let missing = self
            .ctas
            .iter()
            .flat_map(|cta| &cta.warps)
            .any(|warp| !warp.groups.is_empty() && warp.cluster_round != Some(self.barrier.1));
        if !missing && self.barrier.0 > 0 {
            self.barrier = (0, self.barrier.1 + 1);
            self.events += 1;
        }
    }

    /// A warp of the thread block has exited: barriers may be complete without it.
    pub fn exit_from_barriers(&mut self, rank: u32) {
        let cta = &mut self.ctas[rank as usize];
        let live = 32 * cta.warps.iter().filter(|warp| !warp.groups.is_empty()).count() as u32;
        for barrier in &mut cta.named {
            if barrier.arrived > 0 && !barrier.counted {
                barrier.expected = live;
                if barrier.arrived >= live {
                    barrier.complete();
                    self.events += 1;
                }
            }
        }
        self.complete_cluster_barrier();
    }
}
