//! A checkpoint: the tensors of one or several files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::CheckpointError;
use super::file::{SafetensorsFile, Tensor, near};
pub(super) use super::layout::{INDEX, Layout};
use super::patterns::Names;
use super::quantization::Statement;
use super::sidecar::Sidecar;
use super::verdict::{Verdict, agree};
use crate::error::{Error, Result};

/// A checkpoint of one or several safetensors files.
///
/// Of the files the headers are read at first, and a tensor when it is asked for; see
/// [`SafetensorsFile`] on files that change meanwhile.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<SafetensorsFile>,
    /// Shard of each tensor.
    owner: BTreeMap<String, usize>,
    /// Tensors that are not to be had.
    absent: BTreeMap<String, Absent>,
    pub(super) sidecar: Sidecar,
    /// What each shard says of itself.
    own: Vec<Option<Statement>>,
}

/// Why a tensor of which the name is known cannot be read.
#[derive(Debug, Clone)]
enum Absent {
    /// The index puts it into a file which is not there.
    File(PathBuf),
    /// There is a pointer of Git LFS in place of the file.
    Pointer(PathBuf),
    /// Two files have it, and the index does not say which one counts.
    Twice(PathBuf, PathBuf),
    /// The index puts it into this shard, which lacks it.
    Lacking(usize),
}

impl Absent {
    /// What `error`, which came of opening `file`, says of the tensors in it, if it says that they are
    /// not there.
    fn new(file: &Path, error: &Error) -> Option<Self> {
        match error {
            Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                Some(Absent::File(file.to_owned()))
            }
            Error::Checkpoint(CheckpointError::LfsPointer { .. }) => {
                Some(Absent::Pointer(file.to_owned()))
            }
            _ => None,
        }
    }
}

