//! `NVFP4_CUDA_ARCHS`: whose kernels are compiled.

use std::ffi::OsStr;

use super::vars::NVFP4_CUDA_ARCHS;

/// What there are kernels for, in the order of the list for CMake: name, and the GPUs.
pub const KNOWN: [(&str, &str); 3] = [
    ("90a", "H100, H200, GH200"),
    ("100a", "B200, GB200"),
    // The same kernels for the whole family, where `a` code is for compute capability 10.0 alone.
    ("100f", "B200, GB200 and later members of their family"),
];
const DEFAULT: [&str; 2] = ["90a", "100a"];
/// The same kernels twice: one of them would never run.
const ALTERNATIVES: [&str; 2] = ["100a", "100f"];

/// Names of `KNOWN`, each once and in its order: those that the variable's `value` separates by commas.
pub fn parse(value: Option<&OsStr>) -> Result<Vec<&'static str>, String> {
    let Some(value) = value else {
        return Ok(DEFAULT.to_vec());
    };
    let value = value.to_string_lossy();
    let mut asked = Vec::new();
    for word in value.split(',').map(str::trim) {
        let known = KNOWN.iter().position(|(name, _)| *name == word);
        asked.push(known.ok_or_else(|| refusal(&value, word))?);
    }
    asked.sort_unstable();
    asked.dedup();
    let names: Vec<_> = asked.into_iter().map(|place| KNOWN[place].0).collect();
    if ALTERNATIVES.iter().all(|name| names.contains(name)) {
        let [one, other] = ALTERNATIVES;
        return Err(format!(
            "{NVFP4_CUDA_ARCHS} is \"{value}\"; {one} and {other} are the same kernels: name one of them"
        ));
    }
    Ok(names)
}

fn refusal(value: &str, word: &str) -> String {
    let known = KNOWN.map(|(name, gpus)| format!("{name} ({gpus})")).join(", ");
    let problem = if value.trim().is_empty() {
        "is set and empty".to_owned()
    } else if word.is_empty() {
        format!("is \"{value}\", with nothing on one side of a comma")
    } else {
        format!("is \"{value}\", and there are no kernels for \"{word}\"")
    };
    format!(
        "{NVFP4_CUDA_ARCHS} {problem}. It is a list, separated by commas, of {known}; unset, it is {}.",
        DEFAULT.join(",")
    )
}

/// As CMake's lists are written.
pub fn for_cmake(archs: &[&str]) -> String {
    archs.join(";")
}
