//! What lanes of a warp exchange: `shfl`, `vote`, `match`, `activemask`, `redux` (PTX ISA, "Data Movement and
//! Conversion Instructions: shfl.sync", "Parallel Synchronization and Communication Instructions").

use crate::fault::Fault;
use crate::isa::scope::{Lowered, Scope};
use crate::isa::value::{Convergence, Value};
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
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
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
                return Ok((Some(Op::ActiveMask(*into)), Convergence::None));
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
    Ok((Some(op), members))
}
