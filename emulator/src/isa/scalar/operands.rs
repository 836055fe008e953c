//! Operands of scalar instructions, and closures over all lanes.

use std::sync::Arc;

use super::lanes::{ALL, Code, Lanes, Op, RANKS, shared_addresses, unsupported};
use crate::fault::Result;
use crate::float::half::{Bf16, F16};
use crate::float::round::Mode;
use crate::isa::scope::Scope;
use crate::isa::value::{LANES, Value};
use crate::ptx::{Class, Operand, Register, Statement};

/// What a file of registers holds for a lane.
pub trait Bits: Copy + Default + Send + Sync + 'static {
    /// The class of its registers.
    const CLASS: Class;
    /// The lanes of a register.
    fn lanes<'a>(lanes: &'a Lanes<'_>, index: usize) -> &'a [Self; LANES];
    /// The lanes of a register, to write.
    fn lanes_mut<'a>(lanes: &'a mut Lanes<'_>, index: usize) -> &'a mut [Self; LANES];
    /// From the low bits.
    fn from_low(bits: u64) -> Self;
}

macro_rules! bits {
    ($type:ty, $class:ident, $file:ident) => {
        impl Bits for $type {
            const CLASS: Class = Class::$class;
            #[inline(always)]
            fn lanes<'a>(lanes: &'a Lanes<'_>, index: usize) -> &'a [Self; LANES] {
                &lanes.$file[index]
            }
            #[inline(always)]
            fn lanes_mut<'a>(lanes: &'a mut Lanes<'_>, index: usize) -> &'a mut [Self; LANES] {
                &mut lanes.$file[index]
            }
            fn from_low(bits: u64) -> Self {
                bits as Self
            }
        }
    };
}
bits!(u32, Word, words);
bits!(u64, Double, doubles);
bits!(u128, Quad, quads);

/// How an instruction reads the bits of a register.
pub trait Type: Copy + Send + Sync + 'static {
    /// What the register holds.
    type Bits: Bits;
    /// For literals.
    const WIDTH: u32;
    /// The value of the low bits.
    fn read(bits: Self::Bits) -> Self;
    /// Bits with zeros above.
    fn show(self) -> Self::Bits;
}

macro_rules! types {
    ($($type:ty, $bits:ty, $width:literal, $bits_in:ident => $read:expr, $value:ident => $show:expr;)*) => {
        $(impl Type for $type {
            type Bits = $bits;
            const WIDTH: u32 = $width;
            #[inline(always)]
            fn read($bits_in: $bits) -> Self {
                $read
            }
            #[inline(always)]
            fn show(self) -> $bits {
                let $value = self;
                $show
            }
        })*
    };
}
types! {
    u8, u32, 8, bits => bits as u8, value => u32::from(value);
    i8, u32, 8, bits => bits as i8, value => u32::from(value as u8);
    u16, u32, 16, bits => bits as u16, value => u32::from(value);
    i16, u32, 16, bits => bits as i16, value => u32::from(value as u16);
    u32, u32, 32, bits => bits, value => value;
    i32, u32, 32, bits => bits as i32, value => value as u32;
    u64, u64, 64, bits => bits, value => value;
    i64, u64, 64, bits => bits as i64, value => value as u64;
    u128, u128, 128, bits => bits, value => value;
    f32, u32, 32, bits => f32::from_bits(bits), value => value.to_bits();
    f64, u64, 64, bits => f64::from_bits(bits), value => value.to_bits();
    F16, u32, 16, bits => F16(bits as u16), value => u32::from(value.0);
    Bf16, u32, 16, bits => Bf16(bits as u16), value => u32::from(value.0);
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub enum Source<B> {
    /// The index of a register.
    Register(usize),
    /// The same in all lanes.
    Constant(Box<[B; LANES]>),
    /// The same in all lanes, by rank of the thread block.
    ByRank(Box<[[B; LANES]]>),
}

impl<B: Bits> Source<B> {
    /// The value in all lanes.
    #[inline(always)]
    pub fn get<'a>(&'a self, lanes: &'a Lanes<'_>) -> &'a [B; LANES] {
        match self {
            Self::Register(index) => B::lanes(lanes, *index),
            Self::Constant(values) => values,
            Self::ByRank(values) => &values[(lanes.rank % RANKS) as usize],
        }
    }
}

