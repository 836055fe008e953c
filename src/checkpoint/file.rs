//! One safetensors file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use safetensors::Dtype;

use super::CheckpointError;
use super::header::{Entry, Header};
use super::source::{Source, foreign, is_lfs_pointer};
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::{bf16, f16};

/// How many names an error lists.
const NEAR: usize = 6;

/// A safetensors file whose header has been checked: no tensor reaches out of the file.
///
/// # When the file changes
/// [`SafetensorsFile::open`] reads the header, and each tensor when it is asked for, into memory of
/// its own: what has been read and checked stays as it is. A tensor that is read after the file was
/// truncated or written to in place is refused with [`CheckpointError::Changed`]; the change is told by
/// the file's length and time of modification. A file that is replaced by renaming another one, as
/// [`super::Writer`] does, stays open as it was. [`SafetensorsFile::read`] reads all at once.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    source: Source,
    header: Header,
}

impl SafetensorsFile {
    /// Opens a file and checks its header. The data are read when they are asked for.
    ///
    /// # Errors
    /// [`Error::Io`]; [`CheckpointError::LfsPointer`]; [`CheckpointError::Header`] for anything else
    /// that is not a safetensors file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(path.to_owned(), Source::open(path)?)
    }

    /// Maps a file into memory and checks its header: nothing is copied, and processes share the memory.
    ///
    /// # Errors
    /// Those of [`SafetensorsFile::open`].
    ///
    /// # Safety
    /// Nobody, in this process or another, may write to the file or truncate it while the result or
    /// anything borrowed from it is alive. Otherwise what was checked no longer holds: bytes that a
    /// `&[u8]` shows change, which is undefined behavior, or an access ends the process (SIGBUS).
    pub unsafe fn open_mapped(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // SAFETY: the contract is the same, and it is the caller's.
        let source = unsafe { Source::map(path) }?;
        Self::new(path.to_owned(), source)
    }

    /// Reads a whole file into memory and checks its header.
    ///
    /// # Errors
    /// Those of [`SafetensorsFile::open`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut file = Self::open(path)?;
        let len = usize::try_from(file.source.len()).unwrap_or(usize::MAX); // the header fitted
        file.source = Source::Memory(file.source.bytes(path, 0..len)?);
        Ok(file)
    }

    /// Takes the bytes of a whole file; `path` is only used in errors.
    ///
    /// # Errors
    /// [`CheckpointError::LfsPointer`], [`CheckpointError::Header`].
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        Self::new(path.into(), Source::Memory(bytes.into()))
    }

    fn new(path: PathBuf, source: Source) -> Result<Self> {
        let total = source.len();
        // As many bytes as tell what a file is that is none of ours.
        let start = source.bytes(&path, 0..total.min(512) as usize)?;
        let fault = |path, reason| Err(CheckpointError::Header { path, reason }.into());
        let json = match Header::json(&start, total) {
            Ok(json) => json,
            Err(_) if is_lfs_pointer(&start) => {
                return Err(CheckpointError::LfsPointer { path }.into());
            }
            Err(reason) => {
                return fault(path, foreign(&start).map_or(reason, |kind| format!("it is {kind}")));
            }
        };
        let header = Header::parse(&source.bytes(&path, json)?, total);
        match header {
            Ok(header) => Ok(SafetensorsFile { path, source, header }),
            Err(reason) => fault(path, reason),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The strings of `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.header.tensors.iter().map(|(name, entry)| Tensor { file: self, name, entry })
    }

    /// A tensor, if the file has it.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let (name, entry) = self.header.tensors.get_key_value(name)?;
        Some(Tensor { file: self, name, entry })
    }

    /// A tensor.
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`] with the names that come near.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>> {
        Ok(self.get(name).ok_or_else(|| CheckpointError::MissingTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
            near: near(name, self.names()),
        })?)
    }
}

/// One tensor of a [`SafetensorsFile`]: its entry in the header, and a way to its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    file: &'a SafetensorsFile,
    name: &'a str,
    entry: &'a Entry,
}

/// Little-endian elements to values.
type Decoder<T> = fn(&[u8]) -> Vec<T>;

