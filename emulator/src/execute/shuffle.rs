//! What lanes of a warp exchange: `shfl`, `vote`, `match`, `activemask`, `redux` (PTX ISA, "Data Movement and
//! Conversion Instructions: shfl.sync", "Parallel Synchronization and Communication Instructions").

use super::{Flow, Step};
use crate::fault::{Fault, Result};
use crate::machine::registers::LANES;
use crate::program::{Convergence, Lowered, Scope, Value};
use crate::ptx::{Guard, Operand, Register, Statement};

/// Where a lane of `shfl` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Below.
    Up,
    /// Above.
    Down,
    /// Exclusive or.
    Butterfly,
    /// By number.
    Index,
}

/// What `vote` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// Whether all predicates are true.
    All,
    /// Whether one is.
    Any,
    /// Whether all are the same.
    Uniform,
    /// Which are.
    Ballot,
}

/// What `redux` computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Sum, modulo 2^32.
    Add,
    /// Least, signed or not.
    Min(bool),
    /// Greatest, signed or not.
    Max(bool),
    /// Bitwise.
    And,
    /// Bitwise.
    Or,
    /// Bitwise.
    Xor,
}

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `shfl.sync`
    Shuffle {
        /// Value and whether the source lane was in range.
        into: (Option<Register>, Option<Register>),
        /// What is exchanged.
        from: Value,
        /// Distance, mask or lane.
        which: Value,
        /// Clamp and segment mask.
        clamp: Value,
        /// Which lane.
        mode: Mode,
    },
    /// `vote.sync`
    Vote {
        /// A predicate, or a word for a ballot.
        into: Register,
        /// What is asked.
        vote: Vote,
        /// The predicate of each lane.
        predicate: Guard,
    },
    /// `match.any.sync` and `match.all.sync`
    Match {
        /// Lanes, and whether all agree.
        into: (Option<Register>, Option<Register>),
        /// What is compared.
        value: Value,
        /// All or none.
        all: bool,
    },
    /// `activemask`
    ActiveMask(Register),
    /// `redux.sync`
    Reduce(Register, Value, Reduction),
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered {
    let unsupported = || Fault::unsupported(statement.opcode());
    let words: Vec<&str> = statement.suffixes.iter().map(String::as_str).collect();
    let pair = |operand: &Operand| match operand {
        Operand::Register(register) => Ok((Some(*register), None)),
        Operand::Pair(first, second) => Ok((*first, *second)),
        _ => Err(unsupported()),
    };
    let (op, members) =
        match (statement.family.as_str(), words.as_slice(), statement.operands.as_slice()) {
            ("shfl", ["sync", mode, "b32"], [into, from, which, clamp, members]) => {
                let mode = match *mode {
                    "up" => Mode::Up,
                    "down" => Mode::Down,
                    "bfly" => Mode::Butterfly,
                    "idx" => Mode::Index,
                    _ => return Err(unsupported()),
                };
                let op = Op::Shuffle {
                    into: pair(into)?,
                    from: scope.value(from, 32)?,
                    which: scope.value(which, 32)?,
                    clamp: scope.value(clamp, 32)?,
                    mode,
                };
                (op, members)
            }
            ("vote", ["sync", vote, ..], [Operand::Register(into), predicate, members]) => {
                let vote = match *vote {
                    "all" => Vote::All,
                    "any" => Vote::Any,
                    "uni" => Vote::Uniform,
                    "ballot" => Vote::Ballot,
                    _ => return Err(unsupported()),
                };
                let predicate = match predicate {
                    Operand::Register(register) => Guard { register: *register, negated: false },
                    Operand::Not(register) => Guard { register: *register, negated: true },
                    _ => return Err(unsupported()),
                };
                (Op::Vote { into: *into, vote, predicate }, members)
            }
            ("match", [which @ ("any" | "all"), "sync", kind], [into, value, members]) => {
                let bits = if *kind == "b64" { 64 } else { 32 };
                let value = scope.value(value, bits)?;
                (Op::Match { into: pair(into)?, value, all: *which == "all" }, members)
            }
            ("activemask", ["b32"], [Operand::Register(into)]) => {
                return Ok((crate::program::Op::Shuffle(Op::ActiveMask(*into)), Convergence::None));
            }
            ("redux", ["sync", which, kind], [Operand::Register(into), value, members]) => {
                let signed = *kind == "s32";
                let reduction = match *which {
                    "add" => Reduction::Add,
                    "min" => Reduction::Min(signed),
                    "max" => Reduction::Max(signed),
                    "and" => Reduction::And,
                    "or" => Reduction::Or,
                    "xor" => Reduction::Xor,
                    _ => return Err(unsupported()),
                };
                (Op::Reduce(*into, scope.value(value, 32)?, reduction), members)
            }
            _ => return Err(unsupported()),
        };
    let members = Convergence::Members(scope.value(members, 32)?);
    Ok((crate::program::Op::Shuffle(op), members))
}

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    let lanes = step.lanes;
    match op {
        Op::Shuffle { into, from, which, clamp, mode } => {
            let values: [u64; LANES] = std::array::from_fn(|lane| step.value(*from, lane));
            for lane in step.each_lane() {
                let which = step.value(*which, lane) as u32 & 31;
                let clamp = step.value(*clamp, lane) as u32;
                let (source, inside) = source(*mode, lane as u32, which, clamp);
                if let Some(register) = into.0 {
                    step.set(register, lane, values[source as usize]);
                }
                if let Some(register) = into.1 {
                    step.set(register, lane, u64::from(inside));
                }
            }
        }
        Op::Vote { into, vote, predicate } => {
            let bits = step.warp_ref().registers.predicates[predicate.register.index as usize];
            let bits = lanes & if predicate.negated { !bits } else { bits };
            let answer = match vote {
                Vote::All => u64::from(bits == lanes),
                Vote::Any => u64::from(bits != 0),
                Vote::Uniform => u64::from(bits == lanes || bits == 0),
                Vote::Ballot => u64::from(bits),
            };
            for lane in step.each_lane() {
                step.set(*into, lane, answer);
            }
        }
        Op::Match { into, value, all } => {
            let values: [u64; LANES] = std::array::from_fn(|lane| step.value(*value, lane));
            for lane in step.each_lane() {
                let equal = step
                    .each_lane()
                    .filter(|other| values[*other] == values[lane])
                    .fold(0, |mask, other| mask | 1u32 << other);
                let agree = equal == lanes;
                let mask = if *all && !agree { 0 } else { equal };
                if let Some(register) = into.0 {
                    step.set(register, lane, u64::from(mask));
                }
                if let Some(register) = into.1 {
                    step.set(register, lane, u64::from(agree));
                }
            }
        }
        Op::ActiveMask(into) => {
            for lane in step.each_lane() {
                step.set(*into, lane, u64::from(lanes));
            }
        }
        Op::Reduce(into, value, reduction) => {
            let values = step.each_lane().map(|lane| step.value(*value, lane) as u32);
            let answer = values.reduce(|sum, value| reduce(*reduction, sum, value)).unwrap_or(0);
            for lane in step.each_lane() {
                step.set(*into, lane, u64::from(answer));
            }
        }
    }
    Ok(Flow::Next)
}

