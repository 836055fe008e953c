//! Declarations of variables: space, type, extent and first bytes.

use super::cursor::Cursor;
use super::syntax::{Literal, Space, Variable};
use super::token::{Kind, Token};
use crate::fault::Result;

/// Most dimensions of an array.
const DIMENSIONS: usize = 8;
/// Most bytes that an initializer may reach: a short text must not take all memory of the host.
const LARGEST: u64 = 1 << 27;

/// Bytes of a type; `None` for what is no type of a variable.
pub(super) fn width(kind: &str) -> Option<u64> {
    Some(match kind {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 4,
        "b64" | "u64" | "s64" | "f64" | "texref" | "samplerref" | "surfref" => 8,
        "b128" => 16,
        _ => return None,
    })
}

/// The space that a declaration begins with.
pub(super) fn space(word: &str) -> Option<Space> {
    Some(match word {
        "param" => Space::Param,
        "shared" | "shared::cta" => Space::Shared,
        "global" => Space::Global,
        "const" => Space::Const,
        "local" => Space::Local,
        _ => return None,
    })
}

/// Type and alignment, which all names of a declaration share.
struct Form<'a> {
    space: Space,
    element: u64,
    kind: &'a str,
    align: u64,
    is_extern: bool,
}

/// What follows the space of a declaration, up to and without what ends it. A parameter has one name.
pub(super) fn variables<'a>(
    cursor: &mut Cursor<'a>,
    space: Space,
    is_extern: bool,
) -> Result<Vec<(Token<'a>, Variable)>> {
    let form = form(cursor, space, is_extern)?;
    let mut variables = Vec::new();
    loop {
        one(cursor, &form, &mut variables)?;
        // A comma after a parameter is one between parameters.
        if space == Space::Param && !cursor.in_body || !cursor.take_sign(',') {
            return Ok(variables);
        }
    }
}

fn form<'a>(cursor: &mut Cursor<'a>, space: Space, is_extern: bool) -> Result<Form<'a>> {
    let mut align = None;
    let mut kind = None;
    let mut count = 1;
    let mut is_pointer = false;
    while let Kind::Dot(word) = cursor.kind() {
        let token = cursor.next();
        match word {
            "align" => {
                let number = cursor.integer("an alignment")?;
                if !number.is_power_of_two() || number > 1 << 20 {
                    return Err(token.fault(format_args!("an alignment of {number} bytes")));
                }
                // The alignment after `.ptr` is that of what it points to.
                if !is_pointer {
                    align = Some(number);
                }
            }
            "ptr" => is_pointer = true,
            "attribute" => cursor.skip_parentheses()?,
            "v2" => count = 2,
            "v4" => count = 4,
            "v8" => count = 8,
            _ if is_pointer && self::space(word).is_some() => {}
            _ if width(word).is_some() && kind.is_none() => kind = Some(word),
            _ => return Err(token.unexpected("a type, `.align`, `.attribute` or `.ptr`")),
        }
    }
    let Some(kind) = kind else { return Err(cursor.token().unexpected("a type such as `.b32`")) };
    let element = width(kind).unwrap_or(0) * count;
    Ok(Form { space, element, kind, align: align.unwrap_or(element), is_extern })
}

