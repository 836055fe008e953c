//! Boxes against a model that takes one element at a time: coordinates to a bit of global memory, and to a bit of
//! shared memory, by formulas written another way than the library's.

use std::collections::BTreeMap;

use emulator::execute::bulk::boxes::{self, load};
use emulator::fault::{Fault, FaultKind, Result};
use emulator::machine::global::GlobalMemory;
use emulator::machine::shared::SharedMemory;
use emulator::tma::element::Element;
use emulator::tma::map::{TensorMap, Tiled};
use emulator::tma::replace::{Field, replace};

/// Arguments of `cuTensorMapEncodeTiled` that own their arrays.
#[derive(Clone, Debug)]
struct Case {
    data_type: u32,
    bits: u64,
    dims: Vec<u64>,
    strides: Vec<u64>,
    box_dims: Vec<u32>,
    element_strides: Vec<u32>,
    swizzle: u32,
    fill: u32,
}

impl Case {
    fn new(data_type: u32, bits: u64, dims: &[u64], box_dims: &[u32]) -> Self {
        let mut strides = Vec::new();
        let mut stride = (dims[0] * bits / 8).next_multiple_of(32) + 32;
        for extent in &dims[1..] {
            strides.push(stride);
            stride = stride * extent + 64;
        }
        Self {
            data_type,
            bits,
            dims: dims.to_vec(),
            strides,
            box_dims: box_dims.to_vec(),
            element_strides: vec![1; dims.len()],
            swizzle: 0,
            fill: 0,
        }
    }

    fn swizzle(mut self, swizzle: u32) -> Self {
        self.swizzle = swizzle;
        self
    }

    fn steps(mut self, steps: &[u32]) -> Self {
        self.element_strides = steps.to_vec();
        self
    }

    fn tiled(&self, address: u64) -> Tiled<'_> {
        Tiled {
            tensor_map: 0,
            data_type: self.data_type,
            rank: self.dims.len() as u32,
            address,
            dims: &self.dims,
            strides: &self.strides,
            box_dims: &self.box_dims,
            element_strides: &self.element_strides,
            interleave: 0,
            swizzle: self.swizzle,
            l2_promotion: 0,
            fill: self.fill,
        }
    }

    /// Bytes from the first of the tensor to the last of its padding.
    fn bytes(&self) -> u64 {
        match self.strides.last() {
            Some(stride) => stride * self.dims[self.dims.len() - 1],
            None => self.dims[0] * self.bits / 8,
        }
    }
}

/// Chunks of 16 bytes in the lines of 128, in the order in which the manual prints them.
const SPAN128: [[u64; 8]; 8] = [
    [0, 1, 2, 3, 4, 5, 6, 7],
    [1, 0, 3, 2, 5, 4, 7, 6],
    [2, 3, 0, 1, 6, 7, 4, 5],
    [3, 2, 1, 0, 7, 6, 5, 4],
    [4, 5, 6, 7, 0, 1, 2, 3],
    [5, 4, 7, 6, 1, 0, 3, 2],
    [6, 7, 4, 5, 2, 3, 0, 1],
    [7, 6, 5, 4, 3, 2, 1, 0],
];

/// Address of a byte, from the tables. All of them are their own inverse.
fn swizzled(swizzle: u32, address: u64) -> u64 {
    let (line, chunk) = (address / 128, address as usize % 128 / 16);
    let row = line as usize;
    let place = match swizzle {
        0 => chunk as u64,
        1 => SPAN128[row % 2][chunk],
        2 => SPAN128[row % 4][chunk],
        3 => SPAN128[row % 8][chunk],
        // Pairs of chunks as in every second row of that table.
        4 => SPAN128[[0, 2, 4, 6][row % 4]][chunk],
        _ => SPAN128[[0, 4][row % 2]][chunk],
    };
    line * 128 + place * 16 + address % 16
}

