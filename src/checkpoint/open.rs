//! Finding the safetensors files of a checkpoint.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::CheckpointError;
use super::file::{SafetensorsFile, Tensor, io, near};
use super::sidecar::{Sidecar, read_json};
use crate::error::{Error, Result};

/// Name of the index of a sharded checkpoint.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// A checkpoint of one or several safetensors files.
///
/// The files are mapped, not read; see [`SafetensorsFile`] for what that asks of other processes.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<SafetensorsFile>,
    /// Shard of each tensor.
    owner: BTreeMap<String, usize>,
    pub(super) sidecar: Sidecar,
}

/// Where the tensors of a checkpoint are.
#[derive(Debug)]
pub(super) enum Layout {
    /// One file.
    Single(PathBuf),
    /// A directory, and the shard of each tensor.
    Sharded { directory: PathBuf, weight_map: BTreeMap<String, String> },
}

impl Layout {
    /// `path` is a safetensors file, an index, or a directory with either. With an index, names of
    /// shards are plain file names: what points elsewhere is refused.
    pub fn find(path: &Path) -> Result<Self> {
        let directory = std::fs::metadata(path).map_err(|e| io(path, e))?.is_dir();
        if directory {
            let index = path.join(INDEX);
            return match index.exists() {
                true => Self::sharded(&index),
                false => Ok(Layout::Single(only_file(path)?)),
            };
        }
        match path.extension().and_then(OsStr::to_str) {
            Some("json") => Self::sharded(path),
            _ => Ok(Layout::Single(path.to_owned())),
        }
    }

    fn sharded(index: &Path) -> Result<Self> {
        let fault = |reason: String| -> Error {
            CheckpointError::Json { path: index.to_owned(), reason }.into()
        };
        let json = read_json(index)?;
        let Some(map) = json.get("weight_map").and_then(Value::as_object) else {
            return Err(fault("has no object weight_map".to_owned()));
        };
        let mut weight_map = BTreeMap::new();
        for (tensor, value) in map {
            let shard = value.as_str().unwrap_or_default();
            let mut parts = Path::new(shard).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(fault(format!(
                    "shard {value} of tensor {tensor:?} is not the name of a file in its directory"
                )));
            }
            weight_map.insert(tensor.clone(), shard.to_owned());
        }
        let directory = index.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Layout::Sharded { directory, weight_map })
    }

    /// The directory that holds the files.
    pub fn directory(&self) -> &Path {
        let directory = match self {
            Layout::Single(file) => file.parent().unwrap_or(Path::new("")),
            Layout::Sharded { directory, .. } => directory,
        };
        if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
    }
}

impl Checkpoint {
    /// Opens a `.safetensors` file, a `*.index.json`, or a directory with
    /// `model.safetensors.index.json` or exactly one safetensors file. `hf_quant_config.json` and
    /// `config.json` of the same directory are read where they exist: they tell apart schemes whose
    /// tensors look the same.
    ///
    /// # Errors
    /// [`Error::Io`]; [`CheckpointError::Header`], [`CheckpointError::Json`],
    /// [`CheckpointError::Directory`] for files that are damaged, missing or outside of the
    /// directory; [`CheckpointError::MissingTensor`] when a shard lacks a tensor of the index.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::with(path.as_ref(), |file| SafetensorsFile::open(file))
    }

    /// [`Checkpoint::open`] that reads the files into memory instead of mapping them: safe against
    /// other processes that truncate them, at the price of their size.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::with(path.as_ref(), |file| SafetensorsFile::read(file))
    }

    /// Takes the bytes of one safetensors file; `path` is only used in errors.
    ///
    /// # Errors
    /// [`CheckpointError::Header`].
    pub fn from_bytes(path: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        let path = path.into();
        let file = SafetensorsFile::from_bytes(path.clone(), bytes)?;
        Ok(Self::single(path, file, Sidecar::default()))
    }

    fn with(path: &Path, open: impl Fn(&Path) -> Result<SafetensorsFile>) -> Result<Self> {
        let layout = Layout::find(path)?;
        let sidecar = Sidecar::read(layout.directory())?;
        let (directory, weight_map) = match &layout {
            Layout::Single(file) => return Ok(Self::single(path.to_owned(), open(file)?, sidecar)),
            Layout::Sharded { directory, weight_map } => (directory, weight_map),
        };
        let mut shards = Vec::new();
        let mut number = BTreeMap::new();
        let mut owner = BTreeMap::new();
        for (tensor, shard) in weight_map {
            let at = match number.get(shard) {
                Some(&at) => at,
                None => {
                    shards.push(open(&directory.join(shard))?);
                    number.insert(shard, shards.len() - 1);
                    shards.len() - 1
                }
            };
            shards[at].tensor(tensor)?;
            owner.insert(tensor.clone(), at);
        }
        Ok(Checkpoint { path: path.to_owned(), shards, owner, sidecar })
    }

    fn single(path: PathBuf, file: SafetensorsFile, sidecar: Sidecar) -> Self {
        let owner = file.names().map(|name| (name.to_owned(), 0)).collect();
        Checkpoint { path, shards: vec![file], owner, sidecar }
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.owner.keys().map(String::as_str)
    }

    /// Names of a module's tensors, without the module's.
    pub(super) fn below<'a>(&'a self, module: &str) -> impl Iterator<Item = &'a str> {
        let start = format!("{module}.");
        let tail = self.owner.range(start.clone()..);
        tail.map_while(move |(name, _)| name.strip_prefix(&start))
    }

    /// Names of tensors that start so, sorted.
    pub(super) fn starting<'a>(&'a self, start: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let start = start.to_owned();
        let tail = self.owner.range(start.clone()..).map(|(name, _)| name.as_str());
        tail.take_while(move |name| name.starts_with(&start))
    }

    /// `__metadata__` of the file that a tensor is in.
    pub(super) fn metadata_of(&self, tensor: &str) -> Option<&BTreeMap<String, String>> {
        Some(self.shards.get(*self.owner.get(tensor)?)?.metadata())
    }

    /// A tensor, if the checkpoint has it.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        self.shards.get(*self.owner.get(name)?)?.get(name)
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

/// The one safetensors file of a directory.
fn only_file(directory: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|e| io(directory, e))? {
        let path = entry.map_err(|e| io(directory, e))?.path();
        if path.extension() == Some(OsStr::new("safetensors")) {
            found.push(path);
        }
    }
    match (found.pop(), found.len()) {
        (Some(path), 0) => Ok(path),
        (last, more) => {
            let count = more + usize::from(last.is_some());
            let reason = format!("has {count} safetensors files and no {INDEX}");
            Err(CheckpointError::Directory { path: directory.to_owned(), reason }.into())
        }
    }
}
