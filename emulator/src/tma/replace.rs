//! `tensormap.replace`: one field of a tensor map.

use super::element::Element;
use super::map::{BYTES, MAX_RANK, Raw};
use crate::fault::{Fault, FaultKind, Result};

/// What is replaced (PTX ISA, "tensormap.replace").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `.global_address`
    GlobalAddress,
    /// `.rank`, given less one.
    Rank,
    /// `.box_dim`, of a dimension.
    BoxDim(u32),
    /// `.global_dim`, of a dimension.
    GlobalDim(u32),
    /// `.global_stride`, of a dimension: 0 is that of the second.
    GlobalStride(u32),
    /// `.element_stride`, of a dimension.
    ElementStride(u32),
    /// `.elemtype`, by the numbers of PTX.
    ElementType,
    /// `.interleave_layout`
    Interleave,
    /// `.swizzle_mode`
    SwizzleMode,
    /// `.swizzle_atomicity`
    SwizzleAtomicity,
    /// `.fill_mode`
    Fill,
}

impl Field {
    /// By its word in the opcode, and the ordinal for those that have one.
    pub fn parse(word: &str, ordinal: Option<u32>) -> Option<Self> {
        let field = match (word, ordinal) {
            ("global_address", None) => Self::GlobalAddress,
            ("rank", None) => Self::Rank,
            ("box_dim", Some(ordinal)) => Self::BoxDim(ordinal),
            ("global_dim", Some(ordinal)) => Self::GlobalDim(ordinal),
            ("global_stride", Some(ordinal)) => Self::GlobalStride(ordinal),
            ("element_stride", Some(ordinal)) => Self::ElementStride(ordinal),
            ("elemtype", None) => Self::ElementType,
            ("interleave_layout", None) => Self::Interleave,
            ("swizzle_mode", None) => Self::SwizzleMode,
            ("swizzle_atomicity", None) => Self::SwizzleAtomicity,
            ("fill_mode", None) => Self::Fill,
            _ => return None,
        };
        Some(field)
    }

    /// Whether an opcode with this word takes an ordinal.
    pub fn has_ordinal(word: &str) -> bool {
        matches!(word, "box_dim" | "global_dim" | "global_stride" | "element_stride")
    }
}

/// The map with the field replaced. Fields may contradict each other until the map is used.
pub fn replace(bytes: &[u8], field: Field, value: u64) -> Result<[u8; BYTES]> {
    let mut raw = Raw::decode(bytes)?;
    match field {
        Field::GlobalAddress => raw.address = value,
        Field::Rank => raw.rank = small(field, value, MAX_RANK as u64 - 1)?,
        Field::BoxDim(ordinal) => {
            *entry(&mut raw.box_dims, field, ordinal)? =
                u32::try_from(value).map_err(|_| bad(field, value, 256))?;
        }
        // Bits above 32 are no part of the value.
        Field::GlobalDim(ordinal) => {
            *entry(&mut raw.dims, field, ordinal)? = value & u64::from(u32::MAX);
        }
        Field::GlobalStride(ordinal) => *entry(&mut raw.strides, field, ordinal)? = value,
        Field::ElementStride(ordinal) => {
            *entry(&mut raw.element_strides, field, ordinal)? = small(field, value, 255)?;
        }
        Field::ElementType => {
            let element = u32::try_from(value).ok().and_then(Element::from_ptx);
            raw.element = element.ok_or_else(|| bad(field, value, 15))?.driver();
        }
        Field::Interleave => raw.interleave = small(field, value, 2)?,
        Field::SwizzleMode => raw.swizzle = small(field, value, 4)?,
        Field::SwizzleAtomicity => raw.atomicity = small(field, value, 3)?,
        Field::Fill => raw.fill = small(field, value, 1)?,
    }
    Ok(raw.encode())
}

fn small(field: Field, value: u64, most: u64) -> Result<u8> {
    match u8::try_from(value) {
        Ok(small) if value <= most => Ok(small),
        _ => Err(bad(field, value, most)),
    }
}

fn entry<T>(entries: &mut [T], field: Field, ordinal: u32) -> Result<&mut T> {
    let count = entries.len();
    entries.get_mut(ordinal as usize).ok_or_else(|| {
        let message = format!("tensormap.replace of {field:?}; there are {count}");
        Fault::new(FaultKind::Descriptor, message)
    })
}

fn bad(field: Field, value: u64, most: u64) -> Fault {
    let message = format!("tensormap.replace of {field:?} by {value}; it can be at most {most}");
    Fault::new(FaultKind::Descriptor, message)
}
