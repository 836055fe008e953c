//! PTX as lines that a test changes. Each change says which statements it expects, and fails where the text has others.

use std::path::Path;

use emulator::fatbin;
use emulator::settings::Model;

use crate::support::Outcome;

/// The PTX for a B200 that is embedded in a program.
pub fn of_program(program: &Path) -> Outcome<String> {
    let bytes = std::fs::read(program)?;
    let magic = fatbin::CONTAINER_MAGIC.to_le_bytes();
    let places = bytes.windows(magic.len()).enumerate().filter(|(_, window)| *window == magic);
    for (at, _) in places {
        let Ok(entries) = fatbin::ptx_texts(&bytes[at..]) else { continue };
        if let Ok(text) = fatbin::choose(&entries, Model::B200) {
            return Ok(text.to_owned());
        }
    }
    Err(format!("{} has no PTX for a B200", program.display()).into())
}

/// A change, or why the text is not the one that it is meant for.
pub type Change = Result<(), String>;

/// The lines of a module.
#[derive(Clone, Debug)]
pub struct Text {
    lines: Vec<String>,
}

impl Text {
    pub fn new(text: &str) -> Self {
        Self { lines: text.lines().map(str::to_owned).collect() }
    }

    pub fn to_text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    /// Lines with these words.
    fn with(&self, words: &str) -> Vec<usize> {
        let has = |line: &String| line.contains(words);
        (0..self.lines.len()).filter(|at| has(&self.lines[*at])).collect()
    }

    /// The line of a statement by its place among all with these words, whose number has to be `of`.
    pub fn line(&self, words: &str, place: usize, of: usize) -> Result<usize, String> {
        let found = self.with(words);
        if found.len() != of {
            return Err(format!(
                "{} statements with `{words}` where {of} are expected",
                found.len()
            ));
        }
        found.get(place).copied().ok_or_else(|| format!("no place {place} of {of}"))
    }

    /// The first statement with these words after a line, at most `within` lines on.
    pub fn after(&self, line: usize, words: &str, within: usize) -> Result<usize, String> {
        let found = self.with(words).into_iter().find(|at| *at > line && *at <= line + within);
        found.ok_or_else(|| format!("no `{words}` within {within} lines after line {}", line + 1))
    }

    /// The last statement with these words before a line, at most `within` lines back.
    pub fn before(&self, line: usize, words: &str, within: usize) -> Result<usize, String> {
        let found = self.with(words).into_iter().rfind(|at| *at < line && *at + within >= line);
        found.ok_or_else(|| format!("no `{words}` within {within} lines before line {}", line + 1))
    }

    /// A register among the operands of a statement, by its place.
    pub fn register(&self, line: usize, place: usize) -> Result<String, String> {
        let text = &self.lines[line];
        let mut registers = text.split('%').skip(1).map(|rest| {
            let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric());
            format!("%{}", &rest[..end.unwrap_or(rest.len())])
        });
        registers.nth(place).ok_or_else(|| format!("`{text}` has no register {place}"))
    }

    /// Takes a statement away.
    pub fn drop(&mut self, line: usize) -> Change {
        self.lines[line].clear();
        Ok(())
    }

    /// Takes a copy of a statement to another place, before a line.
    pub fn copy(&mut self, line: usize, before: usize) -> Change {
        let statement = self.lines[line].clone();
        self.lines[before].insert_str(0, &format!("{statement}\n"));
        Ok(())
    }

    /// Replaces words that stand in a line once.
    pub fn replace(&mut self, line: usize, from: &str, to: &str) -> Change {
        let text = &mut self.lines[line];
        if text.matches(from).count() != 1 {
            return Err(format!("`{text}` has not one `{from}`"));
        }
        *text = text.replace(from, to);
        Ok(())
    }

    /// Gives a statement another value in place of a register: `operation` of it and a number.
    pub fn alter(&mut self, line: usize, register: &str, operation: &str, number: i64) -> Change {
        let kind = match register.trim_end_matches(|letter: char| letter.is_ascii_digit()) {
            "%r" => ".b32",
            "%rs" => ".b16",
            "%rd" => ".b64",
            other => return Err(format!("{other} is no register of numbers")),
        };
        let text = &self.lines[line];
        let end = |at: usize| text[at + register.len()..].starts_with(|c: char| c.is_ascii_digit());
        let places: Vec<usize> =
            text.match_indices(register).map(|(at, _)| at).filter(|at| !end(*at)).collect();
        let [place] = places[..] else {
            return Err(format!("`{text}` has {register} {} times", places.len()));
        };
        let mut changed = text.clone();
        changed.replace_range(place..place + register.len(), "%mutant");
        self.lines[line] = format!(
            "{{\n.reg {kind} %mutant;\n{operation} %mutant, {register}, {number};\n{changed}\n}}"
        );
        Ok(())
    }

    /// Turns around the parity that all waits with this register wait for: as if it had begun the other way.
    pub fn other_parity(&mut self, register: &str) -> Change {
        let mut waits = Vec::new();
        for line in self.with("_wait.parity") {
            // The place after the predicate and the barrier.
            if self.register(line, 1)? == register {
                waits.push(line);
            }
        }
        if waits.is_empty() {
            return Err(format!("nothing waits with {register}"));
        }
        waits.into_iter().try_for_each(|line| self.alter(line, register, "xor.b32", 1))
    }
}
