//! Reading the JSON files beside the tensors as the programs that wrote them do: with Python.
//!
//! Python's `json` writes and reads `Infinity`, `-Infinity` and `NaN`, and numbers of any size; JSON
//! has none of these, and neither has `serde_json`. They become null here. Nothing that this library
//! looks for in such a file may be one of them, so null says what it should: no usable value. All else
//! is JSON to the letter; of two values with one key the last counts, as in Python.

use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::CheckpointError;
use super::file::io;
use super::source::{is_lfs_pointer, open_regular};
use crate::error::Result;

/// Longest JSON file that is read, as for the header of a safetensors file.
const MAX_JSON: u64 = super::header::MAX_HEADER;

/// What the first bytes of a file that Windows programs wrote may be: U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether there is anything of this name. A link to nothing is there, and reading it fails.
pub(super) fn is_there(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io(path, e)),
    }
}

/// A JSON object from a file.
pub(super) fn read_json(path: &Path) -> Result<Value> {
    let fault = |reason: String| CheckpointError::Json { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    let file = open_regular(path)?;
    file.take(MAX_JSON + 1).read_to_end(&mut bytes).map_err(|e| io(path, e))?;
    if bytes.len() as u64 > MAX_JSON {
        return Err(fault(format!("is longer than {MAX_JSON} bytes")).into());
    }
    if is_lfs_pointer(&bytes) {
        return Err(CheckpointError::LfsPointer { path: path.to_owned() }.into());
    }
    match parse(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes)) {
        Ok(json @ Value::Object(_)) => Ok(json),
        Ok(_) => Err(fault("is not a JSON object".to_owned()).into()),
        Err(e) => Err(fault(format!("is not JSON: {e}")).into()),
    }
}

/// Parses a text of Python's JSON. The error is a clause with the place in `text`.
fn parse(text: &[u8]) -> Result<Value, String> {
    let Nulled { text: json, longer } = without_non_finite(text);
    serde_json::from_slice(&json).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        let message = e.to_string();
        let Some(clause) = message.strip_suffix(&format!(" at line {line} column {column}")) else {
            return message;
        };
        // `NaN` is a byte shorter than what took its place.
        let lines = json.split_inclusive(|&b| b == b'\n').take(line.saturating_sub(1));
        let start: usize = lines.map(<[u8]>::len).sum();
        let place = start + column.saturating_sub(1);
        let before = longer.iter().filter(|at| (start..place).contains(*at)).count();
        format!("{clause} at line {line} column {}", column - before)
    })
}

/// A text without non-finite numbers, and where it has null for `NaN`.
struct Nulled {
    text: Vec<u8>,
    longer: Vec<usize>,
}

/// Puts null, and blanks up to the same length, in the place of the words and numbers that Python
/// alone reads. Strings stay as they are, and so does a word that is none of these.
fn without_non_finite(text: &[u8]) -> Nulled {
    let mut out = Nulled { text: Vec::with_capacity(text.len()), longer: Vec::new() };
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let len = match byte {
            b'"' => string_len(rest),
            // All that belongs to one word or number, so that a part of it is never taken for one.
            _ if is_word(byte) => rest.iter().take_while(|&&b| is_word(b)).count(),
            _ => 1,
        };
        let token = &rest[..len];
        if is_non_finite(token) {
            if token.len() < 4 {
                out.longer.push(out.text.len());
            }
            out.text.extend(b"null");
            out.text.extend((4..token.len()).map(|_| b' '));
        } else {
            out.text.extend(token);
        }
        at += len;
    }
    out
}

/// Bytes of the string at the start of `text`, with its quotes.
fn string_len(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, &byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Whether a byte may stand in a word or a number. Bytes beyond ASCII may not stand outside of strings.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_') || !byte.is_ascii()
}

fn is_non_finite(token: &[u8]) -> bool {
    match token {
        b"NaN" | b"Infinity" | b"-Infinity" => true,
        [b'-' | b'0'..=b'9', ..] if token.len() > 4 => {
            // A number of JSON whose value is beyond f64.
            let text = std::str::from_utf8(token).unwrap_or_default();
            text.parse::<f64>().is_ok_and(f64::is_infinite)
                && serde_json::from_str::<IgnoredAny>(text).is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use serde_json::json;

    #[test]
    fn what_python_reads() {
        for (text, value) in [
            (r#"{"a": [0.0, Infinity]}"#, json!({"a": [0.0, null]})),
            ("[NaN,NaN,-Infinity,Infinity]", json!([null, null, null, null])),
            ("\n[\tNaN\r\n, -Infinity ]", json!([null, null])),
            (r#"{"NaN": "Infinity", "b": "\"NaN,"}"#, json!({"NaN": "Infinity", "b": "\"NaN,"})),
            (r#"["\\",NaN,"[NaN]\\\"-Infinity"]"#, json!(["\\", null, "[NaN]\\\"-Infinity"])),
            ("[1e999, -1e400, 1e308, 1e-999]", json!([null, null, 1e308, 0.0])),
            (r#"{"a": 1, "a": {"b": 2}, "c": 3}"#, json!({"a": {"b": 2}, "c": 3})),
            ("NaN", json!(null)),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), value, "{text}");
        }
        let long = format!("[{}, 7]", "9".repeat(400));
        assert_eq!(parse(long.as_bytes()).unwrap(), json!([null, 7]));
    }

    /// What Python does not read either, with the place in the text as it stands.
    #[test]
    fn what_python_refuses() {
        for (text, column) in [
            ("[Infinityx]", 2),
            ("[xInfinity]", 2),
            ("[InfinityNaN]", 2),
            ("[+Infinity]", 2),
            ("[--Infinity]", 3),
            ("[- Infinity]", 3),
            ("[nan]", 3),
            ("[inf]", 2),
            ("[Infinity NaN]", 11),
            ("[NaN NaN]", 6),
            ("[NaN, NaN, tru]", 15),
            ("[NaN, 1,]", 9),
            ("{NaN: 1}", 2),
            ("[1.e999]", 4),
            ("[01e999]", 3),
            ("[.5e999]", 2),
            ("[NaN\u{e9}]", 2),
            ("NaN x", 5),
            ("[\"NaN]", 6),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.ends_with(&format!(" at line 1 column {column}")), "{text}: {error}");
        }
        let error = parse(b"[NaN,\n NaN, NaN, x]").unwrap_err();
        assert!(error.ends_with("at line 2 column 12"), "{error}");
    }
}
