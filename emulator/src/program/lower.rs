//! From [`Module`](crate::ptx::Module) to [`Program`]: places variables, sends each statement to its family.

use super::{Address, Program, Value};
use crate::fault::{Fault, Result};
use crate::ptx::{Module, Operand, Space, Symbol};

/// What a family needs to know of the surroundings of a statement.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The module.
    pub module: &'a Module,
}

impl Scope<'_> {
    /// A register, number, special register or address of a variable as a value. Literals become the bits of a type
    /// of `bits` bits; a floating-point type takes single and double literals.
    pub fn value(&self, _operand: &Operand, _bits: u32) -> Result<Value> {
        Err(Fault::unsupported("value"))
    }

    /// `[base+offset]`
    pub fn address(&self, _operand: &Operand, _space: Space) -> Result<Address> {
        Err(Fault::unsupported("address"))
    }

    /// Index of the first instruction of a function.
    pub fn function(&self, _symbol: Symbol) -> Result<u32> {
        Err(Fault::unsupported("function"))
    }
}

/// Lowers a module. `place` gives the device address of each variable of the module that is in global or constant
/// memory.
pub fn lower(_module: &Module, _place: &dyn Fn(&str) -> Option<u64>) -> Result<Program> {
    Err(Fault::unsupported("lower"))
}
