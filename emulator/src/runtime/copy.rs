//! Copies and fills, of rows of bytes.

use super::code::Code;
use super::memory::{Kind, Table};
use super::pointer::{HostBytes, Memory};
use super::refusal::{Outcome, Refusal};
use crate::fault;
use crate::machine::Machine;

/// cudaMemcpyKind
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// 0
    HostToHost,
    /// 1
    HostToDevice,
    /// 2
    DeviceToHost,
    /// 3
    DeviceToDevice,
    /// 4: by the addresses.
    Default,
}

impl Direction {
    /// From the number.
    pub fn new(kind: u32) -> Outcome<Self> {
        Ok(match kind {
            0 => Self::HostToHost,
            1 => Self::HostToDevice,
            2 => Self::DeviceToHost,
            3 => Self::DeviceToDevice,
            4 => Self::Default,
            _ => return Err(Code::INVALID_MEMCPY_DIRECTION.into()),
        })
    }

    /// Whether source and destination have to be on the device, as far as the direction says.
    fn sides(self) -> Option<(bool, bool)> {
        match self {
            Self::HostToHost => Some((false, false)),
            Self::HostToDevice => Some((false, true)),
            Self::DeviceToHost => Some((true, false)),
            Self::DeviceToDevice => Some((true, true)),
            Self::Default => None,
        }
    }
}

/// Rows of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a row.
    pub width: u64,
    /// Rows.
    pub rows: u64,
}

impl Shape {
    /// One row.
    pub fn line(width: u64) -> Self {
        Self { width, rows: 1 }
    }

    fn is_empty(self) -> bool {
        self.width == 0 || self.rows == 0
    }

    /// From the first byte to the last, with rows `pitch` bytes apart.
    fn span(self, pitch: u64) -> Outcome<u64> {
        if self.rows > 1 && pitch < self.width {
            return Err(Code::INVALID_PITCH_VALUE.into());
        }
        let before = self.rows.saturating_sub(1).checked_mul(pitch);
        let span = before.and_then(|before| before.checked_add(self.width));
        span.ok_or_else(|| Refusal::from(Code::INVALID_VALUE))
    }
}

/// Where bytes are.
#[derive(Clone, Copy, Debug)]
enum Side {
    /// In the table of allocations.
    Table(u64),
    /// Elsewhere in the process.
    Host(HostBytes),
}

impl Side {
    fn row(self, row: u64, pitch: u64, width: u64) -> Self {
        match self {
            Side::Table(address) => Side::Table(address + row * pitch),
            Side::Host(bytes) => Side::Host(bytes.part(row * pitch, width)),
        }
    }
}

/// A copy that was found possible.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    to: Side,
    to_pitch: u64,
    from: Side,
    from_pitch: u64,
    shape: Shape,
}

/// Bytes that a copy within the device moves at a time.
const CHUNK: u64 = 1 << 20;

impl Copy {
    /// Checks both ranges and the direction.
    pub fn new(
        table: &Table,
        (to, to_pitch): (Memory, u64),
        (from, from_pitch): (Memory, u64),
        shape: Shape,
        direction: Direction,
    ) -> Outcome<Option<Self>> {
        if shape.is_empty() {
            return Ok(None);
        }
        let sides = direction.sides();
        let to = side(table, to, shape.span(to_pitch)?, sides.map(|(_, to)| to), "destination")?;
        let from =
            side(table, from, shape.span(from_pitch)?, sides.map(|(from, _)| from), "source")?;
        Ok(Some(Self { to, to_pitch, from, from_pitch, shape }))
    }

    /// Carries it out.
    pub fn run(&self, machine: &Machine) -> fault::Result<()> {
        let width = self.shape.width;
        for row in 0..self.shape.rows {
            let to = self.to.row(row, self.to_pitch, width);
            let from = self.from.row(row, self.from_pitch, width);
            match (to, from) {
                (Side::Table(to), Side::Host(from)) => {
                    from.read(|bytes| machine.memory.write(to, bytes))?;
                }
                (Side::Host(to), Side::Table(from)) => {
                    to.write(|bytes| machine.memory.read(from, bytes, false))?;
                }
                (Side::Host(to), Side::Host(from)) => {
                    let bytes = from.read(<[u8]>::to_vec);
                    to.write(|room| room.copy_from_slice(&bytes));
                }
                (Side::Table(to), Side::Table(from)) => within(machine, to, from, width)?,
            }
        }
        Ok(())
    }
}

fn within(machine: &Machine, to: u64, from: u64, bytes: u64) -> fault::Result<()> {
    let mut chunk = vec![0; bytes.min(CHUNK) as usize];
    let mut done = 0;
    while done < bytes {
        let part = &mut chunk[..CHUNK.min(bytes - done) as usize];
        machine.memory.read(from + done, part, false)?;
        machine.memory.write(to + done, part)?;
        done += part.len() as u64;
    }
    Ok(())
}

fn side(
    table: &Table,
    pointer: Memory,
    span: u64,
    on_device: Option<bool>,
    what: &str,
) -> Outcome<Side> {
    let address = pointer.address();
    if address == 0 {
        return Err(Code::INVALID_VALUE.because(format!("the {what} is null")));
    }
    let block = table.range(address, span)?;
    let fits = match (block.map(|block| block.kind), on_device) {
        (_, None) | (Some(Kind::Managed | Kind::ManagedVariable), _) => true,
        (None | Some(Kind::Host), Some(on_device)) => !on_device,
        (Some(Kind::Device | Kind::Variable), Some(on_device)) => on_device,
    };
    if !fits {
        let is = if block.is_some() { "memory CUDA allocated" } else { "no memory CUDA knows" };
        let words = format!("the direction of the copy does not fit the {what} {address:#x}: {is}");
        return Err(Code::INVALID_VALUE.because(words));
    }
    Ok(match block {
        Some(_) => Side::Table(address),
        None => Side::Host(pointer.host(span)),
    })
}

/// A fill that was found possible.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    address: u64,
    pitch: u64,
    value: u8,
    shape: Shape,
}

impl Fill {
    /// Checks the range; `value` is a byte, as for cudaMemset.
    pub fn new(
        table: &Table,
        to: Memory,
        pitch: u64,
        value: i32,
        shape: Shape,
    ) -> Outcome<Option<Self>> {
        if shape.is_empty() {
            return Ok(None);
        }
        let address = to.address();
        if table.range(address, shape.span(pitch)?)?.is_none() {
            let words = format!("{address:#x} is no memory of the device");
            return Err(Code::INVALID_VALUE.because(words));
        }
        Ok(Some(Self { address, pitch, value: value as u8, shape }))
    }

    /// Carries it out.
    pub fn run(&self, machine: &Machine) -> fault::Result<()> {
        for row in 0..self.shape.rows {
            machine.memory.fill(self.address + row * self.pitch, self.value, self.shape.width)?;
        }
        Ok(())
    }
}
