//! Tensor maps: the 128 bytes of a `CUtensorMap`.
//!
//! The bytes are opaque to programs, so the layout is this library's own. Fields stand at fixed places, because
//! `tensormap.replace` changes them one by one in a copy. Bit 21 of the second quad word stays zero: CUTLASS clears it
//! in maps of old drivers.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | global address |
//! | 8..12 | zero |
//! | 12..16 | [`MAGIC`] |
//! | 16..23 | type, rank - 1, interleave, swizzle, swizzle atomicity, fill, L2 promotion |
//! | 24..29 | element strides |
//! | 32..72 | extents in elements |
//! | 72..104 | strides in bytes, of all dimensions but the first |
//! | 104..124 | box |

use super::element::Element;
use super::swizzle::Swizzle;
use crate::fault::{Fault, FaultKind, Result};

/// Size in bytes.
pub const BYTES: usize = 128;
/// Most dimensions.
pub const MAX_RANK: usize = 5;
/// Marks the 128 bytes as a tensor map of this library.
pub const MAGIC: u32 = 0x3A4D_5445;

/// What elements out of bounds read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Zero.
    Zero,
    /// A NaN.
    Nan,
}

/// The arguments of `cuTensorMapEncodeTiled`, as they come.
#[derive(Clone, Copy, Debug)]
pub struct Tiled<'a> {
    /// Address of the map itself.
    pub tensor_map: u64,
    /// `tensorDataType`
    pub data_type: u32,
    /// `tensorRank`; the slices have as many entries.
    pub rank: u32,
    /// `globalAddress`
    pub address: u64,
    /// `globalDim`: extents in elements.
    pub dims: &'a [u64],
    /// `globalStrides`: bytes, one entry less.
    pub strides: &'a [u64],
    /// `boxDim`: elements.
    pub box_dims: &'a [u32],
    /// `elementStrides`
    pub element_strides: &'a [u32],
    /// `interleave`
    pub interleave: u32,
    /// `swizzle`
    pub swizzle: u32,
    /// `l2Promotion`
    pub l2_promotion: u32,
    /// `oobFill`
    pub fill: u32,
}

/// The fields as they are encoded, before anything is checked: `tensormap.replace` may leave them in any state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    pub address: u64,
    pub element: u8,
    /// Rank less one.
    pub rank: u8,
    pub interleave: u8,
    /// 0, 32B, 64B, 128B, 96B.
    pub swizzle: u8,
    /// 16B, 32B, 32B with flip, 64B.
    pub atomicity: u8,
    pub fill: u8,
    pub l2_promotion: u8,
    pub element_strides: [u8; MAX_RANK],
    pub dims: [u64; MAX_RANK],
    pub strides: [u64; MAX_RANK - 1],
    pub box_dims: [u32; MAX_RANK],
}

/// A tensor in global memory and the box of it that a copy moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// First byte of the tensor.
    pub address: u64,
    /// Type of the elements.
    pub element: Element,
    /// 1..=5
    pub rank: usize,
    /// Extents in elements; 1 beyond the rank.
    pub dims: [u64; MAX_RANK],
    /// Distance in bytes between neighbors in dimension i + 1.
    pub strides: [u64; MAX_RANK - 1],
    /// Elements that the box covers; 1 beyond the rank.
    pub box_dims: [u32; MAX_RANK],
    /// Every so manieth element of the box is copied. 1 in the first dimension.
    pub element_strides: [u32; MAX_RANK],
    /// How the box lies in shared memory.
    pub swizzle: Swizzle,
    /// What is read out of bounds.
    pub fill: Fill,
}

