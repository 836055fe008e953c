//! One safetensors file, mapped into memory or held in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::Dtype;

use super::CheckpointError;
use super::header::{Entry, Header};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::{bf16, f16};

/// How many names an error lists.
const NEAR: usize = 6;

/// A safetensors file whose header has been checked: no tensor reaches out of the file.
///
/// # Truncation
/// [`SafetensorsFile::open`] maps the file. As with every mapped file, another process that
/// truncates it while it is open makes the next access fail with SIGBUS, and one that writes to it
/// changes what is read. Where that can happen, [`SafetensorsFile::read`] copies the file first.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl SafetensorsFile {
    /// Maps a file and checks its header. The data are not read.
    ///
    /// # Errors
    /// [`Error::Io`], and [`CheckpointError::Header`] for anything that is not a safetensors file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = open_regular(path)?;
        // SAFETY: the map is read-only and private to this value. Its bytes are only ever read as
        // `u8`, for which every value is valid; that no one truncates the file meanwhile is the
        // contract of this function's documentation, as with every user of memory maps.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| io(path, e))?;
        Self::new(path.to_owned(), Bytes::Mapped(map))
    }

    /// Reads a whole file into memory and checks its header.
    ///
    /// # Errors
    /// Those of [`SafetensorsFile::open`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        use std::io::Read;
        let path = path.as_ref();
        let mut bytes = Vec::new();
        open_regular(path)?.read_to_end(&mut bytes).map_err(|e| io(path, e))?;
        Self::new(path.to_owned(), Bytes::Owned(bytes))
    }

    /// Takes the bytes of a whole file; `path` is only used in errors.
    ///
    /// # Errors
    /// [`CheckpointError::Header`].
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        Self::new(path.into(), Bytes::Owned(bytes))
    }

    fn new(path: PathBuf, bytes: Bytes) -> Result<Self> {
        match Header::parse(bytes.as_slice()) {
            Ok(header) => Ok(SafetensorsFile { path, bytes, header }),
            Err(reason) => Err(CheckpointError::Header { path, reason }.into()),
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
        self.header.tensors.iter().filter_map(|(name, entry)| self.view(name, entry))
    }

    /// A tensor, if the file has it.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let (name, entry) = self.header.tensors.get_key_value(name)?;
        self.view(name, entry)
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

    /// Never `None`: the header was checked against the length of the file.
    fn view<'a>(&'a self, name: &'a str, entry: &'a Entry) -> Option<Tensor<'a>> {
        let data = self.bytes.as_slice().get(entry.data.clone())?;
        Some(Tensor { path: &self.path, name, dtype: entry.dtype, shape: &entry.shape, data })
    }
}

/// One tensor of a [`SafetensorsFile`], borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    path: &'a Path,
    name: &'a str,
    dtype: Dtype,
    shape: &'a [usize],
    data: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// The file that it is in.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Type of its elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its shape.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Its bytes: little endian, row-major, at any alignment.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Its elements as `T`: exact to a wider type, to nearest even to a narrower one.
    ///
    /// # Errors
    /// [`CheckpointError::Dtype`] when they are none of F32, F16 and BF16.
    pub fn values<T: Element>(&self) -> Result<Vec<T>> {
        let two = |decode: fn([u8; 2]) -> f32| {
            let (pairs, _) = self.data.as_chunks::<2>();
            pairs.iter().map(|&b| T::from_f32(decode(b))).collect()
        };
        Ok(match self.dtype {
            Dtype::F32 => {
                let (quads, _) = self.data.as_chunks::<4>();
                quads.iter().map(|&b| T::from_f32(f32::from_le_bytes(b))).collect()
            }
            Dtype::F16 => two(|b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => two(|b| bf16::from_le_bytes(b).to_f32()),
            _ => return Err(self.wrong_dtype("F32, F16 or BF16")),
        })
    }

    /// The number in an F32 tensor of shape \[\] or \[1\].
    ///
    /// # Errors
    /// [`CheckpointError::Dtype`], [`CheckpointError::Shape`].
    pub fn scalar(&self) -> Result<f32> {
        if self.dtype != Dtype::F32 {
            return Err(self.wrong_dtype("F32 [] or [1]"));
        }
        match (self.shape, self.data.first_chunk()) {
            ([] | [1], Some(&bytes)) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(self.wrong_shape("[] or [1]")),
        }
    }

    /// The error that this tensor is not of the `expected` type.
    pub(super) fn wrong_dtype(&self, expected: impl Into<String>) -> Error {
        CheckpointError::Dtype {
            path: self.path.to_owned(),
            tensor: self.name.to_owned(),
            actual: self.dtype,
            shape: self.shape.to_vec(),
            expected: expected.into(),
        }
        .into()
    }

    /// The error that this tensor is not of the `expected` shape.
    pub(super) fn wrong_shape(&self, expected: impl Into<String>) -> Error {
        CheckpointError::Shape {
            path: self.path.to_owned(),
            tensor: self.name.to_owned(),
            dtype: self.dtype,
            actual: self.shape.to_vec(),
            expected: expected.into(),
        }
        .into()
    }

    /// An error of this tensor's numbers.
    pub(super) fn fault(&self, source: Error) -> Error {
        CheckpointError::Matrix {
            path: self.path.to_owned(),
            tensor: self.name.to_owned(),
            source: Box::new(source),
        }
        .into()
    }
}

/// Opens a file that is one: opening a pipe would wait for a writer.
pub(super) fn open_regular(path: &Path) -> Result<File> {
    let regular = std::fs::metadata(path).map_err(|e| io(path, e))?.is_file();
    if !regular {
        let reason = "is not a regular file";
        return Err(io(path, std::io::Error::new(std::io::ErrorKind::InvalidInput, reason)));
    }
    File::open(path).map_err(|e| io(path, e))
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
