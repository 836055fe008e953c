//! `cp.async.bulk` and `cp.reduce.async.bulk`: ranges of bytes.

use crate::fault::{Fault, Result};
use crate::isa::bulk::operands::{Direction, direction, mask, without_policy};
use crate::isa::scope::Scope;
use crate::isa::value::{Address, Value};
use crate::ptx::{Space, Statement};
use crate::tma::reduce::{Number, Operator, Reduction};

/// Lowered.
#[derive(Clone, Debug)]
pub struct Op {
    pub(crate) into: Address,
    pub(crate) from: Address,
    pub(crate) bytes: Value,
    pub(crate) way: Way,
    pub(crate) reduction: Option<Reduction>,
}

#[derive(Clone, Debug)]
pub(crate) enum Way {
    Load { barrier: Address, mask: Option<Value> },
    Store,
    Shared { barrier: Address },
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    if statement.has("ignore_oob") || statement.has("cp_mask") {
        return Err(unsupported());
    }
    let direction = direction(statement)?;
    let (into, from, bytes, rest) = match without_policy(statement) {
        [into, from, bytes, rest @ ..] => (into, from, bytes, rest),
        _ => return Err(unsupported()),
    };
    let barrier = |operand| scope.address(operand, Space::SharedCluster);
    let (into_space, from_space, way) = match (direction, rest) {
        (Direction::Load(space), [at, rest @ ..]) if rest.len() < 2 => {
            let mask = mask(statement, scope, rest.first())?;
            (space, Space::Global, Way::Load { barrier: barrier(at)?, mask })
        }
        (Direction::Store, []) => (Space::Global, Space::Shared, Way::Store),
        (Direction::Shared, [at]) => {
            (Space::SharedCluster, Space::Shared, Way::Shared { barrier: barrier(at)? })
        }
        _ => return Err(unsupported()),
    };
    Ok(Op {
        into: scope.address(into, into_space)?,
        from: scope.address(from, from_space)?,
        bytes: scope.value(bytes, 32)?,
        reduction: reduction(statement, direction)?,
        way,
    })
}

fn reduction(statement: &Statement, direction: Direction) -> Result<Option<Reduction>> {
    if statement.suffixes.first().is_none_or(|word| word != "reduce") {
        return Ok(None);
    }
    let words = &statement.suffixes;
    let operator = words.iter().find_map(|word| Operator::parse(word));
    let number = words.iter().find_map(|word| Number::parse(word));
    let reduction =
        operator.zip(number).and_then(|(operator, number)| Reduction::new(operator, number));
    match (reduction, direction) {
        (Some(reduction), Direction::Store) => Ok(Some(reduction)),
        (Some(reduction), Direction::Shared) if reduction.is_for_shared() => Ok(Some(reduction)),
        _ => Err(Fault::unsupported(statement.opcode())),
    }
}
