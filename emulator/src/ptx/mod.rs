//! PTX text as a tree: [`parse()`] makes a [`Module`].
//!
//! The parser knows the statements of PTX, not its instructions: an opcode is its dotted words. Names are resolved
//! here: a register is its class and number, a label the index of a statement, a variable an entry of a table.

mod body;
mod cursor;
mod declare;
mod operand;
mod parse;
mod scope;
mod syntax;
mod token;

pub use parse::parse;
pub use syntax::{
    Base, Class, Function, Guard, Literal, Module, Operand, Register, Space, Special, Statement,
    Symbol, Variable,
};
