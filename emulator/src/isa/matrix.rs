//! `ldmatrix`, `stmatrix` and `movmatrix`: 8 by 8 matrices of 16 bits between shared memory and the registers of a warp.

use crate::fault::{Fault, Result};
use crate::isa::scope::{Lowered, Scope};
use crate::isa::value::{Address, Convergence, Value};
use crate::ptx::{Operand, Register, Space, Statement};

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `ldmatrix`
    Load {
        /// One for each matrix.
        into: Vec<Register>,
        /// Of a row.
        address: Address,
        /// `.trans`
        transposed: bool,
    },
    /// `stmatrix`
    Store {
        /// One for each matrix.
        from: Vec<Value>,
        /// Of a row.
        address: Address,
        /// `.trans`
        transposed: bool,
    },
    /// `movmatrix`, which transposes.
    Move {
        /// Result.
        into: Register,
        /// Matrix.
        from: Value,
    },
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Lowered<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    if !statement.has("m8n8") || !statement.has("b16") {
        return Err(unsupported());
    }
    let transposed = statement.has("trans");
    let space = match (statement.has("shared"), statement.has("shared::cta")) {
        (false, false) => Space::Generic,
        _ => Space::Shared,
    };
    let count = [("x1", 1), ("x2", 2), ("x4", 4)]
        .iter()
        .find(|(word, _)| statement.has(word))
        .map_or(0, |(_, count)| *count);
    let op = match (statement.family.as_str(), statement.operands.as_slice()) {
        ("ldmatrix", [registers, address]) => {
            let into = listed(registers).iter().map(|operand| match operand {
                Operand::Register(register) => Ok(*register),
                _ => Err(unsupported()),
            });
            let into: Vec<Register> = into.collect::<Result<_>>()?;
            let address = scope.address(address, space)?;
            if into.len() != count {
                return Err(unsupported());
            }
            Op::Load { into, address, transposed }
        }
        ("stmatrix", [address, registers]) => {
            let from = listed(registers).iter().map(|operand| scope.value(operand, 32));
            let from: Vec<Value> = from.collect::<Result<_>>()?;
            let address = scope.address(address, space)?;
            if from.len() != count {
                return Err(unsupported());
            }
            Op::Store { from, address, transposed }
        }
        ("movmatrix", [Operand::Register(into), from]) if transposed => {
            Op::Move { into: *into, from: scope.value(from, 32)? }
        }
        _ => return Err(unsupported()),
    };
    Ok((Some(op), Convergence::Warp))
}

fn listed(operand: &Operand) -> &[Operand] {
    match operand {
        Operand::Vector(operands) => operands,
        operand => std::slice::from_ref(operand),
    }
}
