//! The outcome of a check in a report, and what becomes of a result that failed it.

use std::path::Path;

use nvfp4_dual_gemm::Backend;
use nvfp4_harness::check::Check;

use crate::ui::output::{Shown, Style};

/// What is said instead of a check of the oracle.
pub const OF_THE_ORACLE: &str = "none: the oracle is what others are compared with";

/// The outcome of a check as lines of a report.
pub fn fields(check: Option<&Check>, backend: Backend) -> Vec<(&'static str, String)> {
    match check {
        Some(check) => {
            let outcome = format!("{}, {}", Style::verdict(check.pass), check.extent());
            let mut fields = vec![("check", outcome)];
            if check.elements > 0 {
                fields.push(("", check.measures()));
            }
            fields
        }
        None if backend == Backend::Oracle => {
            vec![("check", OF_THE_ORACLE.to_owned())]
        }
        None => vec![("check", "none".to_owned())],
    }
}

/// Writes a result, unless it has not `passed` its check: a wrong one is not left lying about for somebody to use.
/// Gives the name of the file that was written.
pub fn keep(
    passed: bool,
    path: Option<&Path>,
    write: impl FnOnce(&Path) -> nvfp4_dual_gemm::Result<()>,
) -> nvfp4_dual_gemm::Result<Option<Shown>> {
    let Some(path) = path.filter(|_| passed) else {
        return Ok(None);
    };
    write(path)?;
    Ok(Some(Shown::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_failed_its_check_is_not_written() {
        let path = Some(Path::new("c.safetensors"));
        let mut written = 0;
        let mut keep = |passed: bool, path: Option<&Path>| {
            let kept = keep(passed, path, |_| {
                written += 1;
                Ok(())
            });
            (kept.unwrap().map(|shown| shown.to_string()), written)
        };
        assert_eq!(keep(false, path), (None, 0));
        assert_eq!(keep(true, None), (None, 0));
        assert_eq!(keep(true, path), (Some("c.safetensors".to_owned()), 1));
    }
}
