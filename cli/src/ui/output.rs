//! What goes to stdout: text for people, or one JSON object.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use serde::{Serialize, Serializer};

use nvfp4_harness::json;

/// Colors of the terminal, used sparingly.
#[derive(Debug, Clone, Copy)]
pub enum Style {
    Bold,
    Dim,
    Green,
    Red,
}

impl Style {
    /// PASS in green or FAIL in red.
    pub fn verdict(pass: bool) -> String {
        if pass { Style::Green.paint("PASS") } else { Style::Red.paint("FAIL") }
    }

    /// `text` between the codes of this style; [`Output::line`] takes them away where there should be none.
    pub fn paint(self, text: &str) -> String {
        let style = match self {
            Style::Bold => anstyle::Style::new().bold(),
            Style::Dim => anstyle::Style::new().dimmed(),
            Style::Green => AnsiColor::Green.on_default().bold(),
            Style::Red => AnsiColor::Red.on_default().bold(),
        };
        format!("{style}{text}{style:#}")
    }
}

/// Where and how a command prints.
pub struct Output {
    command: &'static str,
    json: bool,
    printed_json: Cell<bool>,
}

impl Output {
    pub fn new(command: &'static str, json: bool) -> Self {
        Output { command, json, printed_json: Cell::new(false) }
    }

    /// One line for people; nothing with `--json`. Without colors where stdout is no terminal, and with `NO_COLOR`.
    pub fn line(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut stdout = anstream::stdout().lock();
        writeln!(stdout, "{}", text.as_ref().trim_end())?;
        stdout.flush()?;
        Ok(())
    }

    /// The JSON object of `--json`; nothing without it.
    pub fn json(&self, ok: bool, body: impl Serialize) -> anyhow::Result<()> {
        if !self.json {
            return Ok(());
        }
        let text = json::line(self.command, env!("CARGO_PKG_VERSION"), ok, body)?;
        self.printed_json.set(true);
        writeln!(io::stdout().lock(), "{text}")?;
        Ok(())
    }

    /// The JSON object of a failure.
    pub fn json_error(&self, error: &str) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
        }
        self.json(false, Body { error })
    }

    /// Whether the object is out already, as after a check that failed.
    pub fn printed_json(&self) -> bool {
        self.printed_json.get()
    }

    /// Lines `name  value`, with the values in one column; an empty name goes on with the last one.
    pub fn fields(&self, fields: &[(&str, String)]) -> anyhow::Result<()> {
        let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in fields {
            let name = Style::Dim.paint(&format!("{name:width$}"));
            self.line(format!("{name}  {value}"))?;
        }
        Ok(())
    }
}

/// A path for `--json`: a name that is no UTF-8 is printed as well as it can be, not an error after
/// all the work is done.
#[derive(Debug, Clone)]
pub struct Shown(PathBuf);

impl From<&Path> for Shown {
    fn from(path: &Path) -> Self {
        Shown(path.to_owned())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