/// The lane that is read, and whether it is in the segment; a lane outside reads itself.
fn source(mode: Mode, lane: u32, which: u32, clamp: u32) -> (u32, bool) {
    let (last, segment) = (clamp & 31, clamp >> 8 & 31);
    // The segment mask keeps bits of the own lane; the clamp says how far the others may go.
    let most = lane & segment | last & !segment;
    let least = lane & segment;
    let (source, inside) = match mode {
        Mode::Up => {
            let source = lane.wrapping_sub(which);
            (source, source as i32 >= most as i32)
        }
        Mode::Down => (lane + which, lane + which <= most),
        Mode::Butterfly => (lane ^ which, (lane ^ which) <= most),
        Mode::Index => {
            let source = least | which & !segment;
            (source, source <= most)
        }
    };
    if inside { (source & 31, true) } else { (lane, false) }
}

fn reduce(reduction: Reduction, first: u32, second: u32) -> u32 {
    match reduction {
        Reduction::Add => first.wrapping_add(second),
        Reduction::Min(true) => (first as i32).min(second as i32) as u32,
        Reduction::Max(true) => (first as i32).max(second as i32) as u32,
        Reduction::Min(false) => first.min(second),
        Reduction::Max(false) => first.max(second),
        Reduction::And => first & second,
        Reduction::Or => first | second,
        Reduction::Xor => first ^ second,
    }
}
