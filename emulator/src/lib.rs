//! A functional B200 (and H100) on a CPU.
//!
//! The library stands in for `libcudart.so.13`: a program that nvcc built with `-cudart shared` and embedded PTX runs
//! unmodified when this library comes first on its search path. Data flows one way:
//!
//! fat binary ([`fatbin`]) → PTX text → [`ptx::Module`] → [`isa::Program`] → [`execute::launch`], where each cluster of
//! thread blocks is interpreted warp by warp.
//!
//! The modules stand on floors, and each uses only those below it: [`runtime`] (the interface that programs call) on
//! [`execute`] (what instructions do, and whose turn it is) on [`machine`] (the state) on [`isa`] (what instructions are)
//! on [`ptx`]. On the ground is what knows of none of them, such as the arithmetic of the tensor cores ([`tensor`]).
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