impl<'a> Tensor<'a> {
    /// The file that it is in.
    pub fn path(&self) -> &'a Path {
        &self.file.path
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    /// Its shape.
    pub fn shape(&self) -> &'a [usize] {
        &self.entry.shape
    }

    /// Number of its bytes.
    pub fn byte_len(&self) -> usize {
        self.entry.data.len()
    }

    /// Its bytes: little endian, row-major. Read from the file at each call; shared where the whole file is in
    /// memory or mapped.
    ///
    /// # Errors
    /// [`Error::Io`], [`CheckpointError::Changed`].
    pub fn data(&self) -> Result<Bytes> {
        self.file.source.bytes(&self.file.path, self.entry.data.clone())
    }

    /// A part of its bytes, which lies in it.
    pub(super) fn part(&self, part: Range<usize>) -> Result<Bytes> {
        let start = self.entry.data.start;
        self.file.source.bytes(&self.file.path, start + part.start..start + part.end)
    }

    /// Its elements as `T`: exact to a wider type, to nearest even to a narrower one.
    ///
    /// # Errors
    /// [`CheckpointError::Dtype`] when they are none of F32, F16 and BF16; those of [`Tensor::data`].
    pub fn values<T: Element>(&self) -> Result<Vec<T>> {
        let decode = self.decoder()?;
        Ok(decode(&self.data()?))
    }

    /// The same of a range of elements, which lies in it.
    pub(super) fn values_in<T: Element>(&self, elements: Range<usize>) -> Result<Vec<T>> {
        let decode = self.decoder()?;
        let size = self.dtype().bitsize() / 8;
        Ok(decode(&self.part(elements.start * size..elements.end * size)?))
    }

    fn decoder<T: Element>(&self) -> Result<Decoder<T>> {
        Ok(match self.dtype() {
            Dtype::F32 => |data| {
                let (quads, _) = data.as_chunks::<4>();
                quads.iter().map(|&b| T::from_f32(f32::from_le_bytes(b))).collect()
            },
            Dtype::F16 => |data| pairs(data, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => |data| pairs(data, |b| bf16::from_le_bytes(b).to_f32()),
            _ => return Err(self.wrong_dtype("F32, F16 or BF16")),
        })
    }

    /// The number in an F32 tensor of shape \[\] or \[1\].
    ///
    /// # Errors
    /// [`CheckpointError::Dtype`], [`CheckpointError::Shape`]; those of [`Tensor::data`].
    pub fn scalar(&self) -> Result<f32> {
        if self.dtype() != Dtype::F32 {
            return Err(self.wrong_dtype("F32 [] or [1]"));
        }
        match (self.shape(), self.values()?.first()) {
            ([] | [1], Some(&value)) => Ok(value),
            _ => Err(self.wrong_shape("[] or [1]")),
        }
    }

    /// The error that this tensor is not of the `expected` type.
    pub(super) fn wrong_dtype(&self, expected: impl Into<String>) -> Error {
        CheckpointError::Dtype {
            path: self.path().to_owned(),
            tensor: self.name.to_owned(),
            actual: self.dtype(),
            shape: self.shape().to_vec(),
            expected: expected.into(),
        }
        .into()
    }

    /// The error that this tensor is not of the `expected` shape.
    pub(super) fn wrong_shape(&self, expected: impl Into<String>) -> Error {
        CheckpointError::Shape {
            path: self.path().to_owned(),
            tensor: self.name.to_owned(),
            dtype: self.dtype(),
            actual: self.shape().to_vec(),
            expected: expected.into(),
        }
        .into()
    }

    /// An error of this tensor's numbers.
    pub(super) fn fault(&self, source: Error) -> Error {
        CheckpointError::Matrix {
            path: self.path().to_owned(),
            tensor: self.name.to_owned(),
            source: Box::new(source),
        }
        .into()
    }
}

fn pairs<T: Element>(data: &[u8], decode: fn([u8; 2]) -> f32) -> Vec<T> {
    let (pairs, _) = data.as_chunks::<2>();
    pairs.iter().map(|&b| T::from_f32(decode(b))).collect()
}

/// An I/O error with its path.
pub(super) fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

/// The names that share the longest beginning with `name`, then the longest end.
pub(super) fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut ranked: Vec<(usize, usize, &str)> = names
        .map(|other| {
            let start = name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
            let end = name.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b);
            (start, end.count(), other)
        })
        .collect();
    ranked.sort_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then(a.2.cmp(b.2)));
    ranked.into_iter().take(NEAR).map(|(_, _, other)| other.to_owned()).collect()
}
