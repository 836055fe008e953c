//! Where the bytes of a file come from.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Error, ErrorKind};
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use memmap2::Mmap;

use super::CheckpointError;
use super::file::io;
use crate::error::Result;

/// The bytes of one file. Safe code never sees bytes that somebody else can change: what is read from
/// an open file is read into private memory before it is checked.
pub(super) enum Source {
    /// Read piece by piece, when a piece is asked for.
    File(OpenFile),
    /// Mapped by a caller who promised that nobody changes the file.
    Mapped(Bytes),
    /// All in memory.
    Memory(Bytes),
}

/// An open file, and what it was like when it was opened.
pub(super) struct OpenFile {
    file: File,
    stamp: Stamp,
}

/// By what a change of a file shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
}

impl From<Metadata> for Stamp {
    fn from(metadata: Metadata) -> Self {
        Stamp { len: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(open) => write!(f, "File({:?})", open.stamp),
            Source::Mapped(map) => write!(f, "Mapped({} bytes)", map.len()),
            Source::Memory(bytes) => write!(f, "Memory({} bytes)", bytes.len()),
        }
    }
}

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        let stamp = file.metadata().map_err(|e| io(path, e))?.into();
        Ok(Source::File(OpenFile { file, stamp }))
    }

    /// # Safety
    /// Nobody writes to the file or truncates it while the result is alive.
    pub unsafe fn map(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        // SAFETY: the caller promises that the bytes stay as they are; `u8` has no invalid ones.
        let map = unsafe { Mmap::map(&file) };
        Ok(Source::Mapped(Bytes::from_owner(map.map_err(|e| io(path, e))?)))
    }

    pub fn len(&self) -> u64 {
        match self {
            Source::File(open) => open.stamp.len,
            Source::Mapped(map) => map.len() as u64,
            Source::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// A range of the file, which lies in it: read anew where the file is not in memory, and shared where it is.
    pub fn bytes(&self, path: &Path, range: Range<usize>) -> Result<Bytes> {
        match self {
            Source::File(open) => Ok(open.read(path, range)?.into()),
            Source::Mapped(all) | Source::Memory(all) if range.end <= all.len() => {
                Ok(all.slice(range))
            }
            // Never: headers are checked against the length of the file.
            _ => Err(io(path, ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl OpenFile {
    fn read(&self, path: &Path, range: Range<usize>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // A file may have holes and be longer than any memory.
        bytes
            .try_reserve_exact(range.len())
            .map_err(|e| io(path, Error::new(ErrorKind::OutOfMemory, e)))?;
        bytes.resize(range.len(), 0);
        let read = read_exact_at(&self.file, &mut bytes, range.start as u64);
        let now: Stamp = self.file.metadata().map_err(|e| io(path, e))?.into();
        if now != self.stamp {
            let reason = match now.len == self.stamp.len {
                true => "it was written to".to_owned(),
                false => format!("it had {} bytes and has {}", self.stamp.len, now.len),
            };
            return Err(CheckpointError::Changed { path: path.to_owned(), reason }.into());
        }
        read.map_err(|e| io(path, e))?;
        Ok(bytes)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => {
                bytes = &mut bytes[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// Opens a file that is one. Opening a pipe would wait for a writer, and between a look at a name and
/// the opening of it the file behind the name can be exchanged: so it is opened without waiting, and
/// then looked at.
pub(super) fn open_regular(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        libc::O_NONBLOCK | libc::O_NOCTTY,
    );
    let file = options.open(path).map_err(|e| io(path, e))?;
    if !file.metadata().map_err(|e| io(path, e))?.is_file() {
        return Err(io(path, Error::new(ErrorKind::InvalidInput, "is not a regular file")));
    }
    Ok(file)
}

/// How the pointer files of Git LFS begin, which lie in place of the files that were not fetched.
const LFS: [&[u8]; 4] = [
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",
    b"version http://git-media.io/v/",
    b"# xet version ",
];

/// Whether a file that begins so is a pointer of Git LFS.
pub(super) fn is_lfs_pointer(start: &[u8]) -> bool {
    LFS.iter().any(|magic| start.starts_with(magic))
}

/// What a file is that begins so and is no safetensors file.
pub(super) fn foreign(start: &[u8]) -> Option<&'static str> {
    let text = start.trim_ascii_start();
    let html = [&b"<!doctype html"[..], b"<html", b"<?xml"];
    let is = |magic: &[u8]| start.starts_with(magic);
    let begins =
        |with: &[u8]| text.get(..with.len()).is_some_and(|text| text.eq_ignore_ascii_case(with));
    match () {
        () if is(b"GGUF") || is(b"FUGG") || is(b"ggml") || is(b"tjgg") => Some("a GGUF file"),
        () if is(b"PK\x03\x04") => {
            Some("a zip archive, as PyTorch's .bin, .pt and .pth or NumPy's .npz are")
        }
        () if matches!(start, [0x80, 2..=5, ..]) => {
            Some("a Python pickle, as PyTorch's old .bin and .pt are")
        }
        () if is(b"\x89HDF\r\n\x1a\n") => Some("an HDF5 file"),
        () if is(b"\x93NUMPY") => Some("a NumPy .npy file"),
        () if is(b"\x1f\x8b") => Some("a gzip file"),
        () if is(b"\x28\xb5\x2f\xfd") => Some("a zstd file"),
        () if html.iter().any(|with| begins(with)) => Some("a web page: a download that failed"),
        () if matches!(text, [b'{' | b'[', ..]) => Some("a JSON file"),
        () => None,
    }
}