impl Lanes<'_> {
    /// Writes the lanes that execute.
    #[inline(always)]
    pub fn write<B: Bits>(&mut self, into: Option<usize>, values: &[B; LANES]) {
        let mask = self.mask;
        let Some(into) = into else { return };
        let into = B::lanes_mut(self, into);
        if mask == ALL {
            *into = *values;
            return;
        }
        for (lane, (into, value)) in into.iter_mut().zip(values).enumerate() {
            *into = if mask >> lane & 1 != 0 { *value } else { *into };
        }
    }

    /// A predicate in all lanes.
    #[inline(always)]
    pub fn predicate(&self, from: Predicate) -> u32 {
        match from {
            Predicate::Register { index, negated: false } => self.predicates[index],
            Predicate::Register { index, negated: true } => !self.predicates[index],
            Predicate::Constant(mask) => mask,
        }
    }

    /// Writes a predicate of the lanes that execute.
    #[inline(always)]
    pub fn write_predicate(&mut self, into: Option<usize>, value: u32) {
        if let Some(into) = into {
            let word = &mut self.predicates[into];
            *word = *word & !self.mask | value & self.mask;
        }
    }
}

/// A predicate operand.
#[derive(Clone, Copy, Debug)]
pub enum Predicate {
    /// A register.
    Register {
        /// Which.
        index: usize,
        /// `!%p1`
        negated: bool,
    },
    /// All lanes, or none.
    Constant(u32),
}

/// A statement to lower.
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    /// The statement.
    pub statement: &'a Statement,
    /// Its surroundings.
    pub scope: &'a Scope<'a>,
}

