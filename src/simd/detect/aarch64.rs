//! The same of CPUs with NEON.

#[cfg(target_arch = "aarch64")]
mod here {
    use std::arch::is_aarch64_feature_detected;

    /// What code for NEON alone needs.
    pub fn neon() -> Option<String> {
        if cfg!(target_endian = "big") {
            return Some("kernels for NEON are for little-endian systems only".to_owned());
        }
        missing("NEON", is_aarch64_feature_detected!("neon"))
    }

    /// What code with dot products needs.
    pub fn dotprod() -> Option<String> {
        neon().or_else(|| missing("FEAT_DotProd", is_aarch64_feature_detected!("dotprod")))
    }

    /// What code with products of matrices needs.
    pub fn i8mm() -> Option<String> {
        dotprod().or_else(|| missing("FEAT_I8MM", is_aarch64_feature_detected!("i8mm")))
    }

    fn missing(name: &str, there: bool) -> Option<String> {
        (!there).then(|| format!("the CPU has no {name}"))
    }
}

#[cfg(not(target_arch = "aarch64"))]
mod here {
    pub fn neon() -> Option<String> {
        Some("not an aarch64 CPU".to_owned())
    }
    pub fn dotprod() -> Option<String> {
        neon()
    }
    pub fn i8mm() -> Option<String> {
        neon()
    }
}

pub(crate) use here::{dotprod, i8mm, neon};
