//! Arithmetic of floating-point numbers, to the bit: rounding in all modes, formats of 16 bits and fewer.

pub mod half;
pub mod round;
pub mod small;
