//! `tcgen05.ld`, `tcgen05.st` and the waits for them: between tensor memory and the registers of a warp.

use crate::fault::{Fault, FaultKind, Result};
use crate::isa::scope::Scope;
use crate::isa::value::{Address, Value};
use crate::ptx::{Class, Literal, Operand, Space, Statement};
use crate::tensor::layout::Shape;

/// Lowered.
#[derive(Clone, Debug)]
pub enum Op {
    /// `ld`: into these word registers; none for `_`.
    Load(Access, Vec<Option<u32>>),
    /// `st`: of these values.
    Store(Access, Vec<Value>),
    /// `wait::ld`
    WaitLoads,
    /// `wait::st`
    WaitStores,
}

/// Which cells.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    pub(crate) shape: Shape,
    /// `.pack::16b`, `.unpack::16b`: a register is the low halves of two neighboring columns.
    pub(crate) halves: bool,
    pub(crate) address: Address,
}

impl Access {
    /// Lane and columns, relative to the address, of a register of a thread.
    pub(crate) fn cells(&self, thread: u32, register: u32) -> (u32, u32, u32) {
        if !self.halves {
            let (lane, column) = self.shape.cell(thread, register);
            return (lane, column, 1);
        }
        // The distance between the halves of .16x32bx2 counts columns as they are.
        match self.shape {
            Shape::L16x32bx2(apart) => {
                let (lane, column) = Shape::L16x32bx2(0).cell(thread, register);
                (lane, 2 * column + if thread >= 16 { apart } else { 0 }, 2)
            }
            shape => {
                let (lane, column) = shape.cell(thread, register);
                (lane, 2 * column, 2)
            }
        }
    }

    /// Pieces of columns, relative to the address.
    pub(crate) fn columns(&self, registers: u32) -> Vec<(u32, u32)> {
        let registers = if self.halves { 2 * registers } else { registers };
        self.shape.columns(registers)
    }
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    let first = statement.suffixes[0].as_str();
    match first {
        "wait::ld" => return Ok(Op::WaitLoads),
        "wait::st" => return Ok(Op::WaitStores),
        _ => {}
    }
    let operands = statement.operands.as_slice();
    let apart = |operand: &Operand| match operand {
        Operand::Literal(Literal::Integer(columns)) if *columns < 512 => Ok(*columns as u32),
        _ => Err(unsupported()),
    };
    let split = statement.has("16x32bx2");
    let (address, registers, apart) = match (first, operands, split) {
        ("ld", [registers, address], false) => (address, registers, 0),
        ("ld", [registers, address, columns], true) => (address, registers, apart(columns)?),
        ("st", [address, registers], false) => (address, registers, 0),
        ("st", [address, columns, registers], true) => (address, registers, apart(columns)?),
        _ => return Err(unsupported()),
    };
    let shapes = [
        ("32x32b", Shape::L32x32b),
        ("16x64b", Shape::L16x64b),
        ("16x128b", Shape::L16x128b),
        ("16x256b", Shape::L16x256b),
        ("16x32bx2", Shape::L16x32bx2(apart)),
    ];
    let shape = shapes.iter().find(|(word, _)| statement.has(word)).ok_or_else(unsupported)?.1;
    let times = (0..8).map(|power| 1 << power).find(|times| statement.has(&format!("x{times}")));
    let count = times.ok_or_else(unsupported)? * shape.registers();
    let single = std::slice::from_ref(registers);
    let registers = match registers {
        Operand::Vector(registers) => registers.as_slice(),
        _ => single,
    };
    if registers.len() != count as usize || count > 128 {
        return Err(Fault::new(
            FaultKind::Unsupported,
            format!("{} with {} registers instead of {count}", statement.opcode(), registers.len()),
        ));
    }
    let address = scope.address(address, Space::Generic)?;
    if first == "ld" {
        // .red would be a word more.
        if statement.suffixes.iter().any(|word| word.starts_with("red")) {
            return Err(unsupported());
        }
        let registers = registers.iter().map(|register| match register {
            Operand::Register(register) if register.class == Class::Word => {
                Ok(Some(register.index))
            }
            Operand::Sink => Ok(None),
            _ => Err(unsupported()),
        });
        let access = Access { shape, halves: statement.has("pack::16b"), address };
        return Ok(Op::Load(access, registers.collect::<Result<_>>()?));
    }
    let values = registers.iter().map(|register| scope.value(register, 32));
    let access = Access { shape, halves: statement.has("unpack::16b"), address };
    Ok(Op::Store(access, values.collect::<Result<_>>()?))
}