fn one<'a>(
    cursor: &mut Cursor<'a>,
    form: &Form<'a>,
    variables: &mut Vec<(Token<'a>, Variable)>,
) -> Result<()> {
    let (token, name) = cursor.word("the name of a variable")?;
    let mut extents = Vec::new();
    let mut open = false;
    while cursor.kind() == Kind::Sign('[') {
        let bracket = cursor.next();
        if cursor.take_sign(']') {
            if open || !extents.is_empty() {
                return Err(bracket.fault("only the first extent of an array can be left open"));
            }
            open = true;
            extents.push(0);
        } else {
            extents.push(cursor.integer("an extent")?);
            cursor.sign(']')?;
        }
        if extents.len() > DIMENSIONS {
            return Err(bracket.fault(format_args!("more than {DIMENSIONS} dimensions")));
        }
    }
    let too_large = || token.fault("the variable is too large");
    // Bytes of an element of each dimension, outermost first, then those of the innermost element.
    let mut strides = vec![form.element];
    let lane = width(form.kind).unwrap_or(1);
    for extent in extents.iter().skip(usize::from(open)).rev() {
        let inner = strides.last().copied().unwrap_or(0);
        let bytes = inner.checked_mul(*extent).filter(|bytes| *bytes < 1 << 48);
        strides.push(bytes.ok_or_else(too_large)?);
    }
    strides.reverse();
    if lane < form.element {
        strides.push(lane);
    }
    let mut size = if open { 0 } else { strides.first().copied().unwrap_or(0) };
    let mut first = Bytes::default();
    if cursor.kind() == Kind::Sign('=') {
        cursor.next();
        if !open {
            // The whole is no element of its own.
            strides.remove(0);
        }
        first.kind = form.kind;
        first.fill(cursor, &strides, 0)?;
        if open {
            let stride = strides.first().copied().unwrap_or(1).max(1);
            size = (first.bytes.len() as u64).next_multiple_of(stride);
        }
        if first.bytes.len() as u64 > size {
            let message = format!("{} bytes for a variable of {size}", first.bytes.len());
            return Err(token.fault(message));
        }
    }
    let relocations = first.relocations(&token)?;
    let name_of = |name: &str| Variable {
        name: name.to_owned(),
        space: form.space,
        align: form.align as u32,
        size,
        is_extern: form.is_extern,
        initial: first.bytes.clone(),
        relocations: relocations.clone(),
    };
    variables.push((token, name_of(name)));
    Ok(())
}

/// First bytes of a variable.
#[derive(Default)]
struct Bytes<'a> {
    kind: &'a str,
    bytes: Vec<u8>,
    /// Where the address of a name goes: offset, which byte of the address stands there, all its bytes or one, name.
    addresses: Vec<(u64, u32, bool, &'a str)>,
}

impl<'a> Bytes<'a> {
    /// Reads one initializer for the element at `at`. `strides` are those of its own elements, if it has any.
    fn fill(&mut self, cursor: &mut Cursor<'a>, strides: &[u64], at: u64) -> Result<()> {
        let Some((stride, inner)) = strides.split_first() else { return self.scalar(cursor, at) };
        let open = cursor.sign('{')?;
        let mut offset = at;
        loop {
            if cursor.take_sign('}') {
                return Ok(());
            }
            if offset > at {
                cursor.sign(',')?;
            }
            // Elements of a vector, and of arrays whose braces are left out, follow each other.
            if cursor.kind() == Kind::Sign('{') {
                if inner.is_empty() {
                    return Err(open.fault("an initializer with more braces than dimensions"));
                }
                self.fill(cursor, inner, offset)?;
                offset += stride;
            } else {
                let width = width(self.kind).unwrap_or(1);
                self.scalar(cursor, offset)?;
                offset += width;
            }
        }
    }

