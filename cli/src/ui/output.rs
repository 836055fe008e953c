//! What goes to stdout: text for people, or one JSON object.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use nvfp4_harness::json;

/// Colours of the terminal, used sparingly.
#[derive(Debug, Clone, Copy)]
pub enum Style {
    Bold,
    Dim,
    Green,
    Red,
}

/// Where and how a command prints.
pub struct Output {
    command: &'static str,
    json: bool,
    colour: bool,
    printed_json: Cell<bool>,
}

impl Output {
    pub fn new(command: &'static str, json: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = io::stdout().is_terminal() && !set("NO_COLOR") && !dumb;
        Output { command, json, colour, printed_json: Cell::new(false) }
    }

    /// One line for people; nothing with `--json`.
    pub fn line(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
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

    pub fn paint(&self, text: &str, style: Style) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Green => "1;32",
            Style::Red => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// PASS or FAIL.
    pub fn verdict(&self, pass: bool) -> String {
        if pass { self.paint("PASS", Style::Green) } else { self.paint("FAIL", Style::Red) }
    }

    /// Lines `name  value`, with the values in one column; an empty name goes on with the last one.
    pub fn fields(&self, fields: &[(&str, String)]) -> anyhow::Result<()> {
        let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in fields {
            let name = self.paint(&pad(name, width, Align::Left), Style::Dim);
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

/// Side on which a column is flush.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Align {
    Left,
    Right,
}

/// A table whose rows are printed as they come, so that its widths are fixed beforehand.
pub struct Table {
    columns: Vec<(usize, Align)>,
}

impl Table {
    /// Columns by title, width (or that of the title, if more) and side; prints the titles.
    pub fn start(out: &Output, columns: &[(&str, usize, Align)]) -> anyhow::Result<Table> {
        let widths = |&(title, width, align): &(&str, usize, Align)| {
            (width.max(title.chars().count()), align)
        };
        let table = Table { columns: columns.iter().map(widths).collect() };
        let titles: Vec<String> = columns.iter().map(|(title, ..)| (*title).to_owned()).collect();
        let line = table.format(&titles);
        out.line(out.paint(line.trim_end(), Style::Bold))?;
        Ok(table)
    }

    /// Prints one row.
    pub fn row(&self, out: &Output, cells: &[String]) -> anyhow::Result<()> {
        out.line(self.format(cells))
    }

    fn format(&self, cells: &[String]) -> String {
        let cells = cells.iter().zip(&self.columns).map(|(cell, &(w, align))| pad(cell, w, align));
        cells.collect::<Vec<_>>().join("  ")
    }
}

fn pad(text: &str, width: usize, align: Align) -> String {
    let visible = visible_width(text);
    let fill = " ".repeat(width.saturating_sub(visible));
    match align {
        Align::Left => format!("{text}{fill}"),
        Align::Right => format!("{fill}{text}"),
    }
}

/// Characters without colour codes.
fn visible_width(text: &str) -> usize {
    let mut inside = false;
    let visible = text.chars().filter(|&c| match c {
        '\x1b' => {
            inside = true;
            false
        }
        'm' if inside => {
            inside = false;
            false
        }
        _ => !inside,
    });
    visible.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_codes_take_no_room() {
        assert_eq!(pad("\x1b[1;32mPASS\x1b[0m", 6, Align::Right), "  \x1b[1;32mPASS\x1b[0m");
    }
}
