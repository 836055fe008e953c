//! A functional B200 (and H100) on a CPU.
//!
//! The library stands in for `libcudart.so.13`: a program that nvcc built with `-cudart shared` and embedded PTX runs
//! unmodified when this library comes first on its search path. Data flows one way:
//!
//! fat binary ([`fatbin`]) → PTX text → [`ptx::Module`] → [`program::Program`] → [`machine::grid::launch`], where each
//! cluster of thread blocks is interpreted warp by warp ([`execute`]).
//!
//! What it models is the function of the machine, not its time. It knows nothing of any particular kernel.

pub mod counters;
pub mod execute;
pub mod fatbin;
pub mod fault;
pub mod float;
pub mod isa;
pub mod machine;
pub mod ptx;
pub mod report;
pub mod runtime;
pub mod settings;
pub mod tensor;
pub mod tma;
