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
fn whole_mlps_are_measured_in_each_precision() {
    let dir = tempfile::tempdir().unwrap();
    let value = json(
        dir.path(),
        &[
            "bench",
            "--backend",
            "cpu",
            "--mlp",
            "64x96x40",
            "--tokens",
            "1,5",
            "--warm",
            "--repeat",
            "2",
            "--markdown",
            "mlp.md",
        ],
    );
    let rows = value["results"].as_array().unwrap();
    let sizes: Vec<_> = rows.iter().map(|row| (&row["layer"], &row["rows"])).collect();
    let layer = serde_json::json!([64, 96, 40]);
    assert_eq!(sizes, [(&layer, &1.into()), (&layer, &5.into())]);
    for row in rows {
        let names: Vec<&str> = row["ours"]
            .as_array()
            .unwrap()
            .iter()
            .map(|own| own["name"].as_str().unwrap())
            .collect();
        let titles: Vec<&str> = names.iter().map(|name| name.split(", ").next().unwrap()).collect();
        assert_eq!(titles, ["W4A4", "W4A4 dynamic", "W4A16"]);
        for own in row["ours"].as_array().unwrap() {
            assert_eq!((&own["runs"], &own["failed"]), (&2.into(), &serde_json::Value::Null));
            assert!(own["median_s"].as_f64().unwrap() > 0.0 && own["relative_error"].is_number());
            // 96·(64 + 64 + 40) weights of 4.5 bits.
            assert_eq!(own["memory"]["weight_bytes"], 9072);
        }
    }
    let page = std::fs::read_to_string(dir.path().join("mlp.md")).unwrap();
    assert!(page.contains("| 64→96→40, M = 5 | "), "{page}");
}

#[test]
fn a_precision_can_be_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let bench = ["bench", "--backend", "cpu", "--mlp", "32x32x8", "--tokens", "2", "--warm"];
    let text = ok(dir.path(), &[&bench[..], &["--repeat", "1", "--precision", "w4a16"]].concat());
    assert!(text.contains("32→32→8, M = 2") && text.contains("W4A16"), "{text}");
    assert!(!text.contains("W4A4"), "{text}");
}

#[test]
fn the_oracle_is_not_said_to_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let bench = ["bench", "--backend", "oracle", "--shape", "2x16x32", "--warm", "--repeat", "1"];
    let text = ok(dir.path(), &bench);
    assert!(text.contains("none: the oracle is what others are compared with"), "{text}");
}
