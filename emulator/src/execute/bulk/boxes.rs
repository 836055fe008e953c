//! Boxes between global and shared memory, row by row (PTX ISA, "Tiled Mode").
//!
//! The way of a box into shared memory is [`gather`] (rows of global memory, one after the other) and then
//! [`swizzle::place`] (where those bytes lie); [`load`] is both. The way back is [`source`] and [`scatter`].
//!
//! A row is the first dimension of the box: its elements are neighbors in both memories. What of it is in bounds is
//! one run of bytes.

use std::sync::Arc;

use super::reduce;
use crate::fault::{Fault, FaultKind, Result};
use crate::machine::global::{Allocation, GlobalMemory};
use crate::machine::shared::{Proxy, SharedMemory};
use crate::tma::element::Element;
use crate::tma::map::{Fill, MAX_RANK, TensorMap};
use crate::tma::reduce::Reduction;
use crate::tma::swizzle::{self, Image};

/// What a load leaves in the padding of [`Element::U4Padded`] and [`Element::U6Padded`]. The manual calls it
/// uninitialized: no program may depend on it, and nothing valid looks like this.
pub const PADDING: u8 = 0xFF;

/// A box at a place.
#[derive(Debug)]
struct Tile<'a> {
    map: &'a TensorMap,
    coordinates: [i64; MAX_RANK],
    counts: [u32; MAX_RANK],
}

/// What of a row is in bounds.
#[derive(Clone, Copy, Debug)]
struct Inside {
    /// Bytes of the row in shared memory before it.
    skip: usize,
    /// Bytes of it in shared memory.
    shared: usize,
    /// Its bytes in global memory.
    bytes: usize,
    /// Address of its first byte.
    address: u64,
}

/// Reads, or writes, the rows of a tile. Neighbors are mostly in one allocation: it is looked up once.
struct Window<'a> {
    tile: &'a Tile<'a>,
    memory: &'a GlobalMemory,
    allocation: Option<Arc<Allocation>>,
}

impl<'a> Tile<'a> {
    fn new(map: &'a TensorMap, coordinates: &[i32]) -> Result<Self> {
        if coordinates.len() != map.rank {
            let message = format!(
                "{} coordinates for a tensor of rank {}; {}",
                coordinates.len(),
                map.rank,
                map.describe()
            );
            return Err(Fault::new(FaultKind::Descriptor, message));
        }
        let first = coordinates[0];
        // A row begins at a multiple of 16 bytes of the tensor's; anything else is an illegal instruction on an H100.
        let multiple = match map.element {
            Element::U4Padded | Element::U6Padded => 128,
            element => 128 / element.bits() as i32,
        };
        if first % multiple != 0 {
            let message = format!(
                "the first coordinate is {first}, no multiple of {multiple}; {}",
                map.describe()
            );
            return Err(Fault::new(FaultKind::Misaligned, message));
        }
        let mut wide = [0; MAX_RANK];
        for (wide, coordinate) in wide.iter_mut().zip(coordinates) {
            *wide = i64::from(*coordinate);
        }
        Ok(Self { map, coordinates: wide, counts: map.counts() })
    }

    /// Coordinates of the first element of a row of the box.
    fn row(&self, index: u32) -> [i64; MAX_RANK] {
        let mut at = self.coordinates;
        let mut left = index;
        let axes = self.counts.iter().zip(self.map.element_strides);
        for (at, (count, stride)) in at.iter_mut().zip(axes).skip(1) {
            *at += i64::from(left % count * stride);
            left /= count;
        }
        at
    }

    /// The part of a row that is in bounds of a tensor whose first dimension has this many elements.
    fn inside(&self, index: u32, extent: i64) -> Result<Option<Inside>> {
        let at = self.row(index);
        let map = self.map;
        let outside = |axis: usize| at[axis] < 0 || at[axis] as u64 >= map.dims[axis];
        if (1..map.rank).any(outside) {
            return Ok(None);
        }
        let end = (at[0] + i64::from(map.box_dims[0])).min(extent);
        let start = at[0].max(0);
        if start >= end {
            return Ok(None);
        }
        let bits = map.element.bits();
        let mut address = u128::from(map.address) + u128::from(start as u64 * bits / 8);
        for (at, stride) in at[1..map.rank].iter().zip(map.strides) {
            address += *at as u128 * u128::from(stride);
        }
        let Ok(address) = u64::try_from(address) else {
            let message =
                format!("coordinates {:?} lie beyond all addresses; {}", at, map.describe());
            return Err(Fault::new(FaultKind::OutOfBounds, message));
        };
        let elements = (end - start) as u64;
        Ok(Some(Inside {
            skip: map.element.shared_bytes((start - at[0]) as u64) as usize,
            shared: map.element.shared_bytes(elements) as usize,
            bytes: (elements * bits / 8) as usize,
            address,
        }))
    }

