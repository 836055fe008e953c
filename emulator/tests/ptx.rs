//! The parser on PTX that nvcc wrote, as it is and damaged.

use emulator::fault::Result;
use emulator::ptx::{Base, Class, Literal, Module, Operand, Register, Space, Symbol, parse};
use proptest::prelude::*;

/// From `data/ptx/features.cu`, by `data/ptx/make.sh`.
const FEATURES: &str = include_str!("data/ptx/features.ptx");

#[test]
fn what_nvcc_writes_is_understood() -> Result<()> {
    let module = parse(FEATURES)?;
    assert_eq!(module.version, (9, 5));
    assert_eq!(module.target, "sm_100a");
    assert_eq!(module.files, [(1, "features.cu".to_owned())]);
    let variable = |name: &str| module.variables.iter().find(|variable| variable.name == name);

    let table = variable("table").map(|v| (v.space, v.size, v.align, v.initial.clone()));
    let first = [1, 0, 0, 0, 2, 0, 0, 0, 253, 255, 255, 255];
    assert_eq!(table, Some((Space::Global, 16, 4, first.to_vec())));
    let places = variable("places").map(|v| (v.space, v.relocations.clone(), v.initial.clone()));
    let expected = [(0, "table".to_owned()), (8, "table".to_owned())];
    let offsets = [0_u64, 8].map(u64::to_le_bytes).concat();
    assert_eq!(places, Some((Space::Const, expected.to_vec(), offsets)));
    let tenth = variable("tenth").map(|v| v.initial.clone());
    assert_eq!(tenth, Some(0.1_f64.to_le_bytes().to_vec()));
    let dynamic = variable("dynamic").map(|v| (v.space, v.size, v.align, v.is_extern));
    assert_eq!(dynamic, Some((Space::Shared, 0, 16, true)));

    let kernel = module.functions.iter().find(|function| function.is_entry);
    assert_eq!(kernel.map(|kernel| kernel.max_threads), Some(Some(128)));
    assert_eq!(kernel.map(|kernel| kernel.required_cluster), Some(Some([2, 1, 1])));
    let sizes = kernel.map(|kernel| kernel.parameters.iter().map(|p| p.size).collect::<Vec<_>>());
    assert_eq!(sizes, Some(vec![8, 24, 4, 8]));
    let loads = kernel.into_iter().flat_map(|kernel| &kernel.body);
    let wrong = loads.filter(|s| s.operands.contains(&Operand::Label(usize::MAX))).count();
    assert_eq!(wrong, 0);
    let lines = kernel.into_iter().flat_map(|kernel| &kernel.body).filter_map(|s| s.source);
    assert!(lines.clone().all(|(file, _)| file == 1));
    assert!(lines.max() > Some((1, 55)));
    Ok(())
}

/// The statements of one kernel around a body, and its module.
fn body(text: &str) -> Result<Module> {
    parse(&format!(
        ".version 9.0 .target sm_100a .address_size 64 .visible .entry k() {{ {text} }}"
    ))
}

fn register(class: Class, index: u32) -> Operand {
    Operand::Register(Register { class, index })
}

#[test]
fn blocks_have_names_of_their_own() -> Result<()> {
    // Both blocks and the body have a label L and a register r; the first block jumps out of itself.
    let module = body(
        ".reg .b32 r; L: mov.b32 r, 1; \
         { .reg .b32 r; .reg .pred p; L: mov.b32 r, 2; @p bra L; @!p bra OUT; } \
         { .reg .b32 r; bra L; L: mov.b32 r, 3; } \
         bra L; OUT:",
    )?;
    let statements = &module.functions[0].body;
    let operands: Vec<_> = statements.iter().map(|s| s.operands[0].clone()).collect();
    let word = |index| register(Class::Word, index);
    let label = Operand::Label;
    let expected = [word(0), word(1), label(1), label(7), label(5), word(2), label(0)];
    assert_eq!(operands, expected);
    assert_eq!(module.registers, [1, 3, 0, 0]);
    assert!(statements[2].guard.is_some_and(|guard| !guard.negated));
    assert!(statements[3].guard.is_some_and(|guard| guard.negated));
    Ok(())
}

