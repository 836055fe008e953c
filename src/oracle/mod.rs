//! The exact oracle, and the measures by which a backend is compared with it.

mod compare;
mod exact;

pub use compare::{Comparison, Tolerance, compare, ulp_distance};
pub use exact::{exact, exact_into, exact_rows};
