//! `nvfp4 doctor`.

use crate::support::{json, ok};

#[test]
fn doctor_names_every_backend_and_path() {
    let dir = tempfile::tempdir().unwrap();
    let value = json(dir.path(), &["doctor"]);
    let names = |key: &str| -> Vec<String> {
        let list = value[key].as_array().unwrap().iter();
        list.map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("backends"), ["cpu", "oracle", "cuda"]);
    assert_eq!(
        names("cpu_paths"),
        ["amx", "avx512", "avxvnni", "avx2", "i8mm", "neon", "portable"]
    );
    for path in value["cpu_paths"].as_array().unwrap() {
        let note = path["note"].as_str().unwrap();
        assert!(path["usable"] == true || !note.is_empty(), "{path} gives no reason");
    }
    // A GPU that can be used is taken, if it is none on this CPU.
    let device = value["cuda"]["usable"].as_u64();
    let emulated = device.is_some_and(|device| {
        let devices = value["cuda"]["devices"].as_array().unwrap();
        devices.iter().any(|gpu| gpu["ordinal"] == device && gpu["emulated"] == true)
    });
    let taken = if device.is_some() && !emulated { "cuda" } else { "cpu" };
    assert_eq!(value["backends"][2]["usable"], device.is_some());
    let auto = value["auto"]["backend"].as_str().unwrap();
    assert!(auto.starts_with(taken), "{auto}, not {taken}");
    let text = ok(dir.path(), &["doctor"]);
    assert!(text.contains(&format!("auto would run {auto}: ")), "{text}");
}
