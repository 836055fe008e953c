//! Names of a function's body. Each block has its own; inner ones hide outer ones.

use std::collections::HashMap;

use super::syntax::{Class, Register, Symbol};
use super::token::Token;

/// What a name of a block stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item {
    /// `.reg .b32 x;`
    Register(Register),
    /// `.reg .b32 x<4>;`: x0 to x3.
    Range(Register, u32),
    /// `.reg .v2 .b32 x;`: x.x and x.y, and x for both.
    Vector(Register, u32),
    /// A variable.
    Symbol(Symbol),
    /// Of `.callprototype` and `.calltargets`: nothing depends on them.
    Prototype,
}

/// A use of a label, before all labels of the block are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference<'a> {
    /// Index of the statement.
    pub(super) statement: usize,
    /// Which of its operands.
    pub(super) operand: usize,
    /// Which of a list of targets.
    pub(super) target: Option<usize>,
    /// The name and its place.
    pub(super) token: Token<'a>,
}

/// The names of one block.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    /// Registers and variables.
    pub(super) items: HashMap<&'a str, Item>,
    /// Index of the statement that each label stands before.
    pub(super) labels: HashMap<&'a str, usize>,
    /// Lists of `.branchtargets`.
    pub(super) targets: HashMap<&'a str, Vec<Token<'a>>>,
    /// To be resolved when the block ends.
    pub(super) references: Vec<Reference<'a>>,
}

impl<'a> Scope<'a> {
    /// What the name stands for in this block.
    pub(super) fn find(&self, name: &str) -> Option<Item> {
        match self.items.get(name) {
            Some(Item::Range(..)) | None => self.member(name),
            found => found.copied(),
        }
    }

    /// `%r12` of `%r<40>`. The prefix may end with digits itself.
    fn member(&self, name: &str) -> Option<Item> {
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        (1..=digits.min(10)).find_map(|count| {
            let (prefix, number) = name.split_at_checked(name.len() - count)?;
            if number.len() > 1 && number.starts_with('0') {
                return None;
            }
            let number: u32 = number.parse().ok()?;
            match self.items.get(prefix) {
                Some(Item::Range(first, count)) if number < *count => {
                    Some(Item::Register(offset(*first, number)))
                }
                _ => None,
            }
        })
    }
}

/// The register that comes `by` places later.
pub(super) fn offset(register: Register, by: u32) -> Register {
    Register { index: register.index.saturating_add(by), ..register }
}

/// The file for registers of a type.
pub(super) fn class(kind: &str) -> Option<Class> {
    Some(match kind {
        "pred" => Class::Predicate,
        "b128" => Class::Quad,
        _ => match super::declare::width(kind)? {
            0..=4 => Class::Word,
            _ => Class::Double,
        },
    })
}
