//! `cp.async.bulk.tensor` and `cp.reduce.async.bulk.tensor`: boxes of tensors.

use crate::fault::{Fault, Result};
use crate::isa::bulk::operands::{
    Direction, check_mode, direction, map_address, mask, rank, without_policy,
};
use crate::isa::scope::Scope;
use crate::isa::value::{Address, Value};
use crate::ptx::{Operand, Space, Statement};
use crate::tma::reduce::Operator;

/// Lowered.
#[derive(Clone, Debug)]
pub struct Op {
    pub(crate) map: Address,
    pub(crate) coordinates: Vec<Value>,
    pub(crate) way: Way,
}

#[derive(Clone, Debug)]
pub(crate) enum Way {
    Load {
        into: Address,
        barrier: Address,
        mask: Option<Value>,
        /// `.cta_group::2`
        pairs: bool,
    },
    Store {
        from: Address,
        operator: Option<Operator>,
    },
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    check_mode(statement)?;
    let tensor = |operand: &Operand| {
        let Operand::TensorAddress(base, offset, coordinates) = operand else {
            return Err(unsupported());
        };
        let map = map_address(scope, &Operand::Address(base.clone(), *offset))?;
        let values: Result<Vec<Value>> =
            coordinates.iter().map(|coordinate| scope.value(coordinate, 32)).collect();
        Ok((map, values?))
    };
    let ((map, coordinates), way) = match (direction(statement)?, without_policy(statement)) {
        (Direction::Load(space), [into, source, barrier, rest @ ..]) if rest.len() < 2 => {
            let way = Way::Load {
                into: scope.address(into, space)?,
                barrier: scope.address(barrier, Space::SharedCluster)?,
                mask: mask(statement, scope, rest.first())?,
                pairs: statement.has("cta_group::2"),
            };
            (tensor(source)?, way)
        }
        (Direction::Store, [into, from]) => {
            let operator = match statement.suffixes.first().map(String::as_str) {
                Some("reduce") => {
                    let word = |word: &String| Operator::parse(word);
                    Some(statement.suffixes.iter().find_map(word).ok_or_else(unsupported)?)
                }
                _ => None,
            };
            (tensor(into)?, Way::Store { from: scope.address(from, Space::Shared)?, operator })
        }
        _ => return Err(unsupported()),
    };
    if coordinates.len() != rank(statement)? {
        return Err(unsupported());
    }
    Ok(Op { map, coordinates, way })
}
