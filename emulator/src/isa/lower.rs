//! From [`Module`] to [`Program`]: places variables, sends each statement to its family.

use super::layout::Layout;
use super::program::{Instruction, Kernel, Op, Program};
use super::renumber::{Renumbering, for_each_register, renumber};
use super::scope::{Lowered, Scope};
use super::value::Convergence;
use super::{
    address, bulk, clc, control, grammar, matrix, memory, scalar, shuffle, sync, tcgen05, wgmma,
};
use crate::fault::{Fault, Result};
use crate::ptx::{Class, Module, Operand, Statement};

/// Lowers a module. `place` gives the device address of each variable of the module that is in global or constant
/// memory.
pub fn lower(module: &Module, place: &dyn Fn(&str) -> Option<u64>) -> Result<Program> {
    let layout = Layout::new(module, place)?;
    let mut renumbering = Renumbering::default();
    let mut bodies: Vec<Vec<Statement>> = vec![Vec::new(); module.functions.len()];
    // Kernels never run together in one warp: their registers share the numbers above those of the functions.
    let mut kernel_registers = vec![[0; 4]; module.functions.len()];
    for entries in [false, true] {
        if entries {
            renumbering.keep();
        }
        for (index, function) in module.functions.iter().enumerate() {
            if function.is_entry != entries {
                continue;
            }
            if entries {
                renumbering.forget();
            }
            bodies[index] = function.body.iter().map(|s| renumber(s, &mut renumbering)).collect();
            kernel_registers[index] = renumbering.counts();
        }
    }

    let mut starts = Vec::with_capacity(bodies.len());
    let mut places = Vec::with_capacity(bodies.len());
    let mut next = 0;
    for (function, body) in module.functions.iter().zip(&bodies) {
        starts.push(next);
        let mut of_function = Vec::with_capacity(body.len() + 1);
        for statement in body {
            of_function.push(next);
            next += if control::has_results(statement) { 2 } else { 1 };
        }
        of_function.push(next);
        places.push(of_function);
        next += u32::from(function.is_defined);
    }

    let mut program = Program {
        target: module.target.clone(),
        files: module.files.clone(),
        shared_names: layout.shared_names.clone(),
        ..Program::default()
    };
    for (index, function) in module.functions.iter().enumerate() {
        if !function.is_defined {
            continue;
        }
        let scope = Scope {
            module,
            layout: &layout,
            function: index,
            starts: &starts,
            places: &places[index],
        };
        for statement in &bodies[index] {
            program.instructions.push(instruction(statement, lower_statement(statement, &scope)));
            if control::has_results(statement) {
                program.instructions.push(instruction(
                    statement,
                    of(control::lower_results(statement, &scope), Op::Control),
                ));
            }
        }
        let end = function.body.last();
        program.instructions.push(Instruction {
            guard: None,
            convergence: Convergence::None,
            op: Op::Control(control::Op::Return),
            words: Box::default(),
            line: end.map_or(0, |statement| statement.line),
            source: end.and_then(|statement| statement.source),
        });
        let registers = kernel_registers[index];
        for (most, count) in program.registers.iter_mut().zip(registers) {
            *most = (*most).max(count);
        }
        if function.is_entry {
            let mut kernel = kernel(&layout, module, index);
            kernel.start = starts[index];
            kernel.registers = registers;
            program.kernels.insert(function.name.clone(), kernel);
        } else {
            let address = address::function(starts[index]);
            program.functions.insert(function.name.clone(), address);
        }
    }
    Ok(program)
}

fn instruction(statement: &Statement, lowered: Result<(Op, Convergence)>) -> Instruction {
    let (op, convergence) = lowered.unwrap_or_else(|fault| {
        let what = format!("{} ({})", statement.opcode(), fault.message);
        (Op::Control(control::Op::Unsupported(what.into())), Convergence::None)
    });
    let mut words = Vec::new();
    for_each_register(&statement.operands, &mut |register| {
        if register.class == Class::Word && !words.contains(&register.index) {
            words.push(register.index);
        }
    });
    Instruction {
        guard: statement.guard,
        convergence,
        op,
        words: words.into(),
        line: statement.line,
        source: statement.source,
    }
}

/// The operation of a family as one of any.
fn of<O>(lowered: Lowered<O>, op: fn(O) -> Op) -> Result<(Op, Convergence)> {
    lowered.map(|(lowered, convergence)| (lowered.map_or(Op::Nothing, op), convergence))
}

/// Sends a statement to its family.
fn lower_statement(statement: &Statement, scope: &Scope<'_>) -> Result<(Op, Convergence)> {
    grammar::check(statement)?;
    if let Some(name) = statement.operands.iter().find_map(unknown) {
        return Err(Fault::unsupported(format!("special register {name}")));
    }
    match statement.family.as_str() {
        "tcgen05" => of(tcgen05::lower(statement, scope), Op::Tcgen05),
        "wgmma" => of(wgmma::lower(statement, scope), Op::Wgmma),
        "ldmatrix" | "stmatrix" | "movmatrix" | "mma" => {
            of(matrix::lower(statement, scope), Op::Matrix)
        }
        "cp" | "prefetch" | "prefetchu" | "tensormap" | "applypriority" | "discard" => {
            of(bulk::lower(statement, scope), Op::Bulk)
        }
        "clusterlaunchcontrol" => of(clc::lower(statement, scope), Op::Clc),
        "bar" | "barrier" | "mbarrier" | "fence" | "membar" | "griddepcontrol" | "setmaxnreg"
        | "elect" | "mapa" | "getctarank" | "nanosleep" | "pmevent" => {
            of(sync::lower(statement, scope), Op::Sync)
        }
        "red" | "st" if statement.has("async") => of(sync::lower(statement, scope), Op::Sync),
        "shfl" | "vote" | "match" | "activemask" | "redux" => {
            of(shuffle::lower(statement, scope), Op::Shuffle)
        }
        "ld" | "st" | "atom" | "red" | "ldu" | "cvta" | "isspacep" => {
            of(memory::lower(statement, scope), Op::Memory)
        }
        "bra" | "brx" | "call" | "ret" | "exit" | "trap" | "brkpt" => {
            of(control::lower(statement, scope), Op::Control)
        }
        _ => of(scalar::lower(statement, scope), Op::Scalar),
    }
}

/// The first special register in an operand that is not known here.
fn unknown(operand: &Operand) -> Option<&str> {
    match operand {
        Operand::Unknown(name) => Some(name),
        Operand::Vector(list) | Operand::List(list) | Operand::TensorAddress(_, _, list) => {
            list.iter().find_map(unknown)
        }
        _ => None,
    }
}

/// What a launch needs to know of a kernel.
fn kernel(layout: &Layout, module: &Module, index: usize) -> Kernel {
    let function = &module.functions[index];
    let places = &layout.functions[index];
    let offsets = places.parameters.iter().copied();
    let parameters: Vec<(u32, u32)> =
        offsets.zip(function.parameters.iter().map(|v| v.size as u32)).collect();
    Kernel {
        name: function.name.clone(),
        parameter_bytes: parameters.iter().map(|(at, size)| at + size).max().unwrap_or(0),
        parameters,
        static_shared: places.static_shared,
        dynamic_shared: places.dynamic_shared,
        local: places.local,
        call_bytes: places.call_bytes,
        max_threads: function.max_threads,
        required_cluster: function.required_cluster,
        ..Kernel::default()
    }
}
