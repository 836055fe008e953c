//! The directory of a result: it appears whole or not at all.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{Error as IoError, ErrorKind};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::file::io;
use crate::checkpoint::json::read_json;
use crate::checkpoint::replace::{self, Registered};
use crate::error::Result;

/// The record of a result: how it was made, and which files belong to it.
pub(super) const RECORD: &str = "nvfp4_quantize.json";

/// Directories below a directory that are gone into.
const MAX_DEPTH: usize = 16;

/// A result that is being written into a temporary directory.
#[derive(Debug)]
pub(super) struct Folder {
    /// As it was given, for errors.
    output: PathBuf,
    target: PathBuf,
    // Dropped before its entry.
    stage: TempDir,
    entry: Registered,
    /// Whether the temporary directory lies in the target, which cannot be replaced itself.
    inside: bool,
}

impl Folder {
    /// Where `output` does not exist, is empty or holds an earlier result.
    pub fn create(output: &Path) -> Result<Self> {
        let target = match output.canonicalize() {
            Ok(target) => target,
            Err(_) => replace::follow(output)?,
        };
        let old = fs::metadata(&target).ok();
        if old.as_ref().is_some_and(|old| !old.is_dir()) {
            return Err(io(output, IoError::new(ErrorKind::NotADirectory, "is not a directory")));
        }
        let empty = old.is_none() || check_earlier(output, &target)?;
        let parent = replace::parent(&target);
        if old.is_none() {
            fs::create_dir_all(parent).map_err(|e| io(output, e))?;
        }
        let fixed = old.is_some() && is_mount_point(&target);
        let beside = if fixed { None } else { Some(stage_in(parent)) };
        let (stage, entry, inside) = match beside {
            Some(Ok((stage, entry))) => (stage, entry, false),
            // What cannot be replaced whole can be filled, when there is nothing to be mixed with.
            _ if old.is_some() && empty => {
                let (stage, entry) = stage_in(&target)?;
                (stage, entry, true)
            }
            Some(Err(e)) if old.is_none() => return Err(e),
            _ => {
                let reason = "holds an earlier result and cannot be replaced whole, as it is a mount \
                              point or nothing can be created beside it: empty it first";
                return Err(fault(output, reason.to_owned()));
            }
        };
        if let Some(old) = old.filter(|_| !inside) {
            fs::set_permissions(stage.path(), old.permissions()).map_err(|e| io(output, e))?;
        }
        Ok(Folder { output: output.to_owned(), target, stage, entry, inside })
    }

    /// The temporary directory.
    pub fn path(&self) -> &Path {
        self.stage.path()
    }

    /// Both directories, which hold no input.
    pub fn own(&self) -> [&Path; 2] {
        [self.stage.path(), &self.target]
    }

    /// Puts the result in its place.
    pub fn finish(self) -> Result<()> {
        let Folder { output, target, stage, entry, inside } = self;
        sync_all(stage.path(), MAX_DEPTH)?;
        let fault = |e| io(&output, e);
        if inside {
            let mut names = Vec::new();
            for found in fs::read_dir(stage.path()).map_err(fault)? {
                names.push(found.map_err(fault)?.file_name());
            }
            // The index before the shards that it names: a checkpoint with a half of them does not open.
            names.sort_by_key(|n| Path::new(n).extension() == Some(OsStr::new("safetensors")));
            for name in names {
                fs::rename(stage.path().join(&name), target.join(&name)).map_err(fault)?;
            }
            entry.end(|| stage.close()).map_err(fault)?;
            return replace::sync_directory(&target);
        }
        if fs::symlink_metadata(&target).is_ok() {
            // Hours may have passed.
            check_earlier(&output, &target)?;
            entry.end(|| {
                let done = exchange(stage.path(), &target);
                // What is in it now is the earlier result. The new one is in place, whatever comes of it.
                let _ = stage.close();
                done.map_err(fault)
            })?;
        } else {
            entry.end(|| {
                let done = fs::rename(stage.path(), &target);
                if done.is_ok() {
                    let _ = stage.keep();
                }
                done.map_err(fault)
            })?;
        }
        replace::sync_directory(replace::parent(&target))
    }
}

fn stage_in(directory: &Path) -> Result<(TempDir, Registered)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".nvfp4-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o777)); // less the umask
    }
    Registered::create(|| builder.tempdir_in(directory), TempDir::path)
        .map_err(|e| replace::cannot_create(directory, &e))
}

/// Swaps two directories. Where the file system cannot in one step, there are three, and a moment
/// without a target.
fn exchange(stage: &Path, target: &Path) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, stage, CWD, target, RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            done => return done.map_err(IoError::from),
        }
    }
    let mut aside = stage.as_os_str().to_owned();
    aside.push("-old");
    fs::rename(target, &aside)?;
    if let Err(e) = fs::rename(stage, target) {
        fs::rename(&aside, target)?;
        return Err(e);
    }
    fs::rename(&aside, stage)
}

/// Whether another file system begins at a directory, or the same one once more.
fn is_mount_point(directory: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
        if directory.parent().is_none_or(|parent| device(parent) != device(directory)) {
            return true;
        }
    }
    // Linux escapes blanks there; a path with one is not found, and replacing it fails with a sentence.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == directory))
}

/// The record of a result made of the files below `stage`.
pub(super) fn record(stage: &Path, mut about: Value) -> Result<Value> {
    let mut files: BTreeSet<PathBuf> = files_below(stage)?;
    files.insert(PathBuf::from(RECORD));
    about["files"] = json!(files.iter().map(|f| f.to_string_lossy()).collect::<Vec<_>>());
    Ok(about)
}