    fn put(&mut self, token: &Token<'a>, at: u64, bytes: &[u8]) -> Result<()> {
        if at > LARGEST {
            return Err(token.fault(format_args!("first bytes of a variable beyond {LARGEST}")));
        }
        let at = at as usize;
        if self.bytes.len() < at + bytes.len() {
            self.bytes.resize(at + bytes.len(), 0);
        }
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn scalar(&mut self, cursor: &mut Cursor<'a>, at: u64) -> Result<()> {
        let width = width(self.kind).unwrap_or(1) as usize;
        match cursor.kind() {
            Kind::Number(_) | Kind::Sign('-' | '+' | '~') => {
                let token = cursor.token();
                let literal = cursor.literal()?;
                if cursor.kind() == Kind::Sign('(') {
                    return self.masked(cursor, &token, literal, at);
                }
                let bits = self.bits(literal);
                let bytes = u128::from(bits).to_le_bytes();
                self.put(&token, at, bytes.get(..width).unwrap_or(&bytes))
            }
            Kind::Word(_) => {
                let token = cursor.token();
                let (name, addend) = address(cursor)?;
                if width != 8 {
                    let what = format!("the address of {name} in an element of {width} bytes");
                    return Err(token.fault(what));
                }
                self.put(&token, at, &addend.to_le_bytes())?;
                self.addresses.push((at, 0, true, name));
                Ok(())
            }
            _ => Err(cursor.token().unexpected("a number or the name of a variable")),
        }
    }

    /// `0xFF00(name)`: one byte of an address.
    fn masked(
        &mut self,
        cursor: &mut Cursor<'a>,
        token: &Token<'a>,
        mask: Literal,
        at: u64,
    ) -> Result<()> {
        let bytes = (0..8).find(|byte| mask == Literal::Integer(0xFF << (8 * byte)));
        let Some(byte) = bytes else {
            return Err(token.unexpected("a mask of one byte before the parenthesis"));
        };
        cursor.sign('(')?;
        let (name, addend) = address(cursor)?;
        cursor.sign(')')?;
        let bytes = addend.to_le_bytes();
        self.put(token, at, bytes.get(byte..=byte).unwrap_or(&[0]))?;
        self.addresses.push((at, byte as u32, false, name));
        Ok(())
    }

    fn bits(&self, literal: Literal) -> u64 {
        let double = |bits| f64::from_bits(bits);
        match (self.kind, literal) {
            ("f64", Literal::Single(bits)) => f64::from(f32::from_bits(bits)).to_bits(),
            ("f32", Literal::Double(bits)) => u64::from((double(bits) as f32).to_bits()),
            ("f16", Literal::Double(bits)) => {
                u64::from(half::f16::from_f64(double(bits)).to_bits())
            }
            ("bf16", Literal::Double(bits)) => {
                u64::from(half::bf16::from_f64(double(bits)).to_bits())
            }
            (_, Literal::Integer(bits) | Literal::Double(bits)) => bits,
            (_, Literal::Single(bits)) => u64::from(bits),
        }
    }

    /// Offsets of whole addresses, those that were given byte by byte put together.
    fn relocations(&self, token: &Token<'a>) -> Result<Vec<(u64, String)>> {
        let mut relocations = Vec::new();
        let mut run = 0;
        for (index, (at, byte, whole, name)) in self.addresses.iter().enumerate() {
            if *whole {
                if run != 0 {
                    return Err(token.fault("an address of which some bytes are missing"));
                }
                relocations.push((*at, (*name).to_owned()));
                continue;
            }
            let follows = run == 0
                || self
                    .addresses
                    .get(index.wrapping_sub(1))
                    .is_some_and(|last| last.0 + 1 == *at && last.3 == *name);
            if *byte != run || !follows {
                return Err(token.fault("an address whose bytes do not follow each other"));
            }
            run = (run + 1) % 8;
            if run == 0 {
                relocations.push((at - 7, (*name).to_owned()));
            }
        }
        if run != 0 {
            return Err(token.fault("an address of which some bytes are missing"));
        }
        Ok(relocations)
    }
}

/// `name`, `name+8`, `generic(name)`, `generic(name)+8`, `generic(name+8)`
fn address<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a str, i64)> {
    let (_, word) = cursor.word("the name of a variable")?;
    if word != "generic" || cursor.kind() != Kind::Sign('(') {
        return Ok((word, cursor.offset()?));
    }
    cursor.sign('(')?;
    let (_, name) = cursor.word("the name of a variable")?;
    let inside = cursor.offset()?;
    cursor.sign(')')?;
    Ok((name, inside.wrapping_add(cursor.offset()?)))
}
