//! Where the variables of a module live.
//!
//! Shared: variables of the module and of functions from [`SHARED_RESERVED`], then those of each kernel, then its
//! dynamic shared memory. Local memory and the `.param` variables of functions and calls: those of functions first,
//! then those of the kernel; each function has one frame, so that recursion is refused.

use crate::fault::{Fault, FaultKind, Result};
use crate::isa::address::SHARED_RESERVED;
use crate::ptx::{Module, Operand, Space, Symbol, Variable};

/// Offset in the space of parameters at which `.param` variables of functions and calls begin: above all parameters
/// of a kernel, which are 32764 bytes at most. They are in the memory of the thread, after its local memory.
pub const CALL_PARAMETERS: u32 = 0x1_0000;

/// Dynamic shared memory begins at a multiple of this many bytes.
const DYNAMIC_ALIGNMENT: u32 = 1024;

/// The address of a variable in its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceOf {
    /// Offset in shared memory.
    Shared(u32),
    /// Of any other space.
    Plain(u64),
}

/// Places of a function.
#[derive(Clone, Debug, Default)]
pub struct FunctionLayout {
    /// Offsets in the space of parameters.
    pub parameters: Vec<u32>,
    /// Offsets in the space of parameters.
    pub results: Vec<u32>,
    /// By index.
    pub locals: Vec<Option<PlaceOf>>,
    /// Bytes of static shared memory, of a kernel.
    pub static_shared: u32,
    /// Offset of dynamic shared memory, of a kernel.
    pub dynamic_shared: u32,
    /// Bytes of local memory, of a kernel with all functions.
    pub local: u32,
    /// Bytes of `.param` variables of calls, of a kernel with all functions.
    pub call_bytes: u32,
}

/// Places of a module.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Of variables of the module; dynamic shared memory has a place for each kernel.
    pub variables: Vec<Option<PlaceOf>>,
    /// By index.
    pub functions: Vec<FunctionLayout>,
    /// Names of shared variables by offset.
    pub shared_names: Vec<(u32, String)>,
}

/// Hands out consecutive places.
#[derive(Clone, Copy, Debug)]
struct Cursor(u32);

impl Cursor {
    fn place(&mut self, variable: &Variable) -> Result<u32> {
        let align = variable.align.max(1);
        let at = self.0.checked_next_multiple_of(align);
        let end = at.and_then(|at| at.checked_add(u32::try_from(variable.size).ok()?));
        match (at, end) {
            (Some(at), Some(end)) => {
                self.0 = end;
                Ok(at)
            }
            _ => Err(Fault::new(
                FaultKind::Launch,
                format!("{} bytes for {} are too many", variable.size, variable.name),
            )),
        }
    }
}

/// Whether a variable is dynamic shared memory.
pub fn is_dynamic(variable: &Variable) -> bool {
    variable.space == Space::Shared && (variable.is_extern || variable.size == 0)
}

