//! Loads, stores and atomic operations of threads, and conversions of addresses (PTX ISA, "Data Movement and
//! Conversion Instructions", "atom", "red").
//!
//! Cache hints have no function here, and semantics and scopes only in the checks of order: the machine is sequentially
//! consistent for threads.

mod access;
mod atomic;
mod order;

pub use access::{read_generic, read_parameter, write_parameter};

use crate::execute::step::{Flow, Step};
use crate::fault::Result;
use crate::isa::address::{self, Target};
use crate::isa::memory::element::WIDEST;
use crate::isa::memory::{Element, Op};
use crate::isa::value::{Address, LANES, Value};
use crate::ptx::{Class, Register, Space};
use access::Cells;
use order::Part;

/// The address of each lane, and for a generic one what it names.
fn targets(address: Address, step: &Step<'_>) -> [Target; LANES] {
    let mut sums = [0; LANES];
    let offset = address.offset as u64;
    match address.base {
        Value::Register(register) => {
            let registers = &step.warp_ref().registers;
            match register.class {
                Class::Double => {
                    if let Some(lanes) = registers.doubles.get(register.index as usize) {
                        sums = lanes.map(|base| base.wrapping_add(offset));
                    }
                }
                Class::Word => {
                    if let Some(lanes) = registers.words.get(register.index as usize) {
                        sums = lanes.map(|base| u64::from(base).wrapping_add(offset));
                    }
                }
                Class::Predicate | Class::Quad => {}
            }
        }
        Value::Shared(at) => {
            sums = [u64::from(address::shared(step.rank, at)).wrapping_add(offset); LANES];
        }
        Value::Constant(at) => {
            let mut sum = at.wrapping_add(offset);
            if matches!(address.space, Space::Shared) {
                // A bare number means the thread block's own memory.
                sum |= u64::from(address::shared(step.rank, 0));
            }
            sums = [sum; LANES];
        }
        Value::Special(_) => {
            for lane in step.each_lane() {
                sums[lane] = step.value(address.base, lane).wrapping_add(offset);
            }
        }
    }
    sums.map(|sum| match address.space {
        Space::Generic => address::resolve(sum),
        Space::Param => Target::Param(sum as u32),
        Space::Shared | Space::SharedCluster => Target::Shared(sum as u32),
        Space::Global | Space::Const => Target::Global(sum),
        Space::Local => Target::Local(sum as u32),
    })
}

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    match op {
        Op::Load { address, bytes, signed, into, semantics } => {
            let mut cells: Cells = [[0; WIDEST]; LANES];
            let width = *bytes as usize * into.len();
            let targets = targets(*address, step);
            access::read(step, address.space, &targets, width, &mut cells)?;
            order::tell(step, &targets, width, *semantics, Part::Load)?;
            for (index, element) in into.iter().enumerate() {
                if let Element::Register(register) = element {
                    write(step, *register, *bytes, *signed, &cells, index * *bytes as usize);
                }
            }
        }
        Op::Store { address, bytes, from, semantics } => {
            let mut cells: Cells = [[0; WIDEST]; LANES];
            for (index, element) in from.iter().enumerate() {
                gather(step, *element, *bytes, &mut cells, index * *bytes as usize);
            }
            let targets = targets(*address, step);
            let width = *bytes as usize * from.len();
            order::tell(step, &targets, width, *semantics, Part::Store)?;
            access::write(step, address.space, &targets, width, &cells)?;
        }
        Op::Atomic(op) => {
            let targets = targets(op.address, step);
            let width = op.bytes as usize * op.from.len();
            order::tell(step, &targets, width, op.semantics, Part::Update)?;
            atomic::execute(op, &targets, step)?;
            order::tell(step, &targets, width, op.semantics, Part::Updated)?;
        }
        Op::Convert { into, from, to_generic, window } => {
            for lane in step.each_lane() {
                let address = step.value(*from, lane);
                let address = match (*window, *to_generic) {
                    (0, _) => address,
                    (window, true) => window + address,
                    (_, false) => address & address::WINDOW_MASK,
                };
                step.set(*into, lane, address);
            }
        }
        Op::IsSpace { into, from, space } => {
            for lane in step.each_lane() {
                let target = address::resolve(step.value(*from, lane));
                let inside = match (space, target) {
                    (Space::Shared, Target::Shared(address)) => {
                        address::split_shared(address).0 == step.rank
                    }
                    (Space::SharedCluster, Target::Shared(_))
                    | (Space::Global | Space::Const, Target::Global(_))
                    | (Space::Param, Target::Param(_))
                    | (Space::Local, Target::Local(_)) => true,
                    _ => false,
                };
                step.set(*into, lane, u64::from(inside));
            }
        }
    }
    Ok(Flow::Next)
}

fn bytes_at<const N: usize>(cell: &[u8; WIDEST], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    if let Some(from) = cell.get(at..at + N) {
        bytes.copy_from_slice(from);
    }
    bytes
}

/// Writes a register of the lanes from their cells.
fn write(
    step: &mut Step<'_>,
    register: Register,
    bytes: u32,
    signed: bool,
    cells: &Cells,
    at: usize,
) {
    let lanes = step.lanes;
    let registers = &mut step.warp().registers;
    let index = register.index as usize;
    if let (4, Class::Word) = (bytes, register.class) {
        let Some(into) = registers.words.get_mut(index) else { return };
        for (lane, (into, cell)) in into.iter_mut().zip(cells).enumerate() {
            if lanes >> lane & 1 != 0 {
                *into = u32::from_le_bytes(bytes_at(cell, at));
            }
        }
        return;
    }
    for lane in (0..LANES).filter(|lane| lanes >> lane & 1 != 0) {
        let wide = u128::from_le_bytes(match bytes {
            16 => bytes_at(&cells[lane], at),
            _ => {
                let mut wide = [0; 16];
                let part: [u8; 8] = bytes_at(&cells[lane], at);
                wide[..bytes as usize].copy_from_slice(&part[..bytes as usize]);
                wide
            }
        });
        let extended = match (signed, bytes) {
            (true, 1) => wide as i8 as u64,
            (true, 2) => wide as i16 as u64,
            (true, 4) => wide as i32 as u64,
            _ => wide as u64,
        };
        match (register.class, registers.quads.get_mut(index)) {
            (Class::Quad, Some(quad)) => quad[lane] = wide,
            _ => registers.set(register, lane, extended),
        }
    }
}

/// Brings values of the lanes into their cells.
fn gather(step: &Step<'_>, element: Element, bytes: u32, cells: &mut Cells, at: usize) {
    let registers = &step.warp_ref().registers;
    let count = bytes as usize;
    for lane in step.each_lane() {
        let value = match element {
            Element::Sink => 0,
            Element::Register(Register { class: Class::Quad, index }) => {
                registers.quads.get(index as usize).map_or(0, |quad| quad[lane])
            }
            Element::Register(register) => u128::from(registers.get(register, lane)),
            Element::Value(value) => u128::from(step.value(value, lane)),
        };
        if let Some(into) = cells[lane].get_mut(at..at + count) {
            into.copy_from_slice(&value.to_le_bytes()[..count]);
        }
    }
}