/// For each element of the box: its bit in global memory, from the tensor's first byte, if it is in bounds, and its bit
/// in shared memory.
fn elements(case: &Case, coordinates: &[i32], offset: u64) -> Vec<(Option<u64>, u64)> {
    let rank = case.dims.len();
    let step = |axis: usize| if axis == 0 { 1 } else { case.element_strides[axis] };
    let counts: Vec<u32> = (0..rank)
        .map(|axis| (0..case.box_dims[axis]).step_by(step(axis) as usize).count() as u32)
        .collect();
    let is_padded = case.data_type >= 14;
    let row = u64::from(case.box_dims[0]) * if is_padded { 8 } else { case.bits } / 8;
    let pitch = [row, 32, 64, 128, 128, 128, 128][case.swizzle as usize];
    let mut found = Vec::new();
    let mut index = vec![0_u32; rank];
    'elements: loop {
        let at: Vec<i64> = (0..rank)
            .map(|axis| i64::from(coordinates[axis]) + i64::from(index[axis] * step(axis)))
            .collect();
        let inside = (0..rank).all(|axis| (0..case.dims[axis] as i64).contains(&at[axis]));
        let global = inside.then(|| {
            let outer: u64 = (1..rank).map(|axis| at[axis] as u64 * case.strides[axis - 1]).sum();
            outer * 8 + at[0] as u64 * case.bits
        });
        let number = (1..rank)
            .rev()
            .fold(0, |number, axis| number * u64::from(counts[axis]) + u64::from(index[axis]));
        let column = u64::from(index[0]);
        // Where there is padding, 16 elements and theirs are 16 bytes.
        let within = if is_padded {
            column / 16 * 128 + column % 16 * case.bits
        } else {
            column * case.bits
        };
        let byte = swizzled(case.swizzle, offset + number * pitch + within / 8);
        found.push((global, byte * 8 + within % 8));
        for axis in 0..rank {
            index[axis] += 1;
            if index[axis] < counts[axis] {
                continue 'elements;
            }
            index[axis] = 0;
        }
        return found;
    }
}

fn get_bits(bytes: &[u8], at: u64, bits: u64) -> u64 {
    let bit = |at: u64| u64::from(bytes[(at / 8) as usize] >> (at % 8) & 1);
    (0..bits).map(|index| bit(at + index) << index).sum()
}