impl Tiled<'_> {
    /// The 128 bytes, or why `cuTensorMapEncodeTiled` refuses. The rules are those of its text in cuda.h 13.5.
    pub fn encode(&self) -> Result<[u8; BYTES]> {
        if !self.tensor_map.is_multiple_of(64) {
            return refuse(format!("tensorMap is at {:#x}, no multiple of 64", self.tensor_map));
        }
        check_rank(self.rank)?;
        let rank = self.rank as usize;
        for (name, length, needed) in [
            ("globalDim", self.dims.len(), rank),
            ("globalStrides", self.strides.len(), rank - 1),
            ("boxDim", self.box_dims.len(), rank),
            ("elementStrides", self.element_strides.len(), rank),
        ] {
            if length != needed {
                return refuse(format!(
                    "{name} has {length} entries; a rank of {rank} needs {needed}"
                ));
            }
        }
        if Element::from_driver(self.data_type).is_none() {
            return refuse(format!("tensorDataType is {}; it can be 0..=15", self.data_type));
        }
        for (name, value, most) in [
            ("interleave", self.interleave, 2),
            ("swizzle", self.swizzle, 6),
            ("l2Promotion", self.l2_promotion, 3),
            ("oobFill", self.fill, 1),
        ] {
            if value > most {
                return refuse(format!("{name} is {value}; it can be 0..={most}"));
            }
        }
        // CUtensorMapSwizzle has mode and atomicity in one.
        let (swizzle, atomicity) = match self.swizzle {
            4 => (3, 1),
            5 => (3, 2),
            6 => (3, 3),
            mode => (mode as u8, 0),
        };
        let mut raw = Raw {
            address: self.address,
            element: self.data_type as u8,
            rank: (rank - 1) as u8,
            interleave: self.interleave as u8,
            swizzle,
            atomicity,
            fill: self.fill as u8,
            l2_promotion: self.l2_promotion as u8,
            element_strides: [1; MAX_RANK],
            dims: [1; MAX_RANK],
            strides: [0; MAX_RANK - 1],
            box_dims: [1; MAX_RANK],
        };
        raw.dims[..rank].copy_from_slice(self.dims);
        raw.strides[..rank - 1].copy_from_slice(self.strides);
        raw.box_dims[..rank].copy_from_slice(self.box_dims);
        for (index, stride) in self.element_strides.iter().enumerate() {
            let Ok(narrow) = u8::try_from(*stride) else {
                return refuse(format!("elementStrides[{index}] is {stride}; it can be 1..=8"));
            };
            raw.element_strides[index] = narrow;
        }
        TensorMap::check(&raw)?;
        Ok(raw.encode())
    }
}

/// Before the arrays of the arguments are read.
pub fn check_rank(rank: u32) -> Result<()> {
    if !(1..=MAX_RANK as u32).contains(&rank) {
        return refuse(format!("tensorRank is {rank}; it can be 1..=5"));
    }
    Ok(())
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Fault::new(FaultKind::Descriptor, message))
}

impl Raw {
    pub fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.address.to_le_bytes());
        put(12, &MAGIC.to_le_bytes());
        put(16, &[self.element, self.rank, self.interleave, self.swizzle]);
        put(20, &[self.atomicity, self.fill, self.l2_promotion]);
        put(24, &self.element_strides);
        for (index, extent) in self.dims.iter().enumerate() {
            put(32 + index * 8, &extent.to_le_bytes());
        }
        for (index, stride) in self.strides.iter().enumerate() {
            put(72 + index * 8, &stride.to_le_bytes());
        }
        for (index, extent) in self.box_dims.iter().enumerate() {
            put(104 + index * 4, &extent.to_le_bytes());
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let Ok(bytes) = <&[u8; BYTES]>::try_from(bytes) else {
            return refuse(format!("a tensor map of {} bytes; it has {BYTES}", bytes.len()));
        };
        let quad = |at: usize| {
            let mut field = [0; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(field)
        };
        let magic = (quad(8) >> 32) as u32;
        if magic != MAGIC {
            return refuse(format!(
                "no tensor map: it has {magic:#010x} where {MAGIC:#010x} marks one made by cuTensorMapEncodeTiled"
            ));
        }
        let mut element_strides = [0; MAX_RANK];
        element_strides.copy_from_slice(&bytes[24..24 + MAX_RANK]);
        Ok(Self {
            address: quad(0),
            element: bytes[16],
            rank: bytes[17],
            interleave: bytes[18],
            swizzle: bytes[19],
            atomicity: bytes[20],
            fill: bytes[21],
            l2_promotion: bytes[22],
            element_strides,
            dims: std::array::from_fn(|index| quad(32 + index * 8)),
            strides: std::array::from_fn(|index| quad(72 + index * 8)),
            box_dims: std::array::from_fn(|index| (quad(104 + index * 4)) as u32),
        })
    }
}