/// Refuses a directory with anything else in it than an earlier result; whether it is empty.
fn check_earlier(output: &Path, target: &Path) -> Result<bool> {
    let found = files_below(target)?;
    let Some(first) = found.first() else { return Ok(true) };
    if !found.contains(Path::new(RECORD)) {
        let reason = format!(
            "has {} and no {RECORD}, so it is no earlier result: name another directory, or empty it",
            first.display()
        );
        return Err(fault(output, reason));
    }
    let record = read_json(&target.join(RECORD))?;
    let files = record.get("files").and_then(Value::as_array);
    let own: BTreeSet<&str> = files.into_iter().flatten().filter_map(Value::as_str).collect();
    match found.iter().find(|file| !own.contains(&*file.to_string_lossy())) {
        None => Ok(false),
        Some(file) => {
            let file = file.display();
            let reason =
                format!("has {file}, which is not of the earlier result there: move it away");
            Err(fault(output, reason))
        }
    }
}

/// Names of everything below a directory that is not a directory with something in it.
fn files_below(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    fn walk(at: &Path, name: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(at).map_err(|e| io(at, e))? {
            let entry = entry.map_err(|e| io(at, e))?;
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            let kind = entry.file_type().map_err(|e| io(&path, e))?;
            let before = found.len();
            if kind.is_dir() && depth > 0 {
                walk(&path, &name, depth - 1, found)?;
            }
            if found.len() == before {
                found.insert(name);
            }
        }
        Ok(())
    }
    let mut found = BTreeSet::new();
    walk(directory, Path::new(""), MAX_DEPTH, &mut found)?;
    Ok(found)
}

/// Makes the names in a directory and those below it last.
fn sync_all(directory: &Path, depth: usize) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(|e| io(directory, e))? {
        let entry = entry.map_err(|e| io(directory, e))?;
        if depth > 0 && entry.file_type().map_err(|e| io(&entry.path(), e))?.is_dir() {
            sync_all(&entry.path(), depth - 1)?;
        }
    }
    replace::sync_directory(directory)
}

fn fault(path: &Path, reason: String) -> crate::Error {
    CheckpointError::Directory { path: path.to_owned(), reason }.into()
}

/// A file that was not copied.
pub(super) type LeftBehind = (PathBuf, String);

/// Copies all files but weights from one directory to another, unless they are there already; returns
/// the names of those that were copied, and of those that were not.
pub(super) fn copy_companions(
    from: &Path,
    to: &Path,
    skip: &[&Path],
) -> Result<(Vec<PathBuf>, Vec<LeftBehind>)> {
    let mut job = Companions { from, to, skip, copied: Vec::new(), left: Vec::new() };
    job.directory(Path::new(""), MAX_DEPTH)?;
    job.copied.sort();
    job.left.sort();
    Ok((job.copied, job.left))
}

struct Companions<'a> {
    from: &'a Path,
    to: &'a Path,
    skip: &'a [&'a Path],
    copied: Vec<PathBuf>,
    left: Vec<LeftBehind>,
}

impl Companions<'_> {
    fn directory(&mut self, name: &Path, depth: usize) -> Result<()> {
        let at = self.from.join(name);
        for entry in fs::read_dir(&at).map_err(|e| io(&at, e))? {
            let entry = entry.map_err(|e| io(&at, e))?;
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            let own = |path: &Path| path.canonicalize().is_ok_and(|p| self.skip.contains(&&*p));
            let kind = entry.file_type().map_err(|e| io(&path, e))?;
            // A snapshot of a hub's cache is made of links to files.
            let file = fs::metadata(&path).is_ok_and(|found| found.is_file());
            if kind.is_dir() {
                let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                if hidden || entry.file_name() == "__pycache__" || own(&path) {
                    continue;
                }
                match depth {
                    0 => self.left.push((name, "too deep a directory".to_owned())),
                    _ => self.directory(&name, depth - 1)?,
                }
            } else if self.to.join(&name).exists() || name == Path::new(RECORD) {
                // Its place is taken by what was made of it.
                continue;
            } else if !file {
                self.left.push((name, "not a regular file".to_owned()));
            } else if is_weights(&name) {
                self.left.push((name, "weights".to_owned()));
            } else {
                self.copy(&path, &name)?;
                self.copied.push(name);
            }
        }
        Ok(())
    }

    fn copy(&self, path: &Path, name: &Path) -> Result<()> {
        let target = self.to.join(name);
        let directory = replace::parent(&target);
        fs::create_dir_all(directory).map_err(|e| io(directory, e))?;
        fs::copy(path, &target).map_err(|e| io(path, e))?;
        let synced = fs::File::open(&target).and_then(|file| file.sync_all());
        synced.map_err(|e| io(&target, e))
    }
}

/// Whether a file has weights or says where they are.
fn is_weights(name: &Path) -> bool {
    let file = name.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let extensions = [
        "safetensors",
        "bin",
        "pt",
        "pth",
        "ckpt",
        "gguf",
        "ggml",
        "h5",
        "msgpack",
        "npz",
        "onnx",
        "onnx_data",
        "ot",
        "pkl",
        "pdparams",
        "tflite",
        "nemo",
    ];
    let extension = Path::new(&file).extension().and_then(OsStr::to_str);
    extension.is_some_and(|e| extensions.contains(&e)) || file.ends_with(".index.json")
}