fn pattern(bytes: u64, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn tensor(case: &Case, seed: u64) -> Result<(GlobalMemory, u64, Vec<u8>, TensorMap)> {
    let memory = GlobalMemory::default();
    let address = memory.allocate(case.bytes()).unwrap_or(0);
    let bytes = pattern(case.bytes(), seed);
    memory.write(address, &bytes)?;
    let map = TensorMap::decode(&case.tiled(address).encode()?)?;
    Ok((memory, address, bytes, map))
}

fn check_load(case: &Case, coordinates: &[i32], offset: u32) -> Result<()> {
    let (memory, _, bytes, map) = tensor(case, u64::from(offset))?;
    let image = load(&map, &memory, coordinates, offset)?;
    let mut written = BTreeMap::new();
    let mut all = vec![0; 1 << 16];
    for (start, piece) in image.pieces() {
        for (byte, value) in (start..).zip(piece) {
            assert_eq!(written.insert(u64::from(byte), *value), None, "{case:?}");
            all[byte as usize] = *value;
        }
    }
    let expected = elements(case, coordinates, u64::from(offset));
    let mut named: Vec<u64> = Vec::new();
    for (global, shared) in &expected {
        named.extend(shared / 8..=(shared + case.bits - 1) / 8);
        let there = global.map_or(0, |at| get_bits(&bytes, at, case.bits));
        let here = get_bits(&all, *shared, case.bits);
        assert_eq!(here, there, "{case:?} {coordinates:?} {offset:#x}: {global:?}, {shared}");
    }
    named.sort_unstable();
    named.dedup();
    if !map.element.is_padded() {
        assert!(written.keys().eq(&named), "{case:?} {coordinates:?} {offset:#x}: bytes written");
    }
    assert_eq!(u64::from(map.transaction_bytes()) * 8, expected.len() as u64 * case.bits);
    Ok(())
}

fn check_store(case: &Case, coordinates: &[i32], offset: u32) -> Result<()> {
    // Rows end at 16 bytes: an H100 does so in `store_after` of tests/h100/tma.cu.
    let mut rounded = case.clone();
    rounded.dims[0] = case.dims[0].next_multiple_of(128 / case.bits);
    if rounded.bytes() > case.bytes() {
        return Ok(());
    }
    let (memory, address, mut bytes, map) = tensor(case, 7)?;
    let mut shared = SharedMemory::new(1 << 16, 1);
    let source = pattern(1 << 15, 11);
    shared.store_async(0x400, &source)?;
    let all = [vec![0; 0x400], source].concat();
    let rows = boxes::source(&map, &shared, coordinates, offset)?;
    let stored = boxes::scatter(&map, &memory, coordinates, &rows, None);
    if coordinates.iter().any(|coordinate| *coordinate < 0) {
        assert_eq!(kind(stored), Some(FaultKind::OutOfBounds), "{case:?} {coordinates:?}");
        return Ok(());
    }
    stored?;
    for (global, shared) in elements(&rounded, coordinates, u64::from(offset)) {
        let Some(global) = global else { continue };
        for bit in 0..case.bits {
            let value = get_bits(&all, shared + bit, 1) as u8;
            let byte = &mut bytes[((global + bit) / 8) as usize];
            let place = (global + bit) % 8;
            *byte = (*byte & !(1 << place)) | (value << place);
        }
    }
    let mut found = vec![0; bytes.len()];
    memory.read(address, &mut found, true)?;
    assert!(found == bytes, "{case:?} {coordinates:?} {offset:#x}");
    Ok(())
}

/// Types, boxes and coordinates of all ranks.
fn cases() -> Vec<(Case, Vec<Vec<i32>>)> {
    let mut cases = vec![
        (Case::new(0, 8, &[200], &[48]), vec![vec![0], vec![176], vec![-16], vec![224], vec![-64]]),
        (
            Case::new(6, 16, &[40, 9, 5], &[16, 4, 3]),
            vec![vec![8, 2, 1], vec![32, -2, 3], vec![-8, 7, -1]],
        ),
        (
            Case::new(7, 32, &[12, 5, 3, 4], &[8, 3, 2, 2]),
            vec![vec![4, 3, 1, 2], vec![-4, -1, -1, 3]],
        ),
        (
            Case::new(8, 64, &[6, 3, 4, 3, 3], &[4, 2, 3, 2, 2]),
            vec![vec![2, 1, 1, 1, 2], vec![-2, -1, 2, -1, -1], vec![4, 0, 0, 2, 0]],
        ),
        // Packed fp4 with extents and boxes that are no powers of two.
        (
            Case::new(13, 4, &[96, 7], &[32, 5]),
            vec![vec![0, 0], vec![64, 4], vec![-32, -3], vec![96, 0]],
        ),
        (Case::new(13, 4, &[70, 7, 3], &[64, 3, 2]), vec![vec![32, 5, 2], vec![64, 0, -1]]),
        // What is padded in shared memory.
        (
            Case::new(14, 4, &[256, 5], &[128, 3]),
            vec![vec![0, 1], vec![128, 3], vec![-128, 0], vec![256, -1]],
        ),
        (Case::new(15, 6, &[256, 5], &[128, 3]), vec![vec![128, -1], vec![0, 4]]),
        (
            Case::new(1, 16, &[24, 11, 9], &[16, 7, 5]).steps(&[3, 2, 3]),
            vec![vec![0, 0, 0], vec![8, -3, 4], vec![-8, 6, -4]],
        ),
    ];
    for (swizzle, span) in [(1, 32), (2, 64), (3, 128), (4, 128), (6, 128)] {
        for bytes in [span, 16.max(span / 2)] {
            let at = vec![vec![0, 0], vec![16, 3], vec![-16, -5], vec![288, 30]];
            cases.push((Case::new(0, 8, &[300, 40], &[bytes, 19]).swizzle(swizzle), at));
        }
        let at = vec![vec![0, 1, 1], vec![32, -2, 0]];
        cases.push((Case::new(13, 4, &[352, 9, 3], &[span * 2, 5, 2]).swizzle(swizzle), at));
    }
    for swizzle in [3, 4] {
        cases.push((Case::new(14, 4, &[256, 20], &[128, 11]).swizzle(swizzle), vec![vec![128, 4]]));
        cases.push((Case::new(15, 6, &[256, 20], &[128, 11]).swizzle(swizzle), vec![vec![0, 12]]));
    }
    cases
}

#[test]
fn loads_put_each_element_in_its_place() -> Result<()> {
    for (case, places) in cases() {
        for coordinates in places {
            for offset in [0x400, 0x480, 0x700, 0x1380] {
                check_load(&case, &coordinates, offset)?;
            }
        }
    }
    Ok(())
}

#[test]
fn stores_take_each_element_from_its_place_and_clip() -> Result<()> {
    for (case, places) in cases().into_iter().filter(|(case, _)| case.data_type < 14) {
        for coordinates in places {
            for offset in [0x400, 0x480, 0x1380] {
                check_store(&case, &coordinates, offset)?;
            }
        }
    }
    Ok(())
}

#[test]
fn six_bits_of_each_byte_are_stored_without_gaps() -> Result<()> {
    let case = Case::new(15, 6, &[128, 2], &[128, 1]);
    let (memory, address, _, map) = tensor(&case, 3)?;
    let bytes = pattern(128, 5);
    let mut shared = SharedMemory::new(4096, 1);
    shared.store_async(0x400, &bytes)?;
    let rows = boxes::source(&map, &shared, &[0, 1], 0x400)?;
    boxes::scatter(&map, &memory, &[0, 1], &rows, None)?;
    let mut found = vec![0; 96];
    memory.read(address + case.strides[0], &mut found, true)?;
    for (index, byte) in bytes.iter().enumerate() {
        let stored = get_bits(&found, index as u64 * 6, 6);
        assert_eq!(stored, u64::from(byte & 0x3F), "element {index}");
    }
    let (memory, _, _, map) = tensor(&Case::new(14, 4, &[128, 2], &[128, 1]), 3)?;
    let stored = boxes::scatter(&map, &memory, &[0, 0], &[0; 128], None);
    assert_eq!(kind(stored), Some(FaultKind::Descriptor));
    Ok(())
}

/// What was loaded on an H100, and what of it differs as `.tf32`.
const RECORDED: [(u32, u32); 16] = [
    (0x0000_0001, 0x0000_0000),
    (0x807F_FFFF, 0x8080_0000),
    (0x0080_0000, 0x0080_0000),
    (0x3F80_0001, 0x3F80_0000),
    (0x3F80_0FFF, 0x3F80_0000),
    (0x3F80_1000, 0x3F80_0000),
    (0x3F80_1001, 0x3F80_2000),
    (0x3F80_3000, 0x3F80_4000),
    (0x3F80_1FFF, 0x3F80_2000),
    (0x7F80_0001, 0x7FFF_E000),
    (0xFFFF_FFFF, 0x7FFF_E000),
    (0x7F7F_FFFF, 0x7F80_0000),
    (0x7F80_0000, 0x7F80_0000),
    (0x1234_5678, 0x1234_6000),
    (0x0000_ABCD, 0x0000_A000),
    (0xBF80_F000, 0xBF81_0000),
];

#[test]
fn fills_and_rounds_as_recorded_on_an_h100() -> Result<()> {
    let memory = GlobalMemory::default();
    let address = memory.allocate(64).unwrap_or(0);
    let bytes: Vec<u8> = RECORDED.iter().flat_map(|(word, _)| word.to_le_bytes()).collect();
    memory.write(address, &bytes)?;
    for (data_type, bits) in [(6, 16), (7, 32), (8, 64), (9, 16), (10, 32), (11, 32), (12, 32)] {
        let elements = 512 / bits;
        let mut case = Case::new(data_type, bits, &[elements], &[elements as u32 * 2]);
        case.fill = 1;
        let map = TensorMap::decode(&case.tiled(address).encode()?)?;
        let image = load(&map, &memory, &[0], 0x400)?;
        let loaded = |(word, rounded): &(u32, u32)| {
            if data_type >= 11 { rounded.to_le_bytes() } else { word.to_le_bytes() }
        };
        let mut expected: Vec<u8> = RECORDED.iter().flat_map(loaded).collect();
        expected.extend([0xF7, 0x7F].repeat(32));
        assert_eq!(image.bytes, expected, "type {data_type}");
    }
    Ok(())
}

fn kind<T>(result: Result<T>) -> Option<FaultKind> {
    result.err().map(|fault| fault.kind)
}

fn message<T>(result: Result<T>) -> String {
    result.err().map_or_else(String::new, |fault: Fault| fault.message)
}

#[test]
fn what_a_box_must_not_read_or_name_is_a_fault() -> Result<()> {
    let case = Case::new(0, 8, &[64, 4], &[32, 2]);
    let memory = GlobalMemory::default();
    let address = memory.allocate(2 * case.strides[0]).unwrap_or(0);
    memory.write(address, &vec![1; 2 * case.strides[0] as usize - 40])?;
    let map = TensorMap::decode(&case.tiled(address).encode()?)?;
    assert_eq!(kind(load(&map, &memory, &[0, 0], 0x400)), None);
    // The second row's end was never written; rows 2 and 3 are beyond the allocation.
    assert_eq!(kind(load(&map, &memory, &[32, 0], 0x400)), Some(FaultKind::Uninitialised));
    let outside = load(&map, &memory, &[0, 2], 0x400);
    assert_eq!(kind(outside.clone()), Some(FaultKind::OutOfBounds));
    let words = message(outside);
    assert!(words.contains("[0, 2]") && words.contains("extents [64, 4]"), "{words}");
    // Illegal instructions on an H100.
    for first in [-1, 1, 8, 250] {
        assert_eq!(kind(load(&map, &memory, &[first, 0], 0x400)), Some(FaultKind::Misaligned));
    }
    assert_eq!(kind(load(&map, &memory, &[0], 0x400)), Some(FaultKind::Descriptor));
    // A store of what was never written in shared memory, but for what is out of bounds.
    let mut shared = SharedMemory::new(4096, 1);
    shared.store_async(0x400, &[1; 32])?;
    let source =
        |shared: &SharedMemory, coordinates| boxes::source(&map, shared, coordinates, 0x400);
    assert_eq!(kind(source(&shared, &[0, 0])), Some(FaultKind::Uninitialised));
    assert_eq!(kind(source(&shared, &[0, 3])), None);
    shared.store(0x400, &[1; 64], Some(0))?;
    assert_eq!(kind(source(&shared, &[0, 0])), Some(FaultKind::ProxyFence));
    shared.fence(0);
    assert_eq!(kind(source(&shared, &[0, 0])), None);
    Ok(())
}

#[test]
fn encode_refuses_what_the_driver_refuses() {
    let good = Case::new(0, 8, &[256, 64, 4, 4, 4], &[64, 8, 1, 1, 1]);
    type Change = fn(&mut Case);
    // Each accepted by driver 580 of an H100.
    let accepted: [Change; 10] = [
        |_| {},
        |case| case.dims[0] = 1 << 32,
        |case| case.dims[0] = 1,
        |case| case.strides[0] = 0,
        |case| case.strides[0] = 16,
        |case| case.strides[0] = (1 << 40) - 16,
        |case| case.strides[1] = 16,
        |case| case.element_strides[0] = 8,
        |case| case.box_dims = vec![256, 256, 3, 1, 1],
        |case| (case.box_dims[0], case.swizzle) = (48, 3),
    ];
    for change in accepted {
        let mut case = good.clone();
        change(&mut case);
        assert_eq!(message(case.tiled(1 << 20).encode()), "", "{case:?}");
    }
    // Each refused by it, with the argument that is to be named.
    let refused: [(&str, Change); 18] = [
        ("globalDim[0]", |case| case.dims[0] = 0),
        ("globalDim[0]", |case| case.dims[0] = (1 << 32) + 1),
        ("globalStrides[0]", |case| case.strides[0] = 8),
        ("globalStrides[0]", |case| case.strides[0] = 1 << 40),
        ("boxDim[0]", |case| case.box_dims[0] = 0),
        ("boxDim[0]", |case| case.box_dims[0] = 257),
        ("boxDim[0]", |case| case.box_dims[0] = 8),
        ("boxDim[1]", |case| case.box_dims[1] = 0),
        ("boxDim[1]", |case| case.box_dims[1] = 257),
        ("boxDim", |case| case.box_dims = vec![256, 256, 4, 1, 1]),
        ("elementStrides[0]", |case| case.element_strides[0] = 0),
        ("elementStrides[0]", |case| case.element_strides[0] = 9),
        ("elementStrides[1]", |case| case.element_strides[1] = 9),
        ("tensorDataType", |case| case.data_type = 16),
        ("oobFill", |case| case.fill = 1),
        ("oobFill", |case| case.fill = 2),
        ("swizzle", |case| case.swizzle = 7),
        ("swizzle", |case| (case.box_dims[0], case.swizzle) = (64, 1)),
    ];
    for (name, change) in refused {
        let mut case = good.clone();
        change(&mut case);
        let words = message(case.tiled(1 << 20).encode());
        assert!(words.contains(name), "{case:?}: {words}");
    }
    let tiled = good.tiled(1 << 20);
    assert!(message(Tiled { tensor_map: 32, ..tiled }.encode()).contains("tensorMap"));
    assert!(message(Tiled { rank: 6, ..tiled }.encode()).contains("tensorRank"));
    assert!(message(Tiled { address: 8, ..tiled }.encode()).contains("globalAddress"));
    assert!(message(Tiled { l2_promotion: 4, ..tiled }.encode()).contains("l2Promotion"));
    assert_eq!(kind(Tiled { interleave: 1, ..tiled }.encode()), Some(FaultKind::Unsupported));
}

#[test]
fn encode_knows_the_types_of_a_b200() {
    // From the text of cuda.h 13.5.
    let fp4 = |data_type, dims: &[u64], box_dims: &[u32], swizzle, address| {
        let case = Case::new(data_type, 4, dims, box_dims).swizzle(swizzle);
        message(case.tiled(address).encode())
    };
    assert_eq!(fp4(13, &[256, 8], &[256, 8], 3, 16), "");
    assert!(fp4(13, &[255, 8], &[64, 8], 3, 16).contains("globalDim[0]"));
    assert!(fp4(13, &[256, 8], &[16, 8], 0, 16).contains("boxDim[0]"));
    assert_eq!(fp4(14, &[256, 8], &[128, 8], 3, 32), "");
    assert!(fp4(14, &[256, 8], &[128, 8], 3, 16).contains("globalAddress"));
    assert!(fp4(14, &[192, 8], &[128, 8], 3, 32).contains("globalDim[0]"));
    assert!(fp4(14, &[256, 8], &[64, 8], 3, 32).contains("boxDim[0]"));
    assert!(fp4(14, &[256, 8], &[128, 8], 6, 32).contains("swizzle"));
}

#[test]
fn fields_are_replaced_by_the_numbers_of_ptx() -> Result<()> {
    let case = Case::new(0, 8, &[256, 64], &[64, 8]);
    let bytes = case.tiled(0x1000).encode()?;
    assert_eq!(bytes[8..12], [0; 4], "CUTLASS may clear bit 21 of the second quad word");
    let change = |field, value| TensorMap::decode(&replace(&bytes, field, value)?);
    assert_eq!(change(Field::GlobalAddress, 0x2000)?.address, 0x2000);
    assert_eq!(change(Field::GlobalDim(1), 100)?.dims[1], 100);
    assert_eq!(change(Field::GlobalStride(0), 512)?.strides[0], 512);
    assert_eq!(change(Field::BoxDim(1), 16)?.box_dims[1], 16);
    assert_eq!(change(Field::ElementStride(1), 2)?.counts()[1], 4);
    assert_eq!(change(Field::Rank, 0)?.rank, 1);
    // 10 is .bf16 here and FLOAT32_FTZ in the driver.
    assert_eq!(change(Field::ElementType, 10)?.element, Element::Bf16);
    // The map is checked when it is used.
    assert_eq!(kind(change(Field::GlobalAddress, 8)), Some(FaultKind::Descriptor));
    assert_eq!(kind(change(Field::SwizzleMode, 1)), Some(FaultKind::Descriptor));
    assert_eq!(kind(change(Field::BoxDim(5), 1)), Some(FaultKind::Descriptor));
    assert_eq!(kind(change(Field::ElementType, 16)), Some(FaultKind::Descriptor));
    assert_eq!(kind(TensorMap::decode(&[0; 128])), Some(FaultKind::Descriptor));
    Ok(())
}
