//! The registers of a warp: for each virtual register the values of all 32 lanes.

use crate::isa::value::{LANES, Value};
use crate::ptx::{Class, Register};

/// Files by class. A predicate is one bit for each lane.
#[derive(Clone, Debug, Default, Hash)]
pub struct Registers {
    /// `.pred`
    pub predicates: Vec<u32>,
    /// Up to 32 bits; narrower values have zeros above.
    pub words: Vec<[u32; LANES]>,
    /// `.b64`
    pub doubles: Vec<[u64; LANES]>,
    /// `.b128`
    pub quads: Vec<[u128; LANES]>,
}

impl Registers {
    /// Zeroed registers: predicates, words, doubles, quads.
    pub fn new(counts: [u32; 4]) -> Self {
        let [predicates, words, doubles, quads] = counts.map(|count| count as usize);
        Self {
            predicates: vec![0; predicates],
            words: vec![[0; LANES]; words],
            doubles: vec![[0; LANES]; doubles],
            quads: vec![[0; LANES]; quads],
        }
    }

    /// The low 64 bits of a register in a lane.
    pub fn get(&self, register: Register, lane: usize) -> u64 {
        let index = register.index as usize;
        match register.class {
            Class::Predicate => u64::from(self.predicates[index] >> lane & 1),
            Class::Word => u64::from(self.words[index][lane]),
            Class::Double => self.doubles[index][lane],
            Class::Quad => self.quads[index][lane] as u64,
        }
    }

    /// Writes a register in a lane; bits that it has no room for are dropped.
    pub fn set(&mut self, register: Register, lane: usize, value: u64) {
        let index = register.index as usize;
        match register.class {
            Class::Predicate => {
                let bit = 1 << lane;
                let word = &mut self.predicates[index];
                *word = if value & 1 != 0 { *word | bit } else { *word & !bit };
            }
            Class::Word => self.words[index][lane] = value as u32,
            Class::Double => self.doubles[index][lane] = value,
            Class::Quad => self.quads[index][lane] = u128::from(value),
        }
    }

    /// A value that is no special register and no address; `None` for those.
    pub fn plain(&self, value: Value, lane: usize) -> Option<u64> {
        match value {
            Value::Register(register) => Some(self.get(register, lane)),
            Value::Constant(bits) => Some(bits),
            Value::Special(_) | Value::Shared(_) => None,
        }
    }
}
