//! The header of a safetensors file: 8 bytes of length, little endian, then JSON.
//!
//! The parser of the `safetensors` crate keeps the last of two tensors with one name, adds offsets
//! without a check for overflow, and its errors do not name the tensor; a hostile file must not pass
//! through any of these. Types of the crate are used as they are.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

/// Longest header that is read; the `safetensors` crate has the same limit.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the length field.
pub(super) const PREFIX: usize = 8;

/// The entry of one tensor. `data` is a range of the whole file and lies within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Range<usize>,
}

/// A checked header: every tensor's bytes are as many as its shape and type need, lie in the file,
/// do not overlap, and leave no gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Entry>,
}

impl Header {
    /// Where the JSON is in a file of `total` bytes that begins with `prefix`. The error is a clause
    /// that says what is wrong.
    pub fn json(prefix: &[u8], total: u64) -> Result<Range<usize>, String> {
        let Some(prefix) = prefix.first_chunk::<PREFIX>() else {
            return Err(format!("{total} bytes are too few for the 8 bytes of the header length"));
        };
        let length = u64::from_le_bytes(*prefix);
        if length > MAX_HEADER {
            return Err(format!("header length {length} is above the limit of {MAX_HEADER}"));
        }
        match usize::try_from(length) {
            Ok(n) if length <= total.saturating_sub(PREFIX as u64) => Ok(PREFIX..PREFIX + n),
            _ => Err(format!("header length {length} does not fit a file of {total} bytes")),
        }
    }

    /// Reads the JSON of a file of `total` bytes. The error is a clause that says what is wrong.
    pub fn parse(json: &[u8], total: u64) -> Result<Self, String> {
        let total = usize::try_from(total)
            .map_err(|_| format!("{total} bytes are more than this machine can address"))?;
        let raw: RawHeader =
            serde_json::from_slice(json).map_err(|e| format!("header JSON: {e}"))?;
        let start = PREFIX + json.len();
        let tensors = check(raw.tensors, total.saturating_sub(start), start)?;
        Ok(Header { metadata: raw.metadata, tensors })
    }
}

/// Checks the ranges of all tensors against `len` bytes of data that start at `start` of the file.
fn check(
    raw: BTreeMap<String, TensorInfo>,
    len: usize,
    start: usize,
) -> Result<BTreeMap<String, Entry>, String> {
    if let Some(name) = raw.keys().find(|name| name.contains(char::is_control)) {
        // Names go into error messages, and those to terminals.
        return Err(format!("the tensor name {name:?} has control characters"));
    }
    let mut order: Vec<(&String, &TensorInfo)> = raw.iter().collect();
    order.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    for (name, info) in order {
        let (from, to) = info.data_offsets;
        let what =
            || format!("tensor {name} ({} {:?}, bytes {from}..{to})", info.dtype, info.shape);
        if to > len || from > to {
            return Err(format!("{} lies outside of the {len} bytes of data", what()));
        }
        if from != end {
            let fault =
                if from < end { "overlaps the one before, which ends" } else { "leaves a gap" };
            return Err(format!("{} {fault} at byte {end}", what()));
        }
        match byte_len(info.dtype, &info.shape) {
            Some(bytes) if bytes == to - from => end = to,
            Some(bytes) => return Err(format!("{} needs {bytes} bytes", what())),
            None => return Err(format!("{} has no whole number of bytes, or too many", what())),
        }
    }
    if end != len {
        return Err(format!("the tensors cover {end} of {len} bytes of data"));
    }
    Ok(raw
        .into_iter()
        .map(|(name, TensorInfo { dtype, shape, data_offsets: (from, to) })| {
            (name, Entry { dtype, shape, data: start + from..start + to })
        })
        .collect())
}

/// Bytes of a tensor of this type and shape, unless they overflow or are no whole number.
pub(super) fn byte_len(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let bits = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .and_then(|n| n.checked_mul(dtype.bitsize()))?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// The JSON as it stands, with names that occur once.
struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one entry a tensor")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<RawHeader, M::Error> {
        let mut metadata = None;
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let twice = if name == "__metadata__" {
                // Some writers put null where there is nothing to say.
                let strings: Option<BTreeMap<String, String>> = map.next_value()?;
                metadata.replace(strings.unwrap_or_default()).is_some()
            } else {
                let info: TensorInfo = map
                    .next_value()
                    .map_err(|e| M::Error::custom(format_args!("tensor {name:?}: {e}")))?;
                tensors.insert(name.clone(), info).is_some()
            };
            if twice {
                return Err(M::Error::custom(format_args!("{name:?} occurs twice")));
            }
        }
        Ok(RawHeader { metadata: metadata.unwrap_or_default(), tensors })
    }
}
