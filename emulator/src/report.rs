//! What kernels did, for people, and the time on a B200 that is modeled from it.

mod entry;
mod model;
mod record;

pub use entry::Entry;
pub use model::{Bound, Model};
pub use record::{Report, note, noted};