impl TensorMap {
    /// From the 128 bytes. What no call of the driver made, or `tensormap.replace` left with illegal fields, is a
    /// fault.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::check(&Raw::decode(bytes)?)
    }

    fn check(raw: &Raw) -> Result<Self> {
        check_rank(u32::from(raw.rank) + 1)?;
        let rank = usize::from(raw.rank) + 1;
        let Some(element) = Element::from_driver(u32::from(raw.element)) else {
            return refuse(format!("tensorDataType is {}; it can be 0..=15", raw.element));
        };
        if raw.interleave != 0 {
            if rank < 3 {
                return refuse(format!(
                    "tensorRank is {rank}; an interleaved layout needs 3 or more"
                ));
            }
            return Err(Fault::unsupported(format!("interleave {}", raw.interleave)));
        }
        check_address(raw, rank, element)?;
        check_box(raw, rank, element)?;
        let swizzle = check_swizzle(raw, element)?;
        let fill = match raw.fill {
            0 => Fill::Zero,
            1 if element.is_float() => Fill::Nan,
            _ => {
                return refuse(format!(
                    "oobFill is {}; tensorDataType {} cannot be filled with NaN",
                    raw.fill, raw.element
                ));
            }
        };
        let mut map = Self {
            address: raw.address,
            element,
            rank,
            dims: [1; MAX_RANK],
            strides: raw.strides,
            box_dims: [1; MAX_RANK],
            element_strides: [1; MAX_RANK],
            swizzle,
            fill,
        };
        map.dims[..rank].copy_from_slice(&raw.dims[..rank]);
        for index in 0..rank {
            map.box_dims[index] = raw.box_dims[index];
            if index > 0 {
                map.element_strides[index] = u32::from(raw.element_strides[index]);
            }
        }
        // The limit of the driver of an H100, seen between 192 and 256 KiB.
        if map.box_dims[1..].iter().map(|extent| u64::from(*extent)).product::<u64>()
            * u64::from(map.row_bytes())
            >= 1 << 18
        {
            return refuse(format!(
                "boxDim is {:?}: 256 KiB or more of tensorDataType {}",
                &map.box_dims[..rank],
                raw.element
            ));
        }
        Ok(map)
    }

    /// Elements that are copied in each dimension: `ceil(boxDim / elementStrides)`.
    pub fn counts(&self) -> [u32; MAX_RANK] {
        std::array::from_fn(|index| self.box_dims[index].div_ceil(self.element_strides[index]))
    }

    /// Rows of the box: all dimensions but the first.
    pub fn rows(&self) -> u32 {
        self.counts()[1..].iter().product()
    }

    /// Bytes of a row in shared memory.
    pub fn row_bytes(&self) -> u32 {
        self.element.shared_bytes(u64::from(self.box_dims[0])) as u32
    }

    /// Bytes of a row in global memory.
    pub fn packed_row_bytes(&self) -> u32 {
        (u64::from(self.box_dims[0]) * self.element.bits() / 8) as u32
    }

    /// Distance in bytes between rows in shared memory. A swizzle pads rows to its span (seen on an H100).
    pub fn pitch(&self) -> u32 {
        self.swizzle.span().unwrap_or(self.row_bytes())
    }

    /// Bytes of shared memory that the box takes, with what pads its rows.
    pub fn box_bytes(&self) -> u32 {
        self.rows() * self.pitch()
    }

    /// Bytes that a load counts at its mbarrier: the whole box, also what is out of bounds, without padding.
    pub fn transaction_bytes(&self) -> u32 {
        self.rows() * self.packed_row_bytes()
    }

    /// For messages.
    pub fn describe(&self) -> String {
        let rank = self.rank;
        format!(
            "tensor map: {:?} at {:#x}, extents {:?}, strides {:?} bytes, box {:?}",
            self.element,
            self.address,
            &self.dims[..rank],
            &self.strides[..rank - 1],
            &self.box_dims[..rank]
        )
    }
}

