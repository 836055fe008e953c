//! The built `nvfp4` binary, as a user calls it: exit codes, JSON, files and error sentences.
#![cfg(unix)]

#[cfg(feature = "bench")]
mod bench;
mod config;
mod doctor;
mod errors;
mod help;
mod mlp;
mod no_rows;
mod quantize;
mod run;
mod support;
mod verify;
mod warnings;
