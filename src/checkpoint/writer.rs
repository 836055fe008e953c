//! Writing a safetensors file tensor by tensor, in any order.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::CheckpointError;
use super::file::io;
use super::header::{MAX_HEADER, byte_len};
use super::replace::Replacement;
use crate::error::Result;

/// Name, type and shape of a tensor that is going to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Name, once in a file.
    pub name: String,
    /// Type of the elements.
    pub dtype: Dtype,
    /// Shape.
    pub shape: Vec<usize>,
}

impl Declared {
    /// Joins the three.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: impl Into<Vec<usize>>) -> Self {
        Declared { name: name.into(), dtype, shape: shape.into() }
    }
}

/// Writes a safetensors file whose tensors are all declared beforehand: one tensor at a time has to
/// be in memory.
///
/// The bytes go to a temporary file beside the target, which [`Writer::finish`] puts in its place: a
/// target that exists is replaced whole or not at all, also when the machine loses power, and a map of
/// the old one stays as it is. It keeps its permissions; of a link, the file that it leads to is
/// replaced. A writer that is dropped leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: Replacement,
    /// Position in the file and length of each tensor that has not been written.
    open: BTreeMap<String, (u64, usize)>,
}

impl Writer {
    /// Lays the file out and writes its header. Tensors come in descending alignment of their types,
    /// those of one type by name, so that every tensor starts at a multiple of its element size.
    ///
    /// # Errors
    /// [`crate::Error::Io`]; [`CheckpointError::Write`] for a name that occurs twice or is
    /// `__metadata__`, a shape that overflows or is no whole number of bytes, and a header above
    /// 100 MB.
    pub fn create(
        path: impl AsRef<Path>,
        mut tensors: Vec<Declared>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let fault = |tensor: &str, reason: String| CheckpointError::Write {
            path: path.to_owned(),
            tensor: tensor.to_owned(),
            reason,
        };
        tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));

        let mut end = 0usize;
        let mut open = BTreeMap::new();
        let mut infos = Vec::with_capacity(tensors.len());
        for Declared { name, dtype, shape } in tensors {
            let size = byte_len(dtype, &shape).and_then(|n| Some((n, end.checked_add(n)?)));
            let Some((len, next)) = size else {
                let reason = format!("{dtype} {shape:?} is too large or no whole number of bytes");
                return Err(fault(&name, reason).into());
            };
            if name == "__metadata__" || open.insert(name.clone(), (end as u64, len)).is_some() {
                return Err(fault(&name, "the name is already taken".to_owned()).into());
            }
            infos.push((name, TensorInfo { dtype, shape, data_offsets: (end, next) }));
            end = next;
        }

        let metadata = (!metadata.is_empty())
            .then(|| metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect());
        let header = Metadata::new(metadata, infos).map_err(|e| fault("*", e.to_string()))?;
        let mut header = serde_json::to_vec(&header).map_err(|e| fault("*", e.to_string()))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        if header.len() as u64 > MAX_HEADER {
            let reason = format!("the header of {} bytes is above the limit", header.len());
            return Err(fault("*", reason).into());
        }

        let mut replacement = Replacement::create(path)?;
        let file = replacement.file();
        let start = 8 + header.len() as u64;
        file.as_file().set_len(start + end as u64).map_err(|e| io(path, e))?;
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(|e| io(path, e))?;
        file.write_all(&header).map_err(|e| io(path, e))?;
        open.values_mut().for_each(|(position, _)| *position += start);
        Ok(Writer { path: path.to_owned(), file: replacement, open })
    }

    /// Writes all bytes of one tensor.
    ///
    /// # Errors
    /// [`crate::Error::Io`]; [`CheckpointError::Write`] when the tensor was not declared, was written
    /// before, or has another length.
    pub fn write(&mut self, name: &str, data: &[u8]) -> Result<()> {
        let fault = |reason: String| CheckpointError::Write {
            path: self.path.clone(),
            tensor: name.to_owned(),
            reason,
        };
        let Some(&(position, len)) = self.open.get(name) else {
            return Err(fault("it was not declared, or is already written".to_owned()).into());
        };
        if data.len() != len {
            return Err(fault(format!("{} bytes given, {len} declared", data.len())).into());
        }
        let file = self.file.file();
        file.seek(SeekFrom::Start(position))
            .and_then(|_| file.write_all(data))
            .map_err(|e| io(&self.path, e))?;
        self.open.remove(name);
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// [`crate::Error::Io`]; [`CheckpointError::Write`] when a declared tensor was not written.
    pub fn finish(self) -> Result<()> {
        if let Some(name) = self.open.into_keys().next() {
            let reason = "it was declared and never given".to_owned();
            return Err(CheckpointError::Write { path: self.path, tensor: name, reason }.into());
        }
        self.file.finish()
    }
}
