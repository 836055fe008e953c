//! Runs a program around a kernel on the emulator.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::operands::{Operands, Problem, Rounding};
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
    // Tests run several programs side by side.
    command.env("EMULATOR_THREADS", "1");
    command
}

/// A program with the operands of a problem in a folder, or those of groups in a folder for each.
pub struct Prepared<'a> {
    pub program: &'a Path,
    pub library: &'a Path,
    /// Of the problem, or of each group.
    pub operands: Vec<Operands>,
    pub folder: PathBuf,
    /// What the program sees.
    pub sms: usize,
    /// Whether the program takes groups.
    pub grouped: bool,
    /// For a program that splits tiles: into how many parts, or 0 for stream-K.
    pub splits: Option<usize>,
}

fn write(operands: &Operands, folder: &Path) -> Outcome<()> {
    std::fs::create_dir_all(folder)?;
    for (name, bytes) in &operands.files {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
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
        write(&operands, &folder)?;
        let operands = vec![operands];
        Ok(Self { program, library, operands, folder, sms, grouped: false, splits: None })
    }

    /// The same for groups.
    pub fn of_groups(
        program: &'a Path,
        library: &'a Path,
        operands: Vec<Operands>,
        folder: PathBuf,
        sms: usize,
    ) -> Outcome<Self> {
        for (group, operands) in operands.iter().enumerate() {
            write(operands, &folder.join(group.to_string()))?;
        }
        Ok(Self { program, library, operands, folder, sms, grouped: true, splits: None })
    }

    /// Where the program writes D.
    fn results(&self) -> Vec<PathBuf> {
        if self.grouped {
            let groups = 0..self.operands.len();
            return groups.map(|group| self.folder.join(format!("{group}/d.bin"))).collect();
        }
        vec![self.folder.join("d.bin")]
    }

    /// D, of groups one after the other, or all that the program said.
    pub fn run(&self, settings: &[(&str, String)]) -> Result<Vec<u8>, String> {
        for d in self.results() {
            // Not that of the run before.
            let _ = std::fs::remove_file(d);
        }
        let Some(first) = self.operands.first() else { return Ok(Vec::new()) };
        let Problem { alpha, beta, .. } = first.problem;
        let factors = [alpha, beta].map(|factor| factor.to_string());
        let extents = self.operands.iter().flat_map(|operands| {
            let Problem { m, n, k, .. } = operands.problem;
            [m, n, k].map(|extent| extent.to_string())
        });
        let mut command = on_the_emulator(self.program, self.library);
        if self.grouped {
            command.args(factors).arg(&self.folder).args(extents);
        } else {
            command.args(extents).args(factors).arg(&self.folder);
        }
        command.args(self.splits.map(|splits| splits.to_string()));
        command.env("EMULATOR_SMS", self.sms.to_string());
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}\n{words}", output.status));
        }
        let mut all = Vec::new();
        for d in self.results() {
            all.extend(std::fs::read(&d).map_err(|error| format!("{}: {error}", d.display()))?);
        }
        Ok(all)
    }

    /// The part of D of each group.
    fn parts<'d>(&'d self, d: &'d [u8]) -> impl Iterator<Item = (&'d Operands, &'d [u8])> {
        self.operands.iter().scan(d, |rest, operands| {
            let (part, after) = rest.split_at(operands.bytes_of_d().min(rest.len()));
            *rest = after;
            Some((operands, part))
        })
    }

    /// Says what is wrong with D, if anything is. `parts` are the sums that the kernel adds up for an entry.
    pub fn check(&self, d: &[u8], rounding: Rounding, parts: usize) -> Result<(), String> {
        let all: usize = self.operands.iter().map(Operands::bytes_of_d).sum();
        if d.len() != all {
            return Err(format!("{} bytes of D, not {all}", d.len()));
        }
        for (number, (operands, part)) in self.parts(d).enumerate() {
            let checked = operands.check(part, rounding, parts);
            checked.map_err(|words| format!("group {number}: {words}"))?;
        }
        Ok(())
    }

    /// D with one value of its largest group off by a little, to see that the check can fail.
    pub fn spoiled(&self, d: &[u8], rounding: Rounding) -> Vec<u8> {
        let largest = self.parts(d).map(|(_, part)| part.len()).max();
        let mut spoiled = false;
        let mut worse = Vec::with_capacity(d.len());
        for (operands, part) in self.parts(d) {
            if !spoiled && Some(part.len()) == largest {
                spoiled = true;
                worse.extend(operands.spoiled(part, rounding));
            } else {
                worse.extend(part);
            }
        }
        worse
    }
}
