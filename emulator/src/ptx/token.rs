//! Text to tokens.

use super::syntax::Literal;
use crate::fault::{Fault, FaultKind, Result};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// `mov`, `%r1`, `$L__BB0_1`, `_`
    Word(&'a str),
    /// `.b32` and `.shared::cta`, without the first dot.
    Dot(&'a str),
    /// A number without its sign.
    Number(Literal),
    /// What stands between quotes, escapes as written.
    Text(&'a str),
    /// Any other character.
    Sign(char),
    /// The text is over.
    End,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    /// What it is.
    pub(super) kind: Kind<'a>,
    /// As written.
    pub(super) text: &'a str,
    /// Line, from 1.
    pub(super) line: u32,
    /// Column in bytes, from 1.
    pub(super) column: u32,
}

impl Token<'_> {
    /// A fault at the token.
    pub(super) fn fault(&self, what: impl std::fmt::Display) -> Fault {
        let message = format!("PTX line {}, column {}: {what}", self.line, self.column);
        Fault::new(FaultKind::Unsupported, message)
    }

    /// A fault that says what would have been right.
    pub(super) fn unexpected(&self, expected: &str) -> Fault {
        let found = match self.kind {
            Kind::End => "the end of the text".to_owned(),
            _ => format!("`{}`", shortened(self.text)),
        };
        self.fault(format_args!("found {found}, expected {expected}"))
    }
}

/// Mangled names have hundreds of characters.
fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// All tokens; the last one is [`Kind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>> {
    let mut lexer = Lexer { text, at: 0, line: 1, line_start: 0 };
    let mut tokens = Vec::with_capacity(text.len() / 4);
    loop {
        let token = lexer.token()?;
        tokens.push(token);
        if token.kind == Kind::End {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// A token of `length` bytes that starts here, and goes past it.
    fn take(&mut self, kind: Kind<'a>, length: usize) -> Token<'a> {
        let token = Token {
            kind,
            text: self.rest().get(..length).unwrap_or(""),
            line: self.line,
            column: self.column(),
        };
        self.advance(length);
        token
    }

    fn column(&self) -> u32 {
        (self.at - self.line_start) as u32 + 1
    }

    fn advance(&mut self, length: usize) {
        let passed = self.rest().get(..length).unwrap_or("");
        if let Some(last) = passed.rfind('\n') {
            self.line += passed.matches('\n').count() as u32;
            self.line_start = self.at + last + 1;
        }
        self.at += length;
    }

    fn skip_blanks(&mut self) -> Result<()> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            self.advance(blanks);
            let rest = self.rest();
            if rest.starts_with("//") {
                self.advance(rest.find('\n').unwrap_or(rest.len()));
            } else if let Some(comment) = rest.strip_prefix("/*") {
                match comment.find("*/") {
                    Some(end) => self.advance(end + 4),
                    None => return Err(self.take(Kind::End, 2).fault("a comment that never ends")),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Token<'a>> {
        self.skip_blanks()?;
        let rest = self.rest();
        let mut characters = rest.chars();
        let Some(first) = characters.next() else { return Ok(self.take(Kind::End, 0)) };
        let second = characters.next().unwrap_or(' ');
        match first {
            'a'..='z' | 'A'..='Z' | '_' | '$' | '%' => {
                let length = first.len_utf8() + word(rest.get(1..).unwrap_or(""));
                let name = rest.get(..length).unwrap_or("");
                Ok(self.take(Kind::Word(name), length))
            }
            '0'..='9' => {
                let (literal, length) = number(rest)
                    .map_err(|(length, what)| self.take(Kind::End, length).fault(what))?;
                Ok(self.take(Kind::Number(literal), length))
            }
            '.' if is_word(second) => {
                let name = dotted(rest.get(1..).unwrap_or(""));
                Ok(self.take(Kind::Dot(name), name.len() + 1))
            }
            '"' => match quoted(rest.get(1..).unwrap_or("")) {
                Some(inside) => Ok(self.take(Kind::Text(inside), inside.len() + 2)),
                None => Err(self.take(Kind::End, 1).fault("a string that never ends")),
            },
            sign => Ok(self.take(Kind::Sign(sign), sign.len_utf8())),
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$')
}

/// Bytes of the word characters at the start.
fn word(text: &str) -> usize {
    text.find(|character| !is_word(character)).unwrap_or(text.len())
}

/// The suffix at the start: word characters, and pairs of colons between them.
fn dotted(text: &str) -> &str {
    let mut length = word(text);
    loop {
        let rest = text.get(length..).unwrap_or("");
        let after = match rest.strip_prefix("::") {
            Some(after) if after.starts_with(is_word) => after,
            _ => return text.get(..length).unwrap_or(""),
        };
        length += 2 + word(after);
    }
}

/// Up to the closing quote, which a backslash hides.
fn quoted(text: &str) -> Option<&str> {
    let mut hidden = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if hidden => hidden = false,
            '\\' => hidden = true,
            '"' => return text.get(..at),
            '\n' => return None,
            _ => {}
        }
    }
    None
}

/// The number at the start and how long it is; or how long the wrong number is and what is wrong.
fn number(text: &str) -> std::result::Result<(Literal, usize), (usize, String)> {
    let run = word(text);
    let digits = text.get(..run).unwrap_or("");
    let wrong = |why: &str| (run, format!("`{}` is no number: {why}", shortened(digits)));
    let radix = |digits: &str, radix: u32| {
        let digits = digits.strip_suffix('U').unwrap_or(digits);
        u64::from_str_radix(digits, radix).map(|value| (Literal::Integer(value), run))
    };
    let prefix = digits.get(..2).unwrap_or("");
    let body = digits.get(2..).unwrap_or("");
    let bits = |digits: usize| {
        let plain = body.len() == digits && body.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !plain {
            return Err(wrong(&format!("{digits} hexadecimal digits have to follow `{prefix}`")));
        }
        u64::from_str_radix(body, 16).map_err(|error| wrong(&error.to_string()))
    };
    match prefix {
        "0x" | "0X" => return radix(body, 16).map_err(|error| wrong(&error.to_string())),
        "0b" | "0B" => return radix(body, 2).map_err(|error| wrong(&error.to_string())),
        "0f" | "0F" => return bits(8).map(|value| (Literal::Single(value as u32), run)),
        "0d" | "0D" => return bits(16).map(|value| (Literal::Double(value), run)),
        _ => {}
    }
    if let Some(length) = fraction(text) {
        let written = text.get(..length).unwrap_or("");
        return match written.parse::<f64>() {
            Ok(value) => Ok((Literal::Double(value.to_bits()), length)),
            Err(error) => Err(wrong(&error.to_string())),
        };
    }
    let octal = digits.len() > 1 && digits.starts_with('0') && digits != "0U";
    radix(digits, if octal { 8 } else { 10 }).map_err(|error| wrong(&error.to_string()))
}

/// Bytes of the decimal fraction at the start; none where the number is an integer.
fn fraction(text: &str) -> Option<usize> {
    let count = |from: usize| {
        let rest = text.get(from..).unwrap_or("");
        rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len())
    };
    let character = |at: usize| text.get(at..).and_then(|rest| rest.chars().next());
    let mut length = count(0);
    let mut is_fraction = false;
    if character(length) == Some('.') {
        is_fraction = true;
        length += 1;
        length += count(length);
    }
    if matches!(character(length), Some('e' | 'E')) {
        let sign = usize::from(matches!(character(length + 1), Some('+' | '-')));
        let digits = count(length + 1 + sign);
        if digits > 0 {
            is_fraction = true;
            length += 1 + sign + digits;
        }
    }
    let ends = !character(length).is_some_and(is_word);
    (is_fraction && ends).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Result<Vec<Kind<'_>>> {
        Ok(tokens(text)?.into_iter().map(|token| token.kind).collect())
    }

    #[test]
    fn a_suffix_begins_with_a_digit_and_a_brace_needs_no_blank() -> Result<()> {
        assert_eq!(
            kinds("tcgen05.ld.32x32b.x1.b32{%r1}, [%r2+-4];")?,
            [
                Kind::Word("tcgen05"),
                Kind::Dot("ld"),
                Kind::Dot("32x32b"),
                Kind::Dot("x1"),
                Kind::Dot("b32"),
                Kind::Sign('{'),
                Kind::Word("%r1"),
                Kind::Sign('}'),
                Kind::Sign(','),
                Kind::Sign('['),
                Kind::Word("%r2"),
                Kind::Sign('+'),
                Kind::Sign('-'),
                Kind::Number(Literal::Integer(4)),
                Kind::Sign(']'),
                Kind::Sign(';'),
                Kind::End,
            ]
        );
        assert_eq!(kinds(".shared::cluster.L2::cache_hint")?.len(), 3);
        assert_eq!(kinds("L: a")?.get(1), Some(&Kind::Sign(':')));
        Ok(())
    }

    #[test]
    fn numbers_by_their_prefix() -> Result<()> {
        let cases = [
            ("0", Literal::Integer(0)),
            ("0U", Literal::Integer(0)),
            ("42U", Literal::Integer(42)),
            ("017", Literal::Integer(15)),
            ("0b101", Literal::Integer(5)),
            ("0xfFU", Literal::Integer(255)),
            ("18446744073709551615", Literal::Integer(u64::MAX)),
            ("0f3F800000", Literal::Single(0x3F80_0000)),
            ("0d3FF0000000000000", Literal::Double(0x3FF0_0000_0000_0000)),
            ("1.5", Literal::Double(0x3FF8_0000_0000_0000)),
            ("15e-1", Literal::Double(0x3FF8_0000_0000_0000)),
        ];
        for (text, literal) in cases {
            assert_eq!(kinds(text)?.first(), Some(&Kind::Number(literal)), "{text}");
        }
        for text in ["0x", "09", "0b2", "0f3F8", "12ab", "18446744073709551616", "0f+1234567"] {
            assert!(kinds(text).is_err(), "{text}");
        }
        Ok(())
    }

    #[test]
    fn places_count_lines_and_columns() -> Result<()> {
        let tokens = tokens("/* a\n b */ x // y\n\t\"q\\\"\" z")?;
        let places: Vec<_> =
            tokens.iter().map(|token| (token.text, token.line, token.column)).collect();
        assert_eq!(places, [("x", 2, 7), ("\"q\\\"\"", 3, 2), ("z", 3, 8), ("", 3, 9)]);
        Ok(())
    }
}
