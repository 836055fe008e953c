//! `nvfp4 verify`.

use nvfp4_dual_gemm::Isa;

use crate::support::{json, ok};

#[test]
fn verify_passes_on_every_path() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = ["--shape", "9x35x80", "--shape", "2x16x32x3"];
    let args = [&["verify", "--glu", "geglu-tanh"], &shapes[..]].concat();
    let value = json(dir.path(), &args);
    let results = value["results"].as_array().unwrap();
    assert_eq!(value["failed"], 0);
    assert_eq!(
        results.len() + 2 * value["not_available"].as_array().unwrap().len(),
        2 * Isa::ALL.len()
    );
    assert!(results.iter().all(|row| row["pass"] == true));
    let text = ok(dir.path(), &[&args[..], &["--isa", "portable", "--check", "all"]].concat());
    assert!(text.contains("2 of 2 passed"), "{text}");
    // Columns line up: PASS starts at the same place in each row.
    let column = |line: &str| line.find("PASS").map(|at| line[..at].chars().count());
    let columns: Vec<_> = text.lines().take(3).skip(1).map(column).collect();
    assert!(columns[0].is_some() && columns[0] == columns[1], "{text}");
}

#[test]
fn verify_counts_ulp_of_f16_for_f32() {
    let dir = tempfile::tempdir().unwrap();
    let value = json(dir.path(), &["verify", "--shape", "16x96x1024", "--out-dtype", "f32"]);
    for row in value["results"].as_array().unwrap() {
        assert_eq!(row["ulp_of"], "f16");
        assert!(row["max_ulp"].as_u64().unwrap() <= 1, "{row}");
    }
}
