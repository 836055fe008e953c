//! Files that a command reads and writes.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use nvfp4_dual_gemm::checkpoint::{self, Checkpoint};

/// Refuses, before any work, a file that could not be written or that is one of the inputs.
pub fn ensure_writable(output: &Path, inputs: &[&Path]) -> anyhow::Result<()> {
    checkpoint::check_target(output)?;
    let Ok(target) = output.canonicalize() else { return Ok(()) };
    if inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| input == target)) {
        bail!("{}: is the input itself", output.display());
    }
    Ok(())
}

/// Refuses, before any work, a file that is one of those that a checkpoint consists of: its tensors, and
/// the JSON files beside them (configurations, index, tokenizer).
pub fn ensure_outside(output: &Path, checkpoint: &Checkpoint) -> anyhow::Result<()> {
    let files: Vec<&Path> = checkpoint.files().collect();
    ensure_writable(output, &files)?;
    let Ok(target) = output.canonicalize() else { return Ok(()) };
    let opened = checkpoint.path();
    let directory = checkpoint_directory(opened);
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    for entry in entries {
        let path = entry.with_context(|| directory.display().to_string())?.path();
        // Through links, as a snapshot of a hub's cache is made of them.
        if path.extension().is_some_and(|e| e == "json")
            && path.canonicalize().is_ok_and(|path| path == target)
        {
            bail!("{}: belongs to the checkpoint {}", output.display(), opened.display());
        }
    }
    Ok(())
}

/// The directory whose configuration a checkpoint is read with.
pub fn checkpoint_directory(opened: &Path) -> &Path {
    if opened.is_dir() {
        return opened;
    }
    match opened.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Size of a file in bytes.
pub fn file_size(path: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.len())
}
