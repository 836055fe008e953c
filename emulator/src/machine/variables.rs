//! First values of variables in global and constant memory.

use crate::fault::{Fault, Result};
use crate::isa::Program;
use crate::machine::global::GlobalMemory;
use crate::ptx::{Module, Space};

/// Writes the first values of all variables to the places that `place` gave to [`crate::isa::lower`].
pub fn write(
    module: &Module,
    program: &Program,
    memory: &GlobalMemory,
    place: &dyn Fn(&str) -> Option<u64>,
) -> Result<()> {
    for variable in &module.variables {
        if !matches!(variable.space, Space::Global | Space::Const) {
            continue;
        }
        let Some(address) = place(&variable.name) else { continue };
        memory.fill(address, 0, variable.size)?;
        memory.write(address, &variable.initial)?;
        for (offset, name) in &variable.relocations {
            let target = place(name).or_else(|| program.functions.get(name).copied());
            let Some(target) = target else {
                let what = format!("the address of {name} as a first value of {}", variable.name);
                return Err(Fault::unsupported(what));
            };
            // What is there already is an offset to the address.
            let mut word = [0; 8];
            memory.read(address + offset, &mut word, false)?;
            let value = u64::from_le_bytes(word).wrapping_add(target);
            memory.write(address + offset, &value.to_le_bytes())?;
        }
    }
    Ok(())
}
