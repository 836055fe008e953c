//! `ldmatrix`, `stmatrix` and `movmatrix`: 8 by 8 matrices of 16 bits between shared memory and the registers of a warp.
//!
//! Thread t has the elements 2(t%4) and 2(t%4)+1 of row t/4; with `.trans` those of column t/4. Row r of matrix m is
//! the 16 bytes at the address that thread 8m+r gives.

use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::matrix::Op;
use crate::isa::value::{Address, LANES, Value};
use crate::machine::shared::Proxy;

/// Eight rows.
type Matrix = [[u16; 8]; 8];

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    if step.lanes != u32::MAX {
        let message = format!("a matrix instruction by lanes {:#010x}; it needs all", step.lanes);
        return Err(Fault::new(FaultKind::Divergence, message));
    }
    match op {
        Op::Load { into, address, transposed } => {
            for (index, register) in into.iter().enumerate() {
                let mut matrix: Matrix = [[0; 8]; 8];
                for (row, elements) in matrix.iter_mut().enumerate() {
                    let offset = locate(address, 8 * index + row, step)?;
                    let rank = step.rank;
                    step.touch_shared(rank, offset, 16, false)?;
                    let bytes = step.cta().shared.read(offset, 16, Proxy::Generic)?;
                    for (element, bytes) in elements.iter_mut().zip(bytes.chunks_exact(2)) {
                        *element = u16::from_le_bytes([bytes[0], bytes[1]]);
                    }
                }
                if *transposed {
                    matrix = transpose(&matrix);
                }
                for lane in 0..LANES {
                    step.set(*register, lane, u64::from(fragment(&matrix, lane)));
                }
            }
        }
        Op::Store { from, address, transposed } => {
            for (index, value) in from.iter().enumerate() {
                let mut matrix = gather(*value, step);
                if *transposed {
                    matrix = transpose(&matrix);
                }
                let warp = step.warp;
                for (row, elements) in matrix.iter().enumerate() {
                    let offset = locate(address, 8 * index + row, step)?;
                    let bytes: Vec<u8> =
                        elements.iter().flat_map(|element| element.to_le_bytes()).collect();
                    let rank = step.rank;
                    step.touch_shared(rank, offset, 16, true)?;
                    step.cta().shared.store(offset, &bytes, Some(warp))?;
                }
            }
        }
        Op::Move { into, from } => {
            let matrix = transpose(&gather(*from, step));
            for lane in 0..LANES {
                step.set(*into, lane, u64::from(fragment(&matrix, lane)));
            }
        }
    }
    Ok(Flow::Next)
}

/// Offset of the row that a lane names.
fn locate(address: &Address, lane: usize, step: &Step<'_>) -> Result<u32> {
    let (_, offset) = step.own_shared(address, lane)?;
    if !offset.is_multiple_of(16) {
        let message = format!("a row of a matrix at {offset:#x} (lane {lane}), no multiple of 16");
        return Err(Fault::new(FaultKind::Misaligned, message));
    }
    Ok(offset)
}

fn gather(value: Value, step: &Step<'_>) -> Matrix {
    let mut matrix = [[0; 8]; 8];
    for lane in 0..LANES {
        let word = step.value(value, lane) as u32;
        matrix[lane / 4][2 * (lane % 4)] = word as u16;
        matrix[lane / 4][2 * (lane % 4) + 1] = (word >> 16) as u16;
    }
    matrix
}

fn fragment(matrix: &Matrix, lane: usize) -> u32 {
    let row = &matrix[lane / 4];
    u32::from(row[2 * (lane % 4)]) | u32::from(row[2 * (lane % 4) + 1]) << 16
}

fn transpose(matrix: &Matrix) -> Matrix {
    std::array::from_fn(|row| std::array::from_fn(|column| matrix[column][row]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_those_of_the_picture() {
        // Element (row, column) is 16 * row + column.
        let matrix: Matrix =
            std::array::from_fn(|row| std::array::from_fn(|column| (16 * row + column) as u16));
        assert_eq!(fragment(&matrix, 0), 0x0001_0000);
        assert_eq!(fragment(&matrix, 3), 0x0007_0006);
        assert_eq!(fragment(&matrix, 30), 0x0075_0074);
        let transposed = transpose(&matrix);
        // Thread 5 has column 1, rows 2 and 3.
        assert_eq!(fragment(&transposed, 5), 0x0031_0021);
    }
}
