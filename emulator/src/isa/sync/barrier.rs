//! Named barriers of a thread block, the barrier of the cluster, and `bar.warp.sync`.

use crate::fault::Fault;
use crate::isa::scope::{Lowered, Scope};
use crate::isa::value::{Convergence, Value};
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
    ClusterArrive {
        /// Not `.relaxed`.
        releases: bool,
    },
    /// `barrier.cluster.wait`
    ClusterWait,
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    let words: Vec<&str> = statement.suffixes.iter().map(String::as_str).collect();
    let operands = statement.operands.as_slice();
    let (op, convergence) = match (words.as_slice(), operands) {
        (["warp", "sync"], [members]) => {
            (Op::Warp, Convergence::Members(scope.value(members, 32)?))
        }
        (["cluster", "arrive", ..], []) => {
            (Op::ClusterArrive { releases: !statement.has("relaxed") }, Convergence::Warp)
        }
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
    Ok((Some(op), convergence))
}
