//! Finding the safetensors files of a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::CheckpointError;
use super::file::{SafetensorsFile, io};
use super::json::read_json;
use crate::error::{Error, Result};

/// Name of the index of a sharded checkpoint.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// How names of indices end.
const INDEX_END: &str = ".safetensors.index.json";

/// Name of a checkpoint in one file.
const SINGLE: &str = "model.safetensors";

/// How names of weights in other formats end.
const OTHERS: [&str; 6] = [".bin", ".pt", ".pth", ".gguf", ".ckpt", ".msgpack"];

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
        if std::fs::metadata(path).map_err(|e| io(path, e))?.is_dir() {
            return Self::in_directory(path);
        }
        match path.extension().is_some_and(|e| e == "json") {
            true => Self::indexed(path),
            false => Ok(Layout::Single(path.to_owned())),
        }
    }

    /// What `transformers` looks for comes first; what other programs keep beside it, as Mistral's
    /// `consolidated.safetensors`, holds the same model once more.
    fn in_directory(directory: &Path) -> Result<Self> {
        let names = file_names(directory)?;
        let ending = |end: &str| -> Vec<&str> {
            names.iter().map(String::as_str).filter(|name| name.ends_with(end)).collect()
        };
        let files = ending(".safetensors");
        let model: Vec<&str> = files
            .iter()
            .copied()
            .filter(|f| numbered(f).is_some_and(|n| n.of == "model"))
            .collect();
        let indices = ending(INDEX_END);
        if indices.contains(&INDEX) {
            return Self::indexed(&directory.join(INDEX));
        }
        if files.contains(&SINGLE) {
            return Ok(Layout::Single(directory.join(SINGLE)));
        }
        if !model.is_empty() {
            return Self::joined(directory, &model);
        }
        match (indices.as_slice(), files.as_slice()) {
            ([index], _) => Self::indexed(&directory.join(index)),
            ([_, ..], _) => {
                let reason = format!("has several indices, name one: {}", indices.join(", "));
                Err(fault(directory, reason))
            }
            ([], []) => {
                let mut reason = format!("has 0 safetensors files and no {INDEX}");
                let others: Vec<&str> = OTHERS.iter().flat_map(|end| ending(end)).collect();
                if !others.is_empty() {
                    reason += &format!(
                        "; {} is in another format, and only safetensors files are read",
                        others.join(", ")
                    );
                }
                Err(fault(directory, reason))
            }
            ([], files) => Self::joined(directory, files),
        }
    }

    fn indexed(index: &Path) -> Result<Self> {
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

    /// Files without an index, which has to be made of what is in them.
    fn joined(directory: &Path, files: &[&str]) -> Result<Self> {
        if let Some(missing) = missing_number(files) {
            let reason = format!(
                "has no index and lacks {missing}, and what is in that cannot be known: name a file \
                 to read it alone"
            );
            return Err(fault(directory, reason));
        }
        if let [file] = files {
            return Ok(Layout::Single(directory.join(file)));
        }
        let mut weight_map: BTreeMap<String, String> = BTreeMap::new();
        for &file in files {
            for tensor in SafetensorsFile::open(directory.join(file))?.names() {
                if let Some(other) = weight_map.insert(tensor.to_owned(), file.to_owned()) {
                    let reason =
                        format!("has no index, and both {other} and {file} have a tensor {tensor}");
                    return Err(fault(directory, reason));
                }
            }
        }
        Ok(Layout::Sharded { directory: directory.to_owned(), weight_map })
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

fn fault(directory: &Path, reason: String) -> Error {
    CheckpointError::Directory { path: directory.to_owned(), reason }.into()
}

/// Names of the files of a directory, sorted, without hidden ones.
fn file_names(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|e| io(directory, e))? {
        let name = entry.map_err(|e| io(directory, e))?.file_name();
        if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// A name such as `model-00001-of-00003.safetensors`.
struct Numbered<'a> {
    of: &'a str,
    number: &'a str,
    count: &'a str,
}

fn numbered(name: &str) -> Option<Numbered<'_>> {
    let (start, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (of, number) = start.rsplit_once('-')?;
    let digits = |s: &str| !s.is_empty() && s.len() <= 9 && s.bytes().all(|b| b.is_ascii_digit());
    (digits(number) && digits(count)).then_some(Numbered { of, number, count })
}

/// The first name that numbered files want beside them and that is not there.
fn missing_number(files: &[&str]) -> Option<String> {
    let present: BTreeSet<&str> = files.iter().copied().collect();
    files.iter().filter_map(|file| numbered(file)).find_map(|Numbered { of, number, count }| {
        let width = number.len();
        let last: usize = count.parse().ok()?;
        // Some writers count from 0. As many as there are files tell whether one is missing.
        let name = |i: usize| format!("{of}-{i:0width$}-of-{count}.safetensors");
        let first = usize::from(!present.contains(name(0).as_str()));
        (first..first + last.min(files.len() + 1))
            .map(name)
            .find(|name| !present.contains(name.as_str()))
    })
}
