//! Operands of statements.

use super::body::Body;
use super::scope::{Item, offset};
use super::syntax::{Base, Class, Literal, Operand, Register, Special};
use super::token::{Kind, Token};
use crate::fault::Result;

/// What a name turns out to be.
enum Name {
    Item(Item),
    Special(Special),
    Literal(Literal),
    /// Of nothing that is known yet: a label, or a function that follows.
    Unknown,
}

impl<'a> Body<'a, '_> {
    /// Reads the operands of a statement, up to and with the semicolon.
    pub(super) fn operands(&mut self, family: &str) -> Result<Vec<Operand>> {
        let mut operands = Vec::new();
        if self.unit.cursor.take_sign(';') {
            return Ok(operands);
        }
        loop {
            // What a label and a prototype are named is known by where they stand.
            let operand = match (family, operands.len()) {
                ("bra", 0) => self.label(0)?,
                _ => self.operand(family, operands.len())?,
            };
            operands.extend(operand);
            if !self.unit.cursor.take_sign(',') {
                break;
            }
        }
        match self.unit.cursor.kind() {
            Kind::Sign(';') => {
                self.unit.cursor.next();
                Ok(operands)
            }
            _ => Err(self.unit.cursor.token().unexpected("`,` or `;` after an operand")),
        }
    }

    fn label(&mut self, operand: usize) -> Result<Option<Operand>> {
        let (token, _) = self.unit.cursor.word("a label")?;
        self.refer(operand, None, token);
        Ok(Some(Operand::Label(usize::MAX)))
    }

    fn operand(&mut self, family: &str, place: usize) -> Result<Option<Operand>> {
        let cursor = &mut self.unit.cursor;
        let token = cursor.token();
        Ok(Some(match token.kind {
            Kind::Sign('!') => {
                cursor.next();
                let (register, token) = self.register()?;
                if register.class != Class::Predicate {
                    return Err(token.unexpected("a predicate after `!`"));
                }
                Operand::Not(register)
            }
            Kind::Sign('{') => Operand::Vector(self.list('}')?),
            Kind::Sign('(') if family == "call" => Operand::List(self.list(')')?),
            Kind::Sign('(') => Operand::Literal(Literal::Integer(cursor.sum(0)? as u64)),
            Kind::Sign('[') => self.address()?,
            Kind::Word(_) => {
                let first = self.word(Some(place))?;
                if self.unit.cursor.kind() != Kind::Sign('|') {
                    return Ok(first);
                }
                self.unit.cursor.next();
                let second = self.word(None)?;
                let half = |operand| match operand {
                    Some(Operand::Register(register)) => Ok(Some(register)),
                    Some(Operand::Sink) => Ok(None),
                    _ => Err(token.unexpected("registers or `_` around `|`")),
                };
                Operand::Pair(half(first)?, half(second)?)
            }
            Kind::Number(_) | Kind::Sign('-' | '+' | '~') => Operand::Literal(cursor.literal()?),
            _ => return Err(token.unexpected("an operand")),
        }))
    }

    /// `{a, b}` and `(a, b)`, whose members are words and numbers.
    fn list(&mut self, close: char) -> Result<Vec<Operand>> {
        self.unit.cursor.next();
        let mut members = Vec::new();
        while !self.unit.cursor.take_sign(close) {
            if !members.is_empty() {
                self.unit.cursor.sign(',')?;
            }
            let token = self.unit.cursor.token();
            let member = match token.kind {
                Kind::Word(_) => self.word(None)?,
                Kind::Number(_) | Kind::Sign('-' | '+' | '~') => {
                    Some(Operand::Literal(self.unit.cursor.literal()?))
                }
                _ => None,
            };
            members.push(member.ok_or_else(|| token.unexpected("a register or a number"))?);
        }
        Ok(members)
    }

    /// A word and what belongs to it. An unknown one is a reference if it is the operand at `place`; nothing comes
    /// of the name of a prototype.
    fn word(&mut self, place: Option<usize>) -> Result<Option<Operand>> {
        let (token, name) = self.name()?;
        Ok(Some(match name {
            _ if token.text == "_" => Operand::Sink,
            Name::Item(Item::Register(register)) => Operand::Register(register),
            Name::Item(Item::Vector(first, count)) => Operand::Vector(
                (0..count).map(|index| Operand::Register(offset(first, index))).collect(),
            ),
            Name::Item(Item::Symbol(symbol)) => Operand::Symbol(symbol, self.unit.cursor.offset()?),
            Name::Item(Item::Prototype) => return Ok(None),
            Name::Special(special) => Operand::Special(special),
            Name::Literal(literal) => Operand::Literal(literal),
            Name::Unknown if may_be_special(token.text) => Operand::Unknown(token.text.into()),
            Name::Item(Item::Range(..)) | Name::Unknown => {
                let Some(place) = place.filter(|_| !token.text.starts_with('%')) else {
                    return Err(unknown(&token));
                };
                self.refer(place, None, token);
                Operand::Label(usize::MAX)
            }
        }))
    }

    /// A word with the components after it: `%r1`, `%tid.x`.
    fn name(&mut self) -> Result<(Token<'a>, Name)> {
        let (token, word) = self.unit.cursor.word("a name")?;
        let item = self.find(word);
        if let Kind::Dot(component) = self.unit.cursor.kind() {
            let dot = self.unit.cursor.next();
            let axis = match component {
                "x" | "r" => 0,
                "y" | "g" => 1,
                "z" | "b" => 2,
                "w" | "a" => 3,
                _ => return Err(dot.unexpected("`.x`, `.y`, `.z` or `.w` after a name")),
            };
            return match item {
                Some(Item::Vector(first, count)) if u32::from(axis) < count => {
                    Ok((token, Name::Item(Item::Register(offset(first, axis.into())))))
                }
                Some(_) => Err(dot.fault(format_args!("`{word}` has no such component"))),
                None if axis == 3 => Ok((token, Name::Literal(Literal::Integer(0)))),
                None => match vector(word, axis) {
                    Some(special) => Ok((token, Name::Special(special))),
                    None if may_be_special(word) => Ok((token, Name::Unknown)),
                    None => Err(unknown(&token)),
                },
            };
        }
        Ok((
            token,
            match item {
                Some(item) => Name::Item(item),
                None if word == "WARP_SZ" => Name::Literal(Literal::Integer(32)),
                None => scalar(word).map_or(Name::Unknown, Name::Special),
            },
        ))
    }

    /// A register that has to be next.
    pub(super) fn register(&mut self) -> Result<(Register, Token<'a>)> {
        match self.name()? {
            (token, Name::Item(Item::Register(register))) => Ok((register, token)),
            (token, _) => Err(token.unexpected("a register")),
        }
    }

    fn address(&mut self) -> Result<Operand> {
        self.unit.cursor.sign('[')?;
        let token = self.unit.cursor.token();
        let (base, mut offset) = match token.kind {
            Kind::Word(_) => match self.name()?.1 {
                Name::Item(Item::Register(register)) => (Base::Register(register), 0),
                Name::Item(Item::Symbol(symbol)) => (Base::Symbol(symbol), 0),
                Name::Unknown => return Err(unknown(&token)),
                _ => return Err(token.unexpected("a register or variable in an address")),
            },
            _ => match self.unit.cursor.literal()? {
                Literal::Integer(value) => (Base::Absolute, value as i64),
                _ => return Err(token.unexpected("an integer in an address")),
            },
        };
        offset = offset.wrapping_add(self.unit.cursor.offset()?);
        if self.unit.cursor.take_sign(']') {
            return Ok(Operand::Address(base, offset));
        }
        if !self.unit.cursor.take_sign(',') {
            return Err(self.unit.cursor.token().unexpected("`+`, `,` or `]` in an address"));
        }
        if self.unit.cursor.kind() != Kind::Sign('{') {
            return Err(self.unit.cursor.token().unexpected("`{` and coordinates in an address"));
        }
        let coordinates = self.list('}')?;
        self.unit.cursor.sign(']')?;
        Ok(Operand::TensorAddress(base, offset, coordinates))
    }
}