#[test]
fn operands_of_all_kinds() -> Result<()> {
    let module = body(
        ".reg .pred %p<3>; .reg .b64 %rd<2>; .reg .b32 %r<12>; .reg .b128 q; .shared .b32 s[4]; \
         shfl.sync.idx.b32 %r4|%p2, %r3, 0, 0x1F, -1; elect.sync _|%p1, %r11; \
         cp.async.bulk.tensor.2d.shared::cluster.global [%r1],[%rd1+64, {%r2, 5}], [s+8]; \
         tcgen05.ld.sync.aligned.32x32b.x2.b32{%r1, %r2}, [%r3 + -4]; \
         mov.b128 q, {%rd0, _}; setp.eq.and.f32 %p0, %r1, 0f3F800000, !%p1; \
         mov.f64 %rd1, -1.5; mov.u32 %r1, %ctaid.z; mov.u32 %r1, WARP_SZ; ld.global.b32 %r1, [4096]; \
         mov.b32 %r1, s+4; add.s32 %r1, %r1, (1+(2-5));",
    )?;
    let word = |index| register(Class::Word, index);
    let registers = |index| Register { class: Class::Word, index };
    let predicate = |index| Register { class: Class::Predicate, index };
    let double = Register { class: Class::Double, index: 1 };
    let integer = |value: i64| Operand::Literal(Literal::Integer(value as u64));
    let list: Vec<_> = module.functions[0].body.iter().map(|s| s.operands.as_slice()).collect();
    let pair = Operand::Pair(Some(registers(4)), Some(predicate(2)));
    assert_eq!(list[0], [pair, word(3), integer(0), integer(31), integer(-1)]);
    assert_eq!(list[1], [Operand::Pair(None, Some(predicate(1))), word(11)]);
    let coordinates = vec![word(2), integer(5)];
    let symbol = Symbol::Local(0);
    let address = |index| Operand::Address(Base::Register(registers(index)), 0);
    let tensor = Operand::TensorAddress(Base::Register(double), 64, coordinates);
    let barrier = Operand::Address(Base::Symbol(symbol), 8);
    assert_eq!(list[2], [address(1), tensor, barrier]);
    let from = Operand::Address(Base::Register(registers(3)), -4);
    assert_eq!(list[3], [Operand::Vector(vec![word(1), word(2)]), from]);
    let halves = vec![register(Class::Double, 0), Operand::Sink];
    assert_eq!(list[4], [register(Class::Quad, 0), Operand::Vector(halves)]);
    let one = Operand::Literal(Literal::Single(0x3F80_0000));
    assert_eq!(list[5][1..], [word(1), one, Operand::Not(predicate(1))]);
    assert_eq!(list[6][1], Operand::Literal(Literal::Double((-1.5_f64).to_bits())));
    assert_eq!(list[7][1], Operand::Special(emulator::ptx::Special::Ctaid(2)));
    assert_eq!(list[8][1], integer(32));
    assert_eq!(list[9][1], Operand::Address(Base::Absolute, 4096));
    assert_eq!(list[10][1], Operand::Symbol(symbol, 4));
    assert_eq!(list[11][2], integer(-2));
    Ok(())
}

#[test]
fn calls_and_tables_of_targets() -> Result<()> {
    let module = parse(
        ".version 9.0 .target sm_90 .address_size 64 \
         .func (.param .b32 result) f(.param .b32 a, .param .align 8 .b8 b[24]) .noreturn ; \
         .func g() ; .alias g, h; \
         .entry k() { .reg .b64 %rd<1>; .reg .b32 %r<1>; { .param .b32 a; .param .b32 r; \
         call.uni (r), f, (a, a); P: .callprototype (.param .b32 _) _ (.param .b32 _); \
         call (r), %rd0, (a), P; call later; call g; } \
         T: .branchtargets A, B, A; brx.idx %r0, T; A: ret; B: exit; } \
         .func later() { .reg .b32 %r<5>; mov.b32 %r4, 0; } .func h() { ret; }",
    )?;
    let functions: Vec<_> = module.functions.iter().map(|f| (&*f.name, f.is_defined)).collect();
    let names = [("f", false), ("g", true), ("k", true), ("later", true), ("h", true)];
    assert_eq!(functions, names);
    let body = &module.functions[2].body;
    let list = |locals: &[usize]| {
        Operand::List(locals.iter().map(|at| Operand::Symbol(Symbol::Local(*at), 0)).collect())
    };
    let function = |index| Operand::Symbol(Symbol::Function(index), 0);
    assert_eq!(body[0].operands, [list(&[1]), function(0), list(&[0, 0])]);
    // The registers of kernels come after those of functions.
    assert_eq!(body[1].operands, [list(&[1]), register(Class::Double, 0), list(&[0])]);
    assert_eq!(body[2].operands, [function(3)]);
    assert_eq!(body[3].operands, [function(1)]);
    assert_eq!(body[4].operands, [register(Class::Word, 5), Operand::Targets(vec![5, 6, 5])]);
    assert_eq!(module.registers, [0, 6, 1, 0]);
    Ok(())
}

