//! Help and version.

use crate::support::ok;

#[test]
fn help_and_version_go_to_stdout() {
    let dir = tempfile::tempdir().unwrap();
    let version = ok(dir.path(), &["--version"]);
    assert_eq!(version.trim(), format!("nvfp4 {}", env!("CARGO_PKG_VERSION")));
    let bench = cfg!(feature = "bench").then_some("bench");
    let others = ["run", "mlp", "quantize", "generate", "verify", "doctor"];
    for command in others.into_iter().chain(bench) {
        let help = ok(dir.path(), &[command, "--help"]);
        assert!(help.contains("Examples:") && help.contains("--json"), "{help}");
    }
}
