//! `tcgen05.mma`: what it is made of.

use super::group::group;
use crate::fault::{Fault, Result};
use crate::isa::scope::Scope;
use crate::isa::value::{Address, Value};
use crate::ptx::{Operand, Space, Statement};
use crate::tensor::instruction::Kind;

/// What an instruction says of the buffer that keeps A between MMAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collector {
    /// `.collector::a::discard`, which is the default.
    Discard,
    /// `.collector::a::fill`
    Fill,
    /// `.collector::a::use`
    Use,
    /// `.collector::a::lastuse`
    LastUse,
}

/// Where A is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum A {
    Shared(Value),
    Tensor(Address),
}

/// Lowered.
#[derive(Clone, Debug)]
pub struct Op {
    pub(crate) kind: Kind,
    pub(crate) group: u32,
    /// Scale factors of a row, if the opcode names the number.
    pub(crate) count: Option<u32>,
    pub(crate) collector: Collector,
    pub(crate) d: Address,
    pub(crate) a: A,
    pub(crate) b: Value,
    pub(crate) instruction: Value,
    pub(crate) scales: Option<(Address, Address)>,
    /// Lanes that are not written: 4 or 8 words.
    pub(crate) disabled: Vec<Value>,
    /// Whether to add what D holds.
    pub(crate) accumulate: Value,
    pub(crate) negated: bool,
    /// `scale-input-d`
    pub(crate) shift: Option<Value>,
}

/// Lowers.
pub fn lower(statement: &Statement, scope: &Scope<'_>) -> Result<Op> {
    let unsupported = || Fault::unsupported(statement.opcode());
    if ["ws", "sp", "ashift"].iter().any(|word| statement.has(word)) {
        return Err(unsupported());
    }
    let kinds = [
        ("kind::f16", Kind::F16),
        ("kind::tf32", Kind::TF32),
        ("kind::f8f6f4", Kind::F8F6F4),
        ("kind::i8", Kind::I8),
        ("kind::mxf8f6f4", Kind::MXF8F6F4),
        ("kind::mxf4", Kind::MXF4),
        ("kind::mxf4nvf4", Kind::MXF4NVF4),
    ];
    let kind = kinds.iter().find(|(word, _)| statement.has(word)).ok_or_else(unsupported)?.1;
    if kind.is_scaled() != statement.has("block_scale") {
        return Err(unsupported());
    }
    let natural = if kind == Kind::MXF8F6F4 { 1 } else { 2 };
    let counts = [
        ("scale_vec::1X", 1),
        ("scale_vec::2X", 2),
        ("scale_vec::4X", 4),
        ("block16", 4),
        ("block32", natural),
    ];
    let count = counts.iter().find(|(word, _)| statement.has(word)).map(|(_, count)| *count);
    let collectors = [
        ("collector::a::fill", Collector::Fill),
        ("collector::a::use", Collector::Use),
        ("collector::a::lastuse", Collector::LastUse),
    ];
    let collector = collectors
        .iter()
        .find(|(word, _)| statement.has(word))
        .map_or(Collector::Discard, |(_, collector)| *collector);
    let address = |operand: &Operand| scope.address(operand, Space::Generic);
    let [d, a, b, idesc, rest @ ..] = statement.operands.as_slice() else {
        return Err(unsupported());
    };
    let a = match a {
        Operand::Address(..) => A::Tensor(address(a)?),
        _ => A::Shared(scope.value(a, 64)?),
    };
    let (scales, rest) = match rest {
        [sfa, sfb, rest @ ..] if kind.is_scaled() => (Some((address(sfa)?, address(sfb)?)), rest),
        _ if kind.is_scaled() => return Err(unsupported()),
        rest => (None, rest),
    };
    let group = group(statement)?;
    let (disabled, rest) = match rest {
        [Operand::Vector(words), rest @ ..] => {
            if words.len() != 4 * group as usize {
                return Err(unsupported());
            }
            let words = words.iter().map(|word| scope.value(word, 32));
            (words.collect::<Result<_>>()?, rest)
        }
        rest => (Vec::new(), rest),
    };
    let (accumulate, shift) = match rest {
        [accumulate] => (accumulate, None),
        [accumulate, shift] if matches!(kind, Kind::F16 | Kind::TF32) => {
            (accumulate, Some(scope.value(shift, 32)?))
        }
        _ => return Err(unsupported()),
    };
    let (accumulate, negated) = match accumulate {
        Operand::Not(register) => (Value::Register(*register), true),
        operand => (scope.value(operand, 1)?, false),
    };
    let (d, b, instruction) = (address(d)?, scope.value(b, 64)?, scope.value(idesc, 32)?);
    Ok(Op {
        kind,
        group,
        count,
        collector,
        d,
        a,
        b,
        instruction,
        scales,
        disabled,
        accumulate,
        negated,
        shift,
    })
}