fn check_address(raw: &Raw, rank: usize, element: Element) -> Result<()> {
    let align = if element.is_padded() { 32 } else { 16 };
    if !raw.address.is_multiple_of(align) {
        return refuse(format!("globalAddress is {:#x}, no multiple of {align}", raw.address));
    }
    for (index, extent) in raw.dims[..rank].iter().enumerate() {
        if !(1..=1 << 32).contains(extent) {
            return refuse(format!("globalDim[{index}] is {extent}; it can be 1..=2^32"));
        }
    }
    let multiple = match element {
        Element::U4 => 2,
        Element::U4Padded | Element::U6Padded => 128,
        _ => 1,
    };
    if !raw.dims[0].is_multiple_of(multiple) {
        return refuse(format!(
            "globalDim[0] is {}, no multiple of {multiple} as tensorDataType {} needs",
            raw.dims[0], raw.element
        ));
    }
    for (index, stride) in raw.strides[..rank - 1].iter().enumerate() {
        if stride % align != 0 || *stride >= 1 << 40 {
            return refuse(format!(
                "globalStrides[{index}] is {stride}; it can be a multiple of {align} less than 2^40"
            ));
        }
    }
    Ok(())
}

fn check_box(raw: &Raw, rank: usize, element: Element) -> Result<()> {
    for (index, extent) in raw.box_dims[..rank].iter().enumerate() {
        if !(1..=256).contains(extent) {
            return refuse(format!("boxDim[{index}] is {extent}; it can be 1..=256"));
        }
    }
    // The first is not used without interleave.
    for (index, stride) in raw.element_strides[..rank].iter().enumerate() {
        if !(1..=8).contains(stride) {
            return refuse(format!("elementStrides[{index}] is {stride}; it can be 1..=8"));
        }
    }
    let inner = u64::from(raw.box_dims[0]);
    if element.is_padded() && inner != 128 {
        return refuse(format!("boxDim[0] is {inner}; tensorDataType {} needs 128", raw.element));
    }
    let bits = inner * element.bits();
    if !bits.is_multiple_of(128) {
        return refuse(format!("boxDim[0] is {inner}: {bits} bits, no multiple of 16 bytes"));
    }
    Ok(())
}

fn check_swizzle(raw: &Raw, element: Element) -> Result<Swizzle> {
    let swizzle = match (raw.swizzle, raw.atomicity) {
        // Without a swizzle, its atomicity means nothing.
        (0, _) => Swizzle::None,
        (1, 0) => Swizzle::Span32,
        (2, 0) => Swizzle::Span64,
        (3, 0) => Swizzle::Span128,
        (3, 1) => Swizzle::Span128Atom32,
        (3, 3) => Swizzle::Span128Atom64,
        (3, 2) => return Err(Fault::unsupported("swizzle 128B_ATOM_32B_FLIP_8B")),
        (4, 0) => return Err(Fault::unsupported("swizzle of 96 bytes")),
        (mode, atomicity) => {
            return refuse(format!(
                "swizzle is {mode} with atomicity {atomicity}, which go not together"
            ));
        }
    };
    let inner = element.shared_bytes(u64::from(raw.box_dims[0]));
    if let Some(span) = swizzle.span()
        && inner > u64::from(span)
    {
        return refuse(format!(
            "boxDim[0] is {}: {inner} bytes, more than the {span} of the swizzle",
            raw.box_dims[0]
        ));
    }
    let allowed = match element {
        Element::U4Padded => {
            matches!(swizzle, Swizzle::None | Swizzle::Span128 | Swizzle::Span128Atom32)
        }
        Element::U6Padded => !matches!(swizzle, Swizzle::Span32 | Swizzle::Span64),
        _ => true,
    };
    if !allowed {
        return refuse(format!(
            "swizzle is {swizzle:?}, which tensorDataType {} cannot have",
            raw.element
        ));
    }
    Ok(swizzle)
}