impl Checkpoint {
    /// Opens a `.safetensors` file, an index (`*.json`), or a directory. In a directory the first of
    /// these is taken that is there: `model.safetensors.index.json`, `model.safetensors`,
    /// `model-*-of-*.safetensors`, another `*.safetensors.index.json`, all `*.safetensors` together;
    /// [`Checkpoint::files`] tells which. `hf_quant_config.json` and `config.json` of the same
    /// directory are read where they exist: they tell apart schemes whose tensors look the same.
    ///
    /// A shard of the index may be missing, or lack a tensor: an error comes when the tensor is needed.
    ///
    /// # Errors
    /// [`Error::Io`]; [`CheckpointError::Header`], [`CheckpointError::Json`],
    /// [`CheckpointError::LfsPointer`], [`CheckpointError::Directory`] for files that are damaged, all
    /// missing, outside of the directory or not one checkpoint.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::with(path.as_ref(), |file| SafetensorsFile::open(file))
    }

    /// [`Checkpoint::open`] that maps the files: codes and scales are used where they lie, and processes
    /// share the memory.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    ///
    /// # Safety
    /// That of [`SafetensorsFile::open_mapped`], for all files.
    pub unsafe fn open_mapped(path: impl AsRef<Path>) -> Result<Self> {
        // SAFETY: the contract is the same, and it is the caller's.
        Self::with(path.as_ref(), |file| unsafe { SafetensorsFile::open_mapped(file) })
    }

    /// [`Checkpoint::open`] that reads all files into memory.
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
        let (mut shards, mut owner) = (Vec::new(), BTreeMap::new());
        let (mut absent, mut first_error) = (BTreeMap::new(), None);
        let mut number: BTreeMap<&str, Result<usize, Absent>> = BTreeMap::new();
        for (tensor, shard) in weight_map {
            if !number.contains_key(shard.as_str()) {
                let file = directory.join(shard);
                let at = match open(&file) {
                    Ok(opened) => {
                        shards.push(opened);
                        Ok(shards.len() - 1)
                    }
                    Err(e) => match Absent::new(&file, &e) {
                        Some(why) => {
                            first_error.get_or_insert(e);
                            Err(why)
                        }
                        None => return Err(e),
                    },
                };
                number.insert(shard, at);
            }
            match &number[shard.as_str()] {
                &Ok(at) if shards[at].get(tensor).is_none() => {
                    absent.insert(tensor.clone(), Absent::Lacking(at));
                }
                &Ok(at) => {
                    owner.insert(tensor.clone(), at);
                }
                Err(why) => {
                    absent.insert(tensor.clone(), why.clone());
                }
            }
        }
        if let Some(error) = first_error.filter(|_| shards.is_empty()) {
            return Err(error);
        }
        let (path, own) = (path.to_owned(), statements(&shards));
        let mut checkpoint = Checkpoint { path, shards, owner, absent, sidecar, own };
        checkpoint.add_unlisted();
        Ok(checkpoint)
    }

    /// Takes up the tensors that the index does not list: what lies beside a weight counts, whether an
    /// index says so or not.
    fn add_unlisted(&mut self) {
        let mut unlisted: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, shard) in self.shards.iter().enumerate() {
            for name in shard.names() {
                if !self.owner.contains_key(name) && !self.absent.contains_key(name) {
                    unlisted.entry(name).or_default().push(at);
                }
            }
        }
        let file = |at: usize| self.shards[at].path().to_owned();
        let (mut owner, mut absent) = (BTreeMap::new(), BTreeMap::new());
        for (name, places) in unlisted {
            match places[..] {
                [one, other, ..] => {
                    absent.insert(name.to_owned(), Absent::Twice(file(one), file(other)));
                }
                [at] => {
                    owner.insert(name.to_owned(), at);
                }
                [] => {}
            }
        }
        self.owner.append(&mut owner);
        self.absent.append(&mut absent);
    }

    fn single(path: PathBuf, file: SafetensorsFile, sidecar: Sidecar) -> Self {
        let owner = file.names().map(|name| (name.to_owned(), 0)).collect();
        let (shards, absent) = (vec![file], BTreeMap::new());
        let own = statements(&shards);
        Checkpoint { path, shards, owner, absent, sidecar, own }
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The safetensors files that were found.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(SafetensorsFile::path)
    }

    /// Names of all tensors of these files, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.owner.keys().map(String::as_str)
    }

    /// Names of a module's tensors, without the module's.
    pub(super) fn below<'a>(&'a self, module: &str) -> impl Iterator<Item = &'a str> {
        let start = inside(module);
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

    /// What is said of `modules`, which the configuration may know by other `names`: by the configuration, and by the
    /// files that their tensors are in.
    pub(super) fn stated(&self, names: &[Names], modules: &[&str]) -> Verdict {
        let of_module = |module: &&str| {
            let start = inside(module);
            let tail = self.owner.range(start.clone()..);
            tail.take_while(move |(name, _)| name.starts_with(&start)).map(|(_, &at)| at)
        };
        let files: BTreeSet<usize> = modules.iter().flat_map(of_module).collect();
        let mut own = files.into_iter().filter_map(|at| self.own.get(at)?.as_ref());
        let of_sidecar = self.sidecar.verdict(names)?;
        own.try_fold(of_sidecar, |all, statement| agree(all, statement.verdict(names)?))
    }

    /// Fails when there is a tensor whose name starts so and that cannot be read.
    pub(super) fn require(&self, start: &str) -> Result<()> {
        let tail = (Bound::Included(start), Bound::Unbounded);
        match self.absent.range::<str, _>(tail).next() {
            Some((name, why)) if name.starts_with(start) => Err(self.not_there(name, why)),
            _ => Ok(()),
        }
    }

    /// Names of a module's tensors that cannot be read, without the module's.
    pub(super) fn absent_below<'a>(&'a self, module: &str) -> impl Iterator<Item = &'a str> {
        let start = inside(module);
        let tail = self.absent.range(start.clone()..);
        tail.map_while(move |(name, _)| name.strip_prefix(&start))
    }

    fn not_there(&self, tensor: &str, why: &Absent) -> Error {
        let name =
            |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (path, tensor) = (self.path.clone(), tensor.to_owned());
        match why {
            Absent::Pointer(file) => CheckpointError::LfsPointer { path: file.clone() },
            Absent::File(file) => CheckpointError::MissingShard { path, tensor, shard: name(file) },
            Absent::Lacking(at) => {
                let near = self.shards.get(*at).map(|shard| near(&tensor, shard.names()));
                let path = self.shards.get(*at).map_or(path, |shard| shard.path().to_owned());
                CheckpointError::MissingTensor { path, tensor, near: near.unwrap_or_default() }
            }
            Absent::Twice(one, other) => {
                let (one, other) = (name(one), name(other));
                let reason = format!(
                    "has an index without tensor {tensor}, and both {one} and {other} have one"
                );
                CheckpointError::Directory { path, reason }
            }
        }
        .into()
    }

    /// A tensor, if the files that were found have it.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        self.shards.get(*self.owner.get(name)?)?.get(name)
    }

    /// A tensor.
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`] with the names that come near;
    /// [`CheckpointError::MissingShard`].
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>> {
        if let Some(why) = self.absent.get(name) {
            return Err(self.not_there(name, why));
        }
        Ok(self.get(name).ok_or_else(|| CheckpointError::MissingTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
            near: near(name, self.names()),
        })?)
    }
}

fn statements(shards: &[SafetensorsFile]) -> Vec<Option<Statement>> {
    shards.iter().map(|shard| Statement::of_metadata(shard.metadata())).collect()
}

/// How names in a module start; all names are in the one without a name.
fn inside(module: &str) -> String {
    if module.is_empty() { String::new() } else { format!("{module}.") }
}
