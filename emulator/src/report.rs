//! What kernels did, for people, and the time on a B200 that is modelled from it.

mod model;
mod record;

pub use model::{Bound, Model};
pub use record::{Entry, Report, note, noted};
