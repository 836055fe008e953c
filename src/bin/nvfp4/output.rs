//! What goes to stdout: text for people, or one JSON object.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

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

#[derive(Serialize)]
struct Envelope<'a, T: Serialize> {
    command: &'a str,
    version: &'a str,
    ok: bool,
    #[serde(flatten)]
    body: T,
}

/// The one line of `--json`. No field of `body` may be named like one of the envelope.
pub fn json_line(command: &str, ok: bool, body: impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(&Envelope { command, version: env!("CARGO_PKG_VERSION"), ok, body })
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
        let text = json_line(self.command, ok, body)?;
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

/// Four digits and a unit, `value` in the first unit, each unit `step` times the one before.
fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    // 999.95 prints as 1000.0: go up before that.
    while value.abs() >= 0.99995 * step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = match value.abs() {
        v if v >= 99.995 => 1,
        v if v >= 9.9995 => 2,
        _ => 3,
    };
    format!("{value:.digits$} {}", units[unit])
}

/// `34.12 ms`.
pub fn time(seconds: f64) -> String {
    if seconds >= 99.5 {
        return format!("{seconds:.0} s");
    }
    scaled(seconds * 1e9, 1e3, &["ns", "µs", "ms", "s"])
}

/// `881.2 GFLOP/s`.
pub fn flop_rate(per_second: f64) -> String {
    scaled(per_second / 1e6, 1e3, &["MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s"])
}

/// `12.4 GB/s`, decimal.
pub fn byte_rate(per_second: f64) -> String {
    scaled(per_second / 1e6, 1e3, &["MB/s", "GB/s", "TB/s"])
}

/// `35.1 MB`, decimal.
pub fn bytes(count: f64) -> String {
    if count < 1000.0 {
        return format!("{count:.0} bytes");
    }
    scaled(count / 1e3, 1e3, &["kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `48 MiB`, for caches.
pub fn binary_bytes(count: usize) -> String {
    let mib = count as f64 / (1 << 20) as f64;
    if mib >= 1.0 { format!("{mib} MiB") } else { format!("{} KiB", count >> 10) }
}

/// A distance in units of the last place; a NaN on one side has none.
pub fn ulp(distance: Option<u64>) -> String {
    distance.map_or_else(|| "NaN".to_owned(), |distance| distance.to_string())
}

/// `0.013 %`.
pub fn percent(share: f64) -> String {
    format!("{:.3} %", 100.0 * share)
}

/// `1 run`, `5 runs`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unique_keys;

    #[test]
    fn units_change_before_five_digits_show() {
        assert_eq!(time(0.034_123), "34.12 ms");
        assert_eq!(time(999.96e-6), "1.000 ms");
        assert_eq!(time(812e-6), "812.0 µs");
        assert_eq!(time(250.0), "250 s");
        assert_eq!(flop_rate(2.5e12), "2.500 TFLOP/s");
        assert_eq!(byte_rate(12.4e9), "12.40 GB/s");
        assert_eq!(bytes(640.0), "640 bytes");
        assert_eq!(bytes(35.1e6), "35.10 MB");
        assert_eq!(binary_bytes(48 << 20), "48 MiB");
        assert_eq!(binary_bytes(1280 << 10), "1.25 MiB");
    }

    /// serde writes both, and serde_json reads the last.
    #[test]
    fn a_field_named_like_one_of_the_envelope_is_found() {
        #[derive(Serialize)]
        struct Body {
            command: &'static str,
        }
        let twice = json_line("bench", true, Body { command: "nvfp4 bench" }).unwrap();
        assert!(unique_keys::check(&twice).unwrap_err().contains("\"command\" is there twice"));
        let nested = "{\"a\": [1, {\"b\": null, \"c\": 1.5, \"b\": -1}]}";
        assert!(unique_keys::check(nested).unwrap_err().contains("\"b\" is there twice"));
        assert_eq!(unique_keys::check("{\"a\": {\"b\": true}, \"b\": [\"a\", \"a\"]}"), Ok(()));
        assert!(unique_keys::check("{\"a\": 1} {}").is_err());
    }

    #[test]
    fn colour_codes_take_no_room() {
        assert_eq!(pad("\x1b[1;32mPASS\x1b[0m", 6, Align::Right), "  \x1b[1;32mPASS\x1b[0m");
    }
}