impl<'a> Build<'a> {
    /// The last word of the opcode: the type.
    pub fn kind(&self) -> &'a str {
        self.statement.suffixes.last().map_or("", String::as_str)
    }

    /// Whether the opcode has one of the words.
    pub fn has_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.statement.has(word))
    }

    /// The mode of rounding in the opcode.
    pub fn mode(&self) -> Option<Mode> {
        self.statement.suffixes.iter().find_map(|word| match word.as_str() {
            "rn" | "rni" => Some(Mode::Nearest),
            "rz" | "rzi" => Some(Mode::Zero),
            "rm" | "rmi" => Some(Mode::Down),
            "rp" | "rpi" => Some(Mode::Up),
            "rna" => Some(Mode::Away),
            _ => None,
        })
    }

    /// An operand.
    pub fn operand(&self, index: usize) -> Result<&'a Operand> {
        self.statement.operands.get(index).ok_or_else(|| unsupported("too few operands"))
    }

    /// Refuses another number of operands, of which some would not be looked at.
    fn takes(&self, count: usize) -> Result<()> {
        match self.count() == count {
            true => Ok(()),
            false => Err(unsupported("another number of operands")),
        }
    }

    /// How many operands there are.
    pub fn count(&self) -> usize {
        self.statement.operands.len()
    }

    /// A source of a type.
    pub fn source<T: Type>(&self, index: usize) -> Result<Source<T::Bits>> {
        self.source_of::<T>(self.operand(index)?)
    }

    /// An operand as a source of a type.
    pub fn source_of<T: Type>(&self, operand: &Operand) -> Result<Source<T::Bits>> {
        match self.scope.value(operand, T::WIDTH)? {
            Value::Register(register) => Ok(Source::Register(index_of::<T::Bits>(register)?)),
            Value::Constant(bits) => {
                Ok(Source::Constant(Box::new([T::Bits::from_low(bits); LANES])))
            }
            Value::Shared(offset) => Ok(Source::ByRank(
                shared_addresses(offset)
                    .map(|address| [T::Bits::from_low(u64::from(address)); LANES])
                    .collect(),
            )),
            Value::Special(_) => Err(unsupported("a special register outside of mov")),
        }
    }

    /// A destination of a type; nothing for the sink.
    pub fn result<T: Type>(&self, index: usize) -> Result<Option<usize>> {
        match self.operand(index)? {
            Operand::Register(register) => Ok(Some(index_of::<T::Bits>(*register)?)),
            Operand::Sink => Ok(None),
            _ => Err(unsupported("a destination that is no register")),
        }
    }

    /// A predicate source.
    pub fn predicate(&self, index: usize) -> Result<Predicate> {
        match self.operand(index)? {
            Operand::Register(Register { class: Class::Predicate, index }) => {
                Ok(Predicate::Register { index: *index as usize, negated: false })
            }
            Operand::Not(Register { class: Class::Predicate, index }) => {
                Ok(Predicate::Register { index: *index as usize, negated: true })
            }
            operand @ Operand::Literal(_) => match self.scope.value(operand, 32)? {
                Value::Constant(0) => Ok(Predicate::Constant(0)),
                _ => Ok(Predicate::Constant(ALL)),
            },
            _ => Err(unsupported("a source that is no predicate")),
        }
    }

    /// A predicate destination.
    pub fn predicate_result(&self, index: usize) -> Result<Option<usize>> {
        match self.operand(index)? {
            Operand::Register(register) => predicate_index(*register).map(Some),
            Operand::Sink => Ok(None),
            _ => Err(unsupported("a destination that is no predicate")),
        }
    }

    /// `d = f(a)`
    pub fn unary<A: Type, D: Type>(
        &self,
        f: impl Fn(A) -> D + Send + Sync + 'static,
    ) -> Result<Op> {
        self.takes(2)?;
        let (into, a) = (self.result::<D>(0)?, self.source::<A>(1)?);
        Ok(code(move |lanes| {
            let a = a.get(lanes);
            let mut values = [D::Bits::default(); LANES];
            for (value, a) in values.iter_mut().zip(a) {
                *value = f(A::read(*a)).show();
            }
            lanes.write(into, &values);
        }))
    }

    /// `d = f(a, b)`
    pub fn binary<A: Type, B: Type, D: Type>(
        &self,
        f: impl Fn(A, B) -> D + Send + Sync + 'static,
    ) -> Result<Op> {
        self.takes(3)?;
        let (into, a, b) = (self.result::<D>(0)?, self.source::<A>(1)?, self.source::<B>(2)?);
        Ok(code(move |lanes| {
            let (a, b) = (a.get(lanes), b.get(lanes));
            let mut values = [D::Bits::default(); LANES];
            for (lane, value) in values.iter_mut().enumerate() {
                *value = f(A::read(a[lane]), B::read(b[lane])).show();
            }
            lanes.write(into, &values);
        }))
    }

    /// `d = f(a, b, c)`
    pub fn ternary<A: Type, B: Type, C: Type, D: Type>(
        &self,
        f: impl Fn(A, B, C) -> D + Send + Sync + 'static,
    ) -> Result<Op> {
        // The table of lop3 is no source.
        self.takes(if self.statement.family == "lop3" { 5 } else { 4 })?;
        let (into, a, b) = (self.result::<D>(0)?, self.source::<A>(1)?, self.source::<B>(2)?);
        let c = self.source::<C>(3)?;
        Ok(code(move |lanes| {
            let (a, b, c) = (a.get(lanes), b.get(lanes), c.get(lanes));
            let mut values = [D::Bits::default(); LANES];
            for (lane, value) in values.iter_mut().enumerate() {
                *value = f(A::read(a[lane]), B::read(b[lane]), C::read(c[lane])).show();
            }
            lanes.write(into, &values);
        }))
    }

    /// `d = f(a, b, c, e)`
    pub fn quaternary<A: Type, B: Type, C: Type, E: Type, D: Type>(
        &self,
        f: impl Fn(A, B, C, E) -> D + Send + Sync + 'static,
    ) -> Result<Op> {
        self.takes(5)?;
        let (into, a, b) = (self.result::<D>(0)?, self.source::<A>(1)?, self.source::<B>(2)?);
        let (c, e) = (self.source::<C>(3)?, self.source::<E>(4)?);
        Ok(code(move |lanes| {
            let (a, b, c, e) = (a.get(lanes), b.get(lanes), c.get(lanes), e.get(lanes));
            let mut values = [D::Bits::default(); LANES];
            for (lane, value) in values.iter_mut().enumerate() {
                let (a, b) = (A::read(a[lane]), B::read(b[lane]));
                *value = f(a, b, C::read(c[lane]), E::read(e[lane])).show();
            }
            lanes.write(into, &values);
        }))
    }
}

/// The index of a register whose class holds such bits.
pub fn index_of<B: Bits>(register: Register) -> Result<usize> {
    if register.class == B::CLASS {
        Ok(register.index as usize)
    } else {
        Err(unsupported("a register of another width"))
    }
}

/// The index of a predicate.
pub fn predicate_index(register: Register) -> Result<usize> {
    match register.class {
        Class::Predicate => Ok(register.index as usize),
        _ => Err(unsupported("a destination that is no predicate")),
    }
}

/// A closure as an operation.
pub fn code(f: impl Fn(&mut Lanes<'_>) + Send + Sync + 'static) -> Op {
    let code: Code = Arc::new(f);
    Op::Code(code)
}