/// A fault for a name that stands for nothing.
pub(super) fn unknown(token: &Token<'_>) -> crate::fault::Fault {
    token.unexpected("a name that is declared")
}

/// Whether a name that was not declared may be that of a special register. Registers that a compiler numbers end in
/// digits; of the special ones only these do.
fn may_be_special(name: &str) -> bool {
    let numbered = name.ends_with(|last: char| last.is_ascii_digit());
    let family = name.starts_with("%envreg") || name.starts_with("%pm");
    name.starts_with('%') && (!numbered || family)
}

/// A special register with components.
fn vector(name: &str, axis: u8) -> Option<Special> {
    Some(match name {
        "%tid" => Special::Tid(axis),
        "%ntid" => Special::Ntid(axis),
        "%ctaid" => Special::Ctaid(axis),
        "%nctaid" => Special::Nctaid(axis),
        "%clusterid" => Special::Clusterid(axis),
        "%nclusterid" => Special::Nclusterid(axis),
        "%cluster_ctaid" => Special::ClusterCtaid(axis),
        "%cluster_nctaid" => Special::ClusterNctaid(axis),
        _ => return None,
    })
}

/// A special register without components.
fn scalar(name: &str) -> Option<Special> {
    Some(match name {
        "%cluster_ctarank" => Special::ClusterCtarank,
        "%cluster_nctarank" => Special::ClusterNctarank,
        "%is_explicit_cluster" => Special::IsExplicitCluster,
        "%laneid" => Special::Laneid,
        "%warpid" => Special::Warpid,
        "%nwarpid" => Special::Nwarpid,
        "%smid" => Special::Smid,
        "%nsmid" => Special::Nsmid,
        "%gridid" => Special::Gridid,
        // The driver defines these. Of what it puts there only the two with the address of the grid's barrier are known.
        "%envreg1" => Special::Envreg(1),
        "%envreg2" => Special::Envreg(2),
        "%lanemask_eq" => Special::LanemaskEq,
        "%lanemask_le" => Special::LanemaskLe,
        "%lanemask_lt" => Special::LanemaskLt,
        "%lanemask_ge" => Special::LanemaskGe,
        "%lanemask_gt" => Special::LanemaskGt,
        "%clock" => Special::Clock,
        "%clock64" => Special::Clock64,
        "%globaltimer" => Special::Globaltimer,
        "%dynamic_smem_size" => Special::DynamicSmemSize,
        "%total_smem_size" => Special::TotalSmemSize,
        "%aggr_smem_size" => Special::AggrSmemSize,
        _ => return None,
    })
}
