//! Fat binaries: finds the PTX text of a module.