    fn fault(&self, index: u32, fault: Fault) -> Fault {
        let at = self.row(index);
        let message = format!(
            "{}: row at coordinates {:?}; {}",
            fault.message,
            &at[..self.map.rank],
            self.map.describe()
        );
        Fault { message, ..fault }
    }
}

impl<'a> Window<'a> {
    fn new(tile: &'a Tile<'a>, memory: &'a GlobalMemory) -> Self {
        Self { tile, memory, allocation: None }
    }

    fn with<T>(
        &mut self,
        index: u32,
        inside: Inside,
        act: impl FnOnce(&Allocation) -> Result<T>,
    ) -> Result<T> {
        let holds =
            |allocation: &Arc<Allocation>| allocation.contains(inside.address, inside.bytes as u64);
        if !self.allocation.as_ref().is_some_and(holds) {
            self.allocation = self.memory.find(inside.address);
        }
        let done = match &self.allocation {
            Some(allocation) => act(allocation),
            None => Err(Fault::new(
                FaultKind::OutOfBounds,
                format!(
                    "{} bytes at {:#x}, outside of any allocation",
                    inside.bytes, inside.address
                ),
            )),
        };
        done.map_err(|fault| self.tile.fault(index, fault))
    }
}

/// A box as it lies in shared memory after a load to `offset`.
pub fn load(
    map: &TensorMap,
    memory: &GlobalMemory,
    coordinates: &[i32],
    offset: u32,
) -> Result<Image> {
    let rows = gather(map, memory, coordinates)?;
    Ok(swizzle::place(map.swizzle, offset, &rows, map.row_bytes()))
}

/// Reads a box: its bytes in shared memory row after row, before any swizzle. Elements out of bounds are filled.
pub fn gather(map: &TensorMap, memory: &GlobalMemory, coordinates: &[i32]) -> Result<Vec<u8>> {
    let tile = Tile::new(map, coordinates)?;
    let mut window = Window::new(&tile, memory);
    let mut bytes = filled(map);
    let mut packed = vec![0; map.packed_row_bytes() as usize];
    for (index, row) in bytes.chunks_exact_mut(map.row_bytes() as usize).enumerate() {
        let index = index as u32;
        let Some(inside) = tile.inside(index, map.dims[0] as i64)? else { continue };
        let part = &mut row[inside.skip..inside.skip + inside.shared];
        if map.element.is_padded() {
            let packed = &mut packed[..inside.bytes];
            window.with(index, inside, |from| from.read(inside.address, packed, true))?;
            // 16 elements and their padding are 16 bytes.
            let group = map.element.bits() as usize * 2;
            for (into, from) in part.chunks_exact_mut(16).zip(packed.chunks_exact(group)) {
                into[..group].copy_from_slice(from);
            }
        } else {
            window.with(index, inside, |from| from.read(inside.address, part, true))?;
            round_tf32(map.element, part);
        }
    }
    Ok(bytes)
}

/// A box that is out of bounds altogether.
fn filled(map: &TensorMap) -> Vec<u8> {
    let bytes = (map.rows() * map.row_bytes()) as usize;
    match (map.element, map.fill) {
        (Element::U4Padded | Element::U6Padded, _) => {
            let group = map.element.bits() as usize * 2;
            let mut chunk = [PADDING; 16];
            chunk[..group].fill(0);
            chunk.repeat(bytes / 16)
        }
        (_, Fill::Zero) => vec![0; bytes],
        (_, Fill::Nan) => OUT_OF_BOUNDS.to_le_bytes().repeat(bytes / 2),
    }
}

/// What stands for an element out of bounds, whatever its type: each 16 bits of it (recorded on an H100).
const OUT_OF_BOUNDS: u16 = 0x7FF7;

/// Loads as `.tf32` round to 10 bits of fraction, ties to even; NaN become one (recorded on an H100). Other types come as
/// they are, also those that flush: only reductions do that.
fn round_tf32(element: Element, bytes: &mut [u8]) {
    if !matches!(element, Element::Tf32 | Element::Tf32Ftz) {
        return;
    }
    for word in bytes.as_chunks_mut::<4>().0 {
        let bits = u32::from_le_bytes(*word);
        let rounded = if f32::from_bits(bits).is_nan() {
            0x7FFF_E000
        } else {
            // Half of the last bit that is kept, less one where that bit is even.
            (bits + 0xFFF + ((bits >> 13) & 1)) & !0x1FFF
        };
        *word = rounded.to_le_bytes();
    }
}

