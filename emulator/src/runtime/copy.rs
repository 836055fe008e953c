//! Copies and fills, of rows of bytes.

use std::sync::Arc;

use super::code::Code;
use super::memory::{Block, Kind, Table};
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
#[derive(Clone, Debug)]
enum Side {
    /// In the table of allocations.
    Table(u64, Kind),
    /// Elsewhere in the process, and page-locked or not.
    Host(HostBytes, bool),
    /// A copy of what was elsewhere in the process.
    Staged(Arc<[u8]>),
}

impl Side {
    fn is_pageable(&self) -> bool {
        matches!(self, Side::Host(_, false))
    }

    fn is_of_host(&self) -> bool {
        !matches!(self, Side::Table(_, Kind::Device | Kind::Variable | Kind::Managed))
    }

    fn is_managed(&self) -> bool {
        matches!(self, Side::Table(_, Kind::Managed))
    }

    fn read(&self, offset: u64, into: &mut [u8], machine: &Machine) -> fault::Result<()> {
        match self {
            Side::Table(address, _) => machine.memory.read(address + offset, into, false),
            Side::Host(bytes, _) => {
                let part = bytes.part(offset, into.len() as u64);
                part.read(|from| from.iter().zip(into).for_each(|(from, into)| *into = *from));
                Ok(())
            }
            Side::Staged(bytes) => {
                let from = bytes.get(offset as usize..).unwrap_or_default();
                from.iter().zip(into).for_each(|(from, into)| *into = *from);
                Ok(())
            }
        }
    }

    fn write(&self, offset: u64, from: &[u8], machine: &Machine) -> fault::Result<()> {
        match self {
            Side::Table(address, _) => machine.memory.write(address + offset, from),
            Side::Host(bytes, _) => {
                let part = bytes.part(offset, from.len() as u64);
                part.write(|into| into.iter_mut().zip(from).for_each(|(into, from)| *into = *from));
                Ok(())
            }
            // Only a source is ever staged.
            Side::Staged(_) => Ok(()),
        }
    }
}

/// A copy that was found possible.
#[derive(Clone, Debug)]
pub struct Copy {
    to: Side,
    to_pitch: u64,
    from: Side,
    from_pitch: u64,
    shape: Shape,
}

/// Bytes that are moved at a time.
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

    /// Whether it waits for all before it in its stream and returns when it is done, in the form of a name without Async.
    /// Within the device it does not; from memory that is not page-locked, the call only waits until that was read.
    pub fn waits(&self) -> bool {
        let is_managed = self.from.is_managed() || self.to.is_managed();
        is_managed || self.to.is_of_host() || self.from.is_of_host() && !self.from.is_pageable()
    }

    /// Whether it is between two places of the host: done when the call returns, whatever its name.
    pub fn is_within_host(&self) -> bool {
        self.to.is_of_host() && self.from.is_of_host()
    }

    /// Whether its source is memory of the host that is not page-locked.
    pub fn is_from_pageable(&self) -> bool {
        self.from.is_pageable()
    }

    /// With the source as it is now, if it is memory that is not page-locked.
    pub fn staged(self) -> Self {
        match self.from {
            Side::Host(bytes, false) => {
                Self { from: Side::Staged(bytes.read(|bytes| bytes.into())), ..self }
            }
            from => Self { from, ..self },
        }
    }

    /// Carries it out.
    pub fn run(&self, machine: &Machine) -> fault::Result<()> {
        let mut chunk = vec![0; self.shape.width.min(CHUNK) as usize];
        for row in 0..self.shape.rows {
            let mut done = 0;
            while done < self.shape.width {
                let part = &mut chunk[..CHUNK.min(self.shape.width - done) as usize];
                self.from.read(row * self.from_pitch + done, part, machine)?;
                self.to.write(row * self.to_pitch + done, part, machine)?;
                done += part.len() as u64;
            }
        }
        Ok(())
    }
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
        Some(block) => Side::Table(address, block.kind),
        None => Side::Host(pointer.host(span), table.find_registered(address).is_some()),
    })
}

/// A fill that was found possible.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    address: u64,
    pitch: u64,
    value: u8,
    shape: Shape,
    kind: Kind,
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
        let Some(Block { kind, .. }) = table.range(address, shape.span(pitch)?)? else {
            let words = format!("{address:#x} is no memory of the device");
            return Err(Code::INVALID_VALUE.because(words));
        };
        Ok(Some(Self { address, pitch, value: value as u8, shape, kind }))
    }

    /// Whether the form of a name without Async returns when it is done.
    pub fn waits(&self) -> bool {
        matches!(self.kind, Kind::Host | Kind::Managed)
    }

    /// Carries it out.
    pub fn run(&self, machine: &Machine) -> fault::Result<()> {
        for row in 0..self.shape.rows {
            machine.memory.fill(self.address + row * self.pitch, self.value, self.shape.width)?;
        }
        Ok(())
    }
}
