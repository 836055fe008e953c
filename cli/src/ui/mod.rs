//! What people see: reports on stdout, progress on stderr.

pub mod output;
pub mod progress;
pub mod table;
