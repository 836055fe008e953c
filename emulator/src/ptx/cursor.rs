//! A place among the tokens, and what is read from there.

use super::syntax::Literal;
use super::token::{Kind, Token};
use crate::fault::Result;

/// Parentheses inside of each other, at most.
const DEPTH: u32 = 16;

/// A place among the tokens.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    /// Whether it stands in the body of a function.
    pub(super) in_body: bool,
}

impl<'a> Cursor<'a> {
    /// Before the first token.
    pub(super) fn new(tokens: Vec<Token<'a>>) -> Self {
        Self { tokens, at: 0, in_body: false }
    }

    /// The next token, which stays.
    pub(super) fn token(&self) -> Token<'a> {
        self.ahead(0)
    }

    /// A token further on. Behind the last one is the last one.
    pub(super) fn ahead(&self, by: usize) -> Token<'a> {
        let end = Token { kind: Kind::End, text: "", line: 0, column: 0 };
        self.tokens.get(self.at + by).or(self.tokens.last()).copied().unwrap_or(end)
    }

    /// What the next token is.
    pub(super) fn kind(&self) -> Kind<'a> {
        self.token().kind
    }

    /// The next token, which is gone then.
    pub(super) fn next(&mut self) -> Token<'a> {
        let token = self.token();
        self.at = (self.at + 1).min(self.tokens.len().saturating_sub(1));
        token
    }

    /// Takes the sign if it is next.
    pub(super) fn take_sign(&mut self, sign: char) -> bool {
        let is_next = self.kind() == Kind::Sign(sign);
        if is_next {
            self.next();
        }
        is_next
    }

    /// Takes a sign that has to be next.
    pub(super) fn sign(&mut self, sign: char) -> Result<Token<'a>> {
        match self.kind() {
            Kind::Sign(found) if found == sign => Ok(self.next()),
            _ => Err(self.token().unexpected(&format!("`{sign}`"))),
        }
    }

    /// Takes a word that has to be next.
    pub(super) fn word(&mut self, expected: &str) -> Result<(Token<'a>, &'a str)> {
        match self.kind() {
            Kind::Word(word) => Ok((self.next(), word)),
            _ => Err(self.token().unexpected(expected)),
        }
    }

    /// Takes a string that has to be next.
    pub(super) fn string(&mut self, expected: &str) -> Result<String> {
        match self.kind() {
            Kind::Text(text) => {
                self.next();
                Ok(text.replace("\\\"", "\"").replace("\\\\", "\\"))
            }
            _ => Err(self.token().unexpected(expected)),
        }
    }

    /// Takes an integer without a sign.
    pub(super) fn integer(&mut self, expected: &str) -> Result<u64> {
        match self.kind() {
            Kind::Number(Literal::Integer(value)) => {
                self.next();
                Ok(value)
            }
            _ => Err(self.token().unexpected(expected)),
        }
    }

    /// Takes an integer of 32 bits without a sign.
    pub(super) fn integer32(&mut self, expected: &str) -> Result<u32> {
        let token = self.token();
        let value = self.integer(expected)?;
        u32::try_from(value).map_err(|_| token.unexpected(expected))
    }

    /// Takes a number with its sign.
    pub(super) fn literal(&mut self) -> Result<Literal> {
        let mut negative = false;
        let mut inverted = false;
        while let Kind::Sign(sign @ ('-' | '+' | '~')) = self.kind() {
            match sign {
                // `~-x` would need an order of the two.
                '-' if !inverted => negative = !negative,
                '~' if !negative => inverted = !inverted,
                '+' => {}
                _ => return Err(self.token().unexpected("a number")),
            }
            self.next();
        }
        let literal = match self.kind() {
            Kind::Number(literal) => literal,
            Kind::Word("WARP_SZ") => Literal::Integer(32),
            _ => return Err(self.token().unexpected("a number")),
        };
        if inverted && !matches!(literal, Literal::Integer(_)) {
            return Err(self.token().unexpected("an integer"));
        }
        self.next();
        Ok(match literal {
            Literal::Integer(value) if inverted => Literal::Integer(!value),
            Literal::Integer(value) if negative => Literal::Integer(value.wrapping_neg()),
            Literal::Single(bits) if negative => Literal::Single(bits ^ 1 << 31),
            Literal::Double(bits) if negative => Literal::Double(bits ^ 1 << 63),
            literal => literal,
        })
    }

    /// Takes `+8`, `-8`, `+-8`, as often as they come: what is added to a name.
    pub(super) fn offset(&mut self) -> Result<i64> {
        let mut sum = 0_i64;
        while let Kind::Sign('+' | '-') = self.kind() {
            let token = self.token();
            match self.literal()? {
                Literal::Integer(value) => sum = sum.wrapping_add(value as i64),
                _ => return Err(token.unexpected("an integer as offset")),
            }
        }
        Ok(sum)
    }

    /// Passes over `( … )`.
    pub(super) fn skip_parentheses(&mut self) -> Result<()> {
        self.skip_between('(', ')')
    }

    /// Passes over everything from one sign to the one that closes it.
    pub(super) fn skip_between(&mut self, open: char, close: char) -> Result<()> {
        let first = self.sign(open)?;
        let mut depth = 1_u32;
        while depth > 0 {
            match self.next().kind {
                Kind::Sign(sign) if sign == open => depth += 1,
                Kind::Sign(sign) if sign == close => depth -= 1,
                Kind::End => return Err(first.fault(format_args!("no `{close}` closes `{open}`"))),
                _ => {}
            }
        }
        Ok(())
    }

    /// Passes over everything up to and with the sign.
    pub(super) fn skip_past(&mut self, sign: char) -> Result<()> {
        loop {
            match self.kind() {
                Kind::Sign(found) if found == sign => {
                    self.next();
                    return Ok(());
                }
                Kind::End => return Err(self.token().unexpected(&format!("`{sign}`"))),
                _ => self.next(),
            };
        }
    }

    /// An integer in parentheses: `((1+2)-3)`.
    pub(super) fn sum(&mut self, depth: u32) -> Result<i64> {
        let open = self.sign('(')?;
        if depth > DEPTH {
            return Err(open.fault(format_args!("more than {DEPTH} parentheses")));
        }
        let mut sum = 0_i64;
        let mut minus = false;
        loop {
            let token = self.token();
            let term = if self.kind() == Kind::Sign('(') {
                self.sum(depth + 1)?
            } else {
                match self.literal()? {
                    Literal::Integer(value) => value as i64,
                    _ => return Err(token.unexpected("an integer")),
                }
            };
            sum = if minus { sum.wrapping_sub(term) } else { sum.wrapping_add(term) };
            match self.kind() {
                Kind::Sign(sign @ ('+' | '-')) => {
                    minus = sign == '-';
                    self.next();
                }
                _ => break,
            }
        }
        self.sign(')')?;
        Ok(sum)
    }
}
