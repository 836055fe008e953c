//! `nvfp4 bench`.

use crate::support::{json, ok};

#[test]
fn bench_draws_a_plot() {
    let dir = tempfile::tempdir().unwrap();
    // An old plot is replaced, not written over: who has it open keeps it.
    let [plot, kept] = ["plot.svg", "kept.svg"].map(|name| dir.path().join(name));
    std::fs::write(&plot, "old").unwrap();
    std::fs::hard_link(&plot, &kept).unwrap();
    let value = json(
        dir.path(),
        &[
            // Where there is a GPU, auto takes it.
            "bench",
            "--backend",
            "cpu",
            "--shape",
            "4x64x128",
            "--warm",
            "--repeat",
            "2",
            "--plot",
            "plot.svg",
        ],
    );
    let row = &value["results"][0];
    assert_eq!(row["runs"], 2);
    assert!(row["time_over_roofline"].as_f64().unwrap() > 0.0);
    assert!(value["dram_read_gb_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "old");
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    assert!(svg.contains("4x64x128"));
}

#[test]
fn the_oracle_is_not_said_to_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let bench = ["bench", "--backend", "oracle", "--shape", "2x16x32", "--warm", "--repeat", "1"];
    let text = ok(dir.path(), &bench);
    assert!(text.contains("none: the oracle is what others are compared with"), "{text}");
}
