//! The checks of order: for each rule a program that keeps it, and mutants that break it and have to be found.

mod asynchronous;
mod program;
#[path = "../support/mod.rs"]
mod support;
mod threads;
