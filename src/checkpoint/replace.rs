//! Files that appear whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Error as IoError, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, TempPath};

use super::file::io;
use crate::error::Result;

/// Links in a row that are followed, as many as Linux does.
const MAX_LINKS: usize = 40;

/// Temporary files and directories that exist now.
static TEMPORARIES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn temporaries() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the temporary files and directories of all writers that are at work.
///
/// Meant to be the last act of a process that was asked to stop: writers that come to create, finish
/// or drop one afterwards wait for ever.
pub fn remove_temporaries() {
    let open = temporaries();
    for path in open.iter() {
        // One of the two fails, and nobody is left to be told of more.
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir_all(path);
    }
    std::mem::forget(open);
}

/// An entry of [`TEMPORARIES`].
#[derive(Debug)]
pub(super) struct Registered(PathBuf);

impl Registered {
    /// Creates something temporary. The list is locked meanwhile, so that none is missed.
    pub fn create<T>(
        create: impl FnOnce() -> std::io::Result<T>,
        path: impl FnOnce(&T) -> &Path,
    ) -> std::io::Result<(T, Self)> {
        let mut open = temporaries();
        let value = create()?;
        let path = path(&value).to_owned();
        open.insert(path.clone());
        Ok((value, Registered(path)))
    }

    /// Does what ends the temporary's life, with the list locked.
    pub fn end<T>(self, act: impl FnOnce() -> T) -> T {
        let mut open = temporaries();
        let value = act();
        open.remove(&self.0);
        drop(open);
        value
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        temporaries().remove(&self.0);
    }
}

/// The new content of a file, in a temporary file beside it.
#[derive(Debug)]
pub(super) struct Replacement {
    /// As it was given, for errors.
    path: PathBuf,
    /// Where the links of `path` lead.
    target: PathBuf,
    // Dropped before its entry.
    file: NamedTempFile,
    entry: Registered,
}

impl Replacement {
    /// A temporary file in the directory of `path`, or of the file that it is a link to, with the
    /// permissions of the file that it is going to replace, or else those of a new one.
    pub fn create(path: &Path) -> Result<Self> {
        let fault = |kind, reason: &str| Err(io(path, IoError::new(kind, reason)));
        let mode = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return fault(ErrorKind::IsADirectory, "is a directory"),
            // Renaming would put a plain file in the place of a device or a pipe.
            Ok(found) if !found.is_file() => {
                return fault(ErrorKind::InvalidInput, "is not a regular file");
            }
            Ok(found) if found.permissions().readonly() => {
                return fault(ErrorKind::PermissionDenied, "is read-only");
            }
            Ok(found) => Some(found.permissions()),
            Err(_) => None,
        };
        let target = follow(path)?;
        let directory = parent(&target);
        match fs::metadata(directory) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(io(directory, ErrorKind::NotADirectory.into())),
            Err(e) => return Err(io(directory, e)),
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".nvfp4-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666)); // less the umask
        }
        let (file, entry) = Registered::create(|| builder.tempfile_in(directory), |f| f.path())
            .map_err(|e| cannot_create(directory, &e))?;
        if let Some(mode) = mode {
            file.as_file().set_permissions(mode).map_err(|e| io(path, e))?;
        }
        Ok(Replacement { path: path.to_owned(), target, file, entry })
    }

    /// The temporary file.
    pub fn file(&mut self) -> &mut NamedTempFile {
        &mut self.file
    }

    /// Puts the file in its place, with its bytes on the disk before its name is.
    pub fn finish(self) -> Result<()> {
        let Replacement { path, target, file, entry } = self;
        let fault = |e| io(&path, e);
        file.as_file().sync_all().map_err(fault)?;
        let temporary: TempPath = file.into_temp_path();
        entry.end(|| temporary.persist(&target)).map_err(|e| fault(e.error))?;
        sync_directory(parent(&target))
    }
}

/// Writes a file: one that exists is replaced whole or not at all, and keeps its permissions; of a
/// link, the file that it leads to.
///
/// # Errors
/// [`crate::Error::Io`].
pub fn write_file(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> Result<()> {
    let path = path.as_ref();
    let mut replacement = Replacement::create(path)?;
    replacement.file().write_all(bytes.as_ref()).map_err(|e| io(path, e))?;
    replacement.finish()
}

/// Whether a file can be put at `path`: it is a regular file that may be written to, or nothing yet,
/// and a file can be created in its directory (one is, and removed again). [`write_file`] and
/// [`super::Writer::create`] ask the same; asking before a long computation saves it.
///
/// # Errors
/// [`crate::Error::Io`] with the path at fault.
pub fn check_target(path: impl AsRef<Path>) -> Result<()> {
    Replacement::create(path.as_ref()).map(drop)
}

/// Where the links of `path` lead, whether there is a file or not.
pub(super) fn follow(path: &Path) -> Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..MAX_LINKS {
        if !fs::symlink_metadata(&target).is_ok_and(|found| found.is_symlink()) {
            return Ok(target);
        }
        let link = fs::read_link(&target).map_err(|e| io(&target, e))?;
        target = parent(&target).join(link);
    }
    Err(io(path, IoError::other("leads to more than 40 links in a row")))
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

pub(super) fn cannot_create(directory: &Path, e: &IoError) -> crate::Error {
    io(directory, IoError::new(e.kind(), format!("nothing can be created in it: {}", e.kind())))
}

/// Makes the names in a directory last. Only Unix lets a directory be opened for that.
pub(super) fn sync_directory(directory: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(directory).and_then(|d| d.sync_all()).map_err(|e| io(directory, e))?;
    }
    Ok(())
}
