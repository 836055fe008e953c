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

/// Writes a result, unless its check failed: a wrong one is not left lying about for somebody to use.
/// Gives the name of the file that was written.
pub fn keep(
    check: Option<&Check>,
    path: Option<&Path>,
    write: impl FnOnce(&Path) -> nvfp4_dual_gemm::Result<()>,
) -> nvfp4_dual_gemm::Result<Option<Shown>> {
    let Some(path) = path.filter(|_| check.is_none_or(|check| check.pass)) else {
        return Ok(None);
    };
    write(path)?;
    Ok(Some(Shown::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvfp4_dual_gemm::synth::{Data, Operands};
    use nvfp4_dual_gemm::{GemmShape, f16, oracle};
    use nvfp4_harness::check::{Exact, Rows};

    /// The check of the oracle's own C with its last value replaced.
    fn check_with_last(value: f16) -> Check {
        let problem = GemmShape { m: 3, n: 4, k: 32, batch: 1 };
        let operands = Operands::generate(problem, Data::Full, 1).unwrap();
        let gemm = operands.gemm().unwrap();
        let mut c: Vec<f16> = oracle::exact(&gemm).unwrap();
        if let Some(last) = c.last_mut() {
            *last = value;
        }
        Exact::new(&gemm, Rows::Some(1)).unwrap().check(&problem, &c)
    }

    #[test]
    fn a_result_that_failed_its_check_is_not_written() {
        let (good, bad) = (
            Check { pass: true, ..check_with_last(f16::NAN) },
            check_with_last(f16::from_f32(1e4)),
        );
        let path = Some(Path::new("c.safetensors"));
        let mut written = 0;
        let mut keep = |check: Option<&Check>, path: Option<&Path>| {
            let kept = keep(check, path, |_| {
                written += 1;
                Ok(())
            });
            (kept.unwrap().map(|shown| shown.to_string()), written)
        };
        assert_eq!(keep(Some(&bad), path), (None, 0));
        assert_eq!(keep(Some(&good), None), (None, 0));
        assert_eq!(keep(Some(&good), path), (Some("c.safetensors".to_owned()), 1));
        assert_eq!(keep(None, path), (Some("c.safetensors".to_owned()), 2));
    }
}
