//! The C functions, under the names and with the signatures of the headers of CUDA 13.5. Each unpacks its arguments and
//! leaves the work to the rest of `runtime`.
//!
//! A function with a suffix `_ptsz` or `_ptds` is what programs call that were compiled with
//! `--default-stream per-thread`: their stream 0 is the thread's own.

#![allow(non_snake_case)]

mod copy;
mod device;
mod driver;
mod error;
mod event;
mod function;
mod graph;
mod launch;
mod memory;
mod registration;
mod stream;
mod stubs;

/// Functions that fail after a kernel failed.
macro_rules! calls {
    ($($name:ident($($argument:ident: $type:ty),* $(,)?) $body:expr;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: $type),*) -> $crate::runtime::code::Code {
            $crate::runtime::state::enter(stringify!($name), $body)
        }
    )*};
}

/// Functions that work also after a kernel failed.
macro_rules! queries {
    ($($name:ident($($argument:ident: $type:ty),* $(,)?) $body:expr;)*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: $type),*) -> $crate::runtime::code::Code {
            $crate::runtime::state::enter_always(stringify!($name), $body)
        }
    )*};
}

/// Functions that use a stream, in two variants: `name / variant(arguments) handle => |runtime, stream| body`.
macro_rules! queued {
    ($(
        $name:ident / $variant:ident($($argument:ident: $type:ty),* $(,)?) $handle:expr =>
            |$runtime:ident, $stream:ident| $body:block
    )*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: $type),*) -> $crate::runtime::code::Code {
            $crate::runtime::state::enter(stringify!($name), |$runtime| {
                let $stream = $runtime.stream($handle, false);
                $body
            })
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn $variant($($argument: $type),*) -> $crate::runtime::code::Code {
            $crate::runtime::state::enter(stringify!($variant), |$runtime| {
                let $stream = $runtime.stream($handle, true);
                $body
            })
        }
    )*};
}

use {calls, queries, queued};