impl Layout {
    /// Places everything; `place` gives addresses of global variables by name.
    pub fn new(module: &Module, place: &dyn Fn(&str) -> Option<u64>) -> Result<Self> {
        let mut layout = Self {
            functions: vec![FunctionLayout::default(); module.functions.len()],
            ..Self::default()
        };
        let mut shared = Cursor(SHARED_RESERVED);
        for variable in &module.variables {
            layout.variables.push(match variable.space {
                Space::Shared if is_dynamic(variable) => None,
                Space::Shared => {
                    let at = shared.place(variable)?;
                    layout.shared_names.push((at, variable.name.clone()));
                    Some(PlaceOf::Shared(at))
                }
                _ => place(&variable.name).map(PlaceOf::Plain),
            });
        }
        let (mut local, mut calls) = (Cursor(0), Cursor(CALL_PARAMETERS));
        for (index, function) in module.functions.iter().enumerate() {
            if !function.is_entry {
                for variable in &function.parameters {
                    layout.functions[index].parameters.push(calls.place(variable)?);
                }
                for variable in &function.results {
                    layout.functions[index].results.push(calls.place(variable)?);
                }
                layout.place_locals(module, index, &mut shared, &mut local, &mut calls)?;
            }
        }
        let common = shared.0;
        let has_calls = |index: usize| {
            let body = &module.functions[index].body;
            body.iter().any(|statement| statement.family == "call" || calls_by_address(statement))
        };
        let mut shared_dynamic = dynamic_start(common);
        for (index, function) in module.functions.iter().enumerate() {
            if !function.is_entry {
                continue;
            }
            let mut parameters = Cursor(0);
            for variable in &function.parameters {
                layout.functions[index].parameters.push(parameters.place(variable)?);
            }
            let with_calls = has_calls(index);
            let mut shared = Cursor(common);
            let mut local = if with_calls { local } else { Cursor(0) };
            let mut calls = if with_calls { calls } else { Cursor(CALL_PARAMETERS) };
            layout.place_locals(module, index, &mut shared, &mut local, &mut calls)?;
            let of = &mut layout.functions[index];
            of.static_shared = shared.0 - SHARED_RESERVED;
            of.dynamic_shared = dynamic_start(shared.0);
            // 16 bytes: what a vector access of a call needs, wherever the local memory ends.
            of.local = local.0.next_multiple_of(16);
            of.call_bytes = calls.0 - CALL_PARAMETERS;
            if with_calls {
                shared_dynamic = shared_dynamic.max(of.dynamic_shared);
            }
        }
        // A function may name dynamic shared memory: it begins at one place for all kernels that call.
        for (index, function) in module.functions.iter().enumerate() {
            if !function.is_entry || has_calls(index) {
                layout.functions[index].dynamic_shared = shared_dynamic;
            }
        }
        for variable in module.variables.iter().filter(|variable| is_dynamic(variable)) {
            for (function, layout_of) in module.functions.iter().zip(&layout.functions) {
                if function.is_entry {
                    layout.shared_names.push((layout_of.dynamic_shared, variable.name.clone()));
                }
            }
        }
        layout.shared_names.sort();
        layout.shared_names.dedup();
        Ok(layout)
    }

    fn place_locals(
        &mut self,
        module: &Module,
        index: usize,
        shared: &mut Cursor,
        local: &mut Cursor,
        calls: &mut Cursor,
    ) -> Result<()> {
        for variable in &module.functions[index].locals {
            let place = match variable.space {
                Space::Shared if is_dynamic(variable) => None,
                Space::Shared => {
                    let at = shared.place(variable)?;
                    self.shared_names.push((at, variable.name.clone()));
                    Some(PlaceOf::Shared(at))
                }
                Space::Local => Some(PlaceOf::Plain(u64::from(local.place(variable)?))),
                Space::Param => Some(PlaceOf::Plain(u64::from(calls.place(variable)?))),
                _ => None,
            };
            self.functions[index].locals.push(place);
        }
        Ok(())
    }

    /// Where a variable that a function names is.
    pub fn place(&self, function: usize, symbol: Symbol) -> Option<PlaceOf> {
        let of = self.functions.get(function)?;
        let plain = |offset: &u32| PlaceOf::Plain(u64::from(*offset));
        match symbol {
            Symbol::Global(index) => *self.variables.get(index)?,
            Symbol::Parameter(index) => of.parameters.get(index).map(plain),
            Symbol::Result(index) => of.results.get(index).map(plain),
            Symbol::Local(index) => *of.locals.get(index)?,
            Symbol::Function(_) => None,
        }
    }

    /// Dynamic shared memory as the function sees it.
    pub fn dynamic(&self, function: usize) -> Option<PlaceOf> {
        self.functions.get(function).map(|of| PlaceOf::Shared(of.dynamic_shared))
    }
}

/// Whether a statement takes the address of a function, which may then be called.
fn calls_by_address(statement: &crate::ptx::Statement) -> bool {
    statement
        .operands
        .iter()
        .any(|operand| matches!(operand, Operand::Symbol(Symbol::Function(_), _)))
}

fn dynamic_start(end: u32) -> u32 {
    if end == SHARED_RESERVED { end } else { end.next_multiple_of(DYNAMIC_ALIGNMENT) }
}
