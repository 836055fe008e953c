//! `clusterlaunchcontrol`: a running cluster takes over one that has not started (PTX ISA, "Parallel Synchronization
//! and Communication Instructions: clusterlaunchcontrol").
//!
//! The answer of 16 bytes is opaque to programs. Ours is the three coordinates of the first thread block of the
//! canceled cluster and a word that says whether there is one.

use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::address::shared;
use crate::isa::clc::Op;
use crate::isa::value::{Address, Value};
use crate::machine::asynchronous::{Agent, Completion, Operation};
use crate::machine::order::Issue;
use crate::settings::Cancel;

/// Bytes of an answer.
const ANSWER_BYTES: u32 = 16;
/// Last words of an answer.
const FOUND: u32 = 0xC1C0_0001;
const NONE: u32 = 0xC1C0_0000;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::TryCancel { answer, mbarrier, multicast } => {
            for lane in step.each_lane() {
                request(step, answer, mbarrier, *multicast, lane)?;
            }
        }
        Op::IsCanceled { into, answer } => {
            for lane in step.each_lane() {
                let [_, _, _, found] = words(step, *answer, lane)?;
                if found == NONE {
                    step.cluster.cancel_failed = true;
                }
                step.set(*into, lane, u64::from(found == FOUND));
            }
        }
        Op::FirstCtaid { into, answer } => {
            for lane in step.each_lane() {
                let answer = words(step, *answer, lane)?;
                for (register, word) in into.iter().zip(answer) {
                    if let Some(register) = register {
                        step.set(*register, lane, u64::from(word));
                    }
                }
            }
        }
    }
    Ok(Flow::Next)
}

fn words(step: &Step<'_>, answer: Value, lane: usize) -> Result<[u32; 4]> {
    let quad = match answer {
        Value::Register(register) => step.warp_ref().registers.quads.get(register.index as usize),
        _ => None,
    };
    let bits = quad.map_or(0, |lanes| lanes[lane]);
    let words = [bits as u32, (bits >> 32) as u32, (bits >> 64) as u32, (bits >> 96) as u32];
    if words[3] != FOUND && words[3] != NONE {
        let message = format!("{bits:#034x} is no answer of clusterlaunchcontrol.try_cancel");
        return Err(Fault::new(FaultKind::Uninitialised, message));
    }
    Ok(words)
}

fn request(
    step: &mut Step<'_>,
    answer: &Address,
    mbarrier: &Address,
    multicast: bool,
    lane: usize,
) -> Result<()> {
    if step.cluster.cancel_failed {
        let message = "clusterlaunchcontrol.try_cancel after an answer that there is nothing left";
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    let (_, answer) = step.own_shared(answer, lane)?;
    let (_, mbarrier) = step.own_shared(mbarrier, lane)?;
    if answer % ANSWER_BYTES != 0 {
        let message = format!("the answer of try_cancel at {answer:#x}, no multiple of 16");
        return Err(Fault::new(FaultKind::Misaligned, message));
    }
    let take = match step.machine.settings.cancel {
        Cancel::Greedy => true,
        Cancel::Never => false,
        Cancel::Random => step.cluster.random.below(2) == 0,
    };
    let taken = if take { step.cluster.grid.take() } else { None };
    let words = match taken {
        None => [0, 0, 0, NONE],
        Some(number) => {
            let id = step.cluster.grid.id(number);
            let [x, y, z] = [0, 1, 2].map(|axis| id[axis] * step.launch.cluster[axis]);
            [x, y, z, FOUND]
        }
    };
    let ranks =
        if multicast { (0..step.cluster.ctas.len() as u32).collect() } else { vec![step.rank] };
    for rank in ranks {
        let operation = Box::new(Answer { rank, answer, mbarrier, words });
        // Answers to different thread blocks may come at different times.
        let agent = Agent::Copy(u64::from(shared(rank, answer)) | 1 << 63);
        step.submit(agent, lane, Issue::Alone, operation)?;
    }
    Ok(())
}

/// An answer on its way to one thread block.
#[derive(Debug)]
struct Answer {
    rank: u32,
    answer: u32,
    mbarrier: u32,
    words: [u32; 4],
}

impl Operation for Answer {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        at.cluster.running(self.rank)?.shared.store_async(self.answer, &bytes)?;
        at.complete_bytes((self.rank, self.mbarrier), ANSWER_BYTES)
    }

    fn describe(&self) -> String {
        format!("answer to try_cancel for thread block {}: {:x?}", self.rank, self.words)
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.rank]
    }
}