#[test]
fn first_bytes_of_variables() -> Result<()> {
    let module = parse(
        ".version 9.0 .target sm_90 .address_size 64 \
         .global .align 1 .b8 packed[9] = {7, 0xFF(f), 0xFF00(f), 0xFF0000(f), 0xFF000000(f), \
         0xFF00000000(f), 0xFF0000000000(f), 0xFF000000000000(f), 0xFF00000000000000(f)}; \
         .const .f32 half[3] = {0.5, 0f3F800000}; .global .s16 rows[2][3] = {{-1}, {1, 2}}; \
         .global .b32 open[] = {1, 2, 3}; .global .align 8 .u64 at = generic(rows)+4; \
         .global .v4 .f32 vectors[2] = {{1.0, 2.0, 3.0, 4.0}}; .common .global .b64 a, b; \
         .extern .global .b32 later; .visible .global .b32 later = 5;",
    )?;
    let of = |index: usize| {
        let variable = &module.variables[index];
        (&*variable.name, variable.size, variable.align, variable.initial.clone())
    };
    assert_eq!(of(0), ("packed", 9, 1, vec![7, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(module.variables[0].relocations, [(1, "f".to_owned())]);
    assert_eq!(of(1), ("half", 12, 4, [0.5_f32, 1.0].map(f32::to_le_bytes).concat()));
    assert_eq!(of(2), ("rows", 12, 2, vec![255, 255, 0, 0, 0, 0, 1, 0, 2, 0]));
    assert_eq!(of(3), ("open", 12, 4, [1_u32, 2, 3].map(u32::to_le_bytes).concat()));
    assert_eq!(of(4), ("at", 8, 8, vec![4, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(of(5), ("vectors", 32, 16, [1.0_f32, 2., 3., 4.].map(f32::to_le_bytes).concat()));
    assert_eq!(of(6), ("a", 8, 8, vec![]));
    assert_eq!(of(8), ("later", 4, 4, vec![5, 0, 0, 0]));
    assert_eq!(module.variables.len(), 9);
    Ok(())
}

#[test]
fn errors_say_where_and_what() {
    let message = |text: &str| parse(text).err().map(|fault| fault.message).unwrap_or_default();
    let cases = [
        (
            ".version 9.0\n.target sm_90\n.entry k() {\n  mov.b32 %r1, 0;\n}",
            4,
            11,
            "`%r1`, expected a name that is declared",
        ),
        (".entry k() {\n bra L;\n}", 2, 6, "`L`, expected a name that is declared"),
        (
            ".entry k() { .reg .b32 r; mov.b32 r, 5 }",
            1,
            40,
            "`}`, expected `,` or `;` after an operand",
        ),
        (".entry k() { .reg .b32 r; @r ret; }", 1, 28, "`r`, expected a predicate after `@`"),
        (".entry k() {", 1, 12, "no `}` closes this block"),
        (".global .b32 x = {1};", 1, 18, "`{`, expected a number or the name of a variable"),
        (".global .b32 x[4611686018427387904];", 1, 14, "the variable is too large"),
        ("nop;", 1, 1, "`nop`, expected a directive, a variable or a function"),
    ];
    for (text, line, column, what) in cases {
        let message = message(text);
        let place = format!("PTX line {line}, column {column}: ");
        assert!(message.starts_with(&place) && message.ends_with(what), "{text}: {message}");
    }
}

/// What the parser makes of a text: nothing but an end is asked for.
fn survives(text: &str) {
    if let Err(fault) = parse(text) {
        assert!(fault.message.starts_with("PTX line "), "{}", fault.message);
    }
}

proptest! {
    #[test]
    fn changed_bytes_are_no_end(
        changes in prop::collection::vec((0..FEATURES.len(), any::<u8>()), 1..12)
    ) {
        let mut bytes = FEATURES.as_bytes().to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn pieces_in_other_places_are_no_end(
        pieces in prop::collection::vec((0..FEATURES.len(), 1..400_usize), 1..12)
    ) {
        let bytes = FEATURES.as_bytes();
        let pieces = pieces.iter().map(|(at, length)| &bytes[*at..(at + length).min(bytes.len())]);
        survives(&String::from_utf8_lossy(&pieces.collect::<Vec<_>>().concat()));
    }

    #[test]
    fn signs_in_the_middle_are_no_end(
        at in 0..FEATURES.len(),
        signs in "[{}()\\[\\]<>,;:.@!|+=~\"%_0-9a-z -]{1,20}",
    ) {
        let (before, after) = FEATURES.as_bytes().split_at(at);
        survives(&String::from_utf8_lossy(&[before, signs.as_bytes(), after].concat()));
    }
}
