//! Runs a program around a kernel on the emulator.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::operands::{Operands, Problem};
use crate::support::Outcome;

/// Variables of a run.
pub type Variables = Vec<(&'static str, String)>;

/// A program that finds the emulator, with none of the settings of the caller.
pub fn on_the_emulator(program: &Path, library: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EMULATOR_") {
            command.env_remove(name);
        }
    }
    command.env("LD_LIBRARY_PATH", library);
    command
}

/// A program with the operands of a problem in a folder.
pub struct Prepared<'a> {
    pub program: &'a Path,
    pub library: &'a Path,
    pub operands: Operands,
    pub folder: PathBuf,
    /// What the program sees.
    pub sms: usize,
}

impl<'a> Prepared<'a> {
    /// Writes the operands.
    pub fn new(
        program: &'a Path,
        library: &'a Path,
        operands: Operands,
        folder: PathBuf,
        sms: usize,
    ) -> Outcome<Self> {
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in &operands.files {
            std::fs::write(folder.join(name), bytes)?;
        }
        Ok(Self { program, library, operands, folder, sms })
    }

    /// D, or all that the program said.
    pub fn run(&self, settings: &[(&str, String)]) -> Result<Vec<u8>, String> {
        let Problem { m, n, k, alpha, beta, .. } = self.operands.problem;
        let d = self.folder.join("d.bin");
        // Not that of the run before.
        let _ = std::fs::remove_file(&d);
        let mut command = on_the_emulator(self.program, self.library);
        command.args([m, n, k].map(|extent| extent.to_string()));
        command.args([alpha, beta].map(|factor| factor.to_string())).arg(&self.folder);
        command.env("EMULATOR_SMS", self.sms.to_string());
        // Tests run several programs side by side.
        command.env("EMULATOR_THREADS", "1");
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}\n{words}", output.status));
        }
        std::fs::read(&d).map_err(|error| format!("{}: {error}", d.display()))
    }
}
