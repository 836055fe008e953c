//! The exact oracle, and the measures by which a backend is compared with it.

mod bound;
mod compare;
mod exact;
mod integer;
mod mlp;

pub use bound::Bound;
pub use compare::{Comparison, Tolerance, compare, compare_within, ulp_distance};
pub use exact::{exact, exact_into, exact_rows};
pub use mlp::{ExactMlp, MlpRows, mlp};