/// Reads the source of a store: the box row after row. What is out of bounds is not read, and is zero here.
pub fn source(
    map: &TensorMap,
    shared: &SharedMemory,
    coordinates: &[i32],
    offset: u32,
) -> Result<Vec<u8>> {
    const CHUNK: usize = 16;
    let tile = Tile::new(map, coordinates)?;
    // Whether all of it lies in shared memory.
    shared.peek(offset, map.box_bytes())?;
    let row_bytes = map.row_bytes() as usize;
    let mut bytes = vec![0; map.rows() as usize * row_bytes];
    for (index, row) in bytes.chunks_exact_mut(row_bytes).enumerate() {
        let Some(inside) = tile.inside(index as u32, stored_extent(map))? else { continue };
        let start = offset as usize + index * map.pitch() as usize;
        if map.swizzle.span().is_none() {
            let part = &mut row[inside.skip..inside.skip + inside.shared];
            let from = (start + inside.skip) as u32;
            part.copy_from_slice(shared.read(from, inside.shared as u32, Proxy::Async)?);
            continue;
        }
        let (first, end) = (inside.skip, inside.skip + inside.shared);
        for chunk in (first / CHUNK * CHUNK..end).step_by(CHUNK) {
            let (from, to) = (first.max(chunk), end.min(chunk + CHUNK));
            let at = map.swizzle.apply((start + chunk) as u32) + (from - chunk) as u32;
            row[from..to].copy_from_slice(shared.read(at, (to - from) as u32, Proxy::Async)?);
        }
    }
    Ok(bytes)
}

/// Elements at which the rows of a store end. An H100 ends them at 16 bytes, not at the extent: it also writes what lies
/// between the rows.
fn stored_extent(map: &TensorMap) -> i64 {
    let granule = if map.element.is_padded() { 1 } else { 128 / map.element.bits() };
    map.dims[0].next_multiple_of(granule) as i64
}

/// Writes, or reduces into, the part of a box that is in bounds. `linear` is what [`source`] gives.
pub fn scatter(
    map: &TensorMap,
    memory: &GlobalMemory,
    coordinates: &[i32],
    linear: &[u8],
    reduction: Option<Reduction>,
) -> Result<()> {
    let tile = Tile::new(map, coordinates)?;
    check_direction(map, reduction)?;
    if coordinates.iter().any(|coordinate| *coordinate < 0) {
        let message =
            format!("a store at negative coordinates {coordinates:?}; {}", map.describe());
        return Err(Fault::new(FaultKind::OutOfBounds, message));
    }
    let mut window = Window::new(&tile, memory);
    for (index, row) in linear.chunks_exact(map.row_bytes() as usize).enumerate() {
        let index = index as u32;
        let Some(inside) = tile.inside(index, stored_extent(map))? else { continue };
        let part = &row[inside.skip..inside.skip + inside.shared];
        let act = |into: &Allocation| match reduction {
            Some(reduction) => reduce::global(reduction, memory, into, inside.address, part),
            None if map.element == Element::U6Padded => into.write(inside.address, &pack(part)),
            None => into.write(inside.address, part),
        };
        window.with(index, inside, act)?;
    }
    Ok(())
}

/// The bytes of global memory that a load reads or a store writes: addresses and counts.
pub(super) fn ranges(
    map: &TensorMap,
    coordinates: &[i32],
    stores: bool,
) -> Result<Vec<(u64, u64)>> {
    let tile = Tile::new(map, coordinates)?;
    let extent = if stores { stored_extent(map) } else { map.dims[0] as i64 };
    let mut ranges = Vec::new();
    for index in 0..map.rows() {
        if let Some(inside) = tile.inside(index, extent)? {
            ranges.push((inside.address, inside.bytes as u64));
        }
    }
    Ok(ranges)
}

/// Whether the elements can be stored at all.
pub fn check_direction(map: &TensorMap, reduction: Option<Reduction>) -> Result<()> {
    let words = match (map.element, reduction) {
        (Element::U4Padded, _) => "a store of",
        (Element::U4 | Element::U6Padded, Some(_)) => "a reduction of",
        _ => return Ok(()),
    };
    let message = format!("{words} {:?}, which hardware cannot; {}", map.element, map.describe());
    Err(Fault::new(FaultKind::Descriptor, message))
}

/// The low six bits of each byte, without gaps.
fn pack(bytes: &[u8]) -> Vec<u8> {
    let four = |four: &[u8; 4]| {
        let bits = four.iter().rev().fold(0, |bits, byte| bits << 6 | u32::from(byte & 0x3F));
        let [first, second, third, _] = bits.to_le_bytes();
        [first, second, third]
    };
    bytes.as_chunks::<4>().0.iter().flat_map(four).collect()
}
