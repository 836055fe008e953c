//! Modules with one input, which inference engines fuse into one weight with one global scale.

/// Last parts of the names of modules that are fused.
const GROUPS: [&[&str]; 5] = [
    &["gate_proj", "up_proj"],
    &["w1", "w3"],
    &["q_proj", "k_proj", "v_proj"],
    &["wq", "wk", "wv"],
    &["q_a_proj", "kv_a_proj_with_mqa"],
];

/// Modules that are stored fused.
const WHOLE: [&str; 2] = ["gate_up_proj", "qkv_proj"];

/// Where a module's own name starts and ends: the last part but for an expert's number after it.
fn own(module: &str) -> (usize, usize) {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let end = match module.rsplit_once('.') {
        Some((rest, last)) if number(last) => rest.len(),
        _ => module.len(),
    };
    (module[..end].rfind('.').map_or(0, |dot| dot + 1), end)
}

/// All modules of a module's group, itself among them; itself alone where it has no group.
pub(super) fn group(module: &str) -> Vec<String> {
    let (start, end) = own(module);
    match GROUPS.iter().find(|group| group.contains(&&module[start..end])) {
        None => vec![module.to_owned()],
        Some(group) => group
            .iter()
            .map(|name| format!("{}{name}{}", &module[..start], &module[end..]))
            .collect(),
    }
}

/// The prefix below which modules share their input with this one.
pub(super) fn shared_input(module: &str) -> Option<&str> {
    let (start, end) = own(module);
    let name = &module[start..end];
    let known = WHOLE.contains(&name) || GROUPS.iter().any(|group| group.contains(&name));
    known.then(|| module[..start].trim_end_matches('.'))
}

/// The down projection of an expert whose gate or up projection this is.
pub(super) fn down_of_expert(module: &str) -> Option<String> {
    let (start, end) = own(module);
    let down = match &module[start..end] {
        "gate_proj" | "up_proj" => "down_proj",
        "w1" | "w3" => "w2",
        _ => return None,
    };
    let expert = module.split('.').any(|part| part == "experts");
    expert.then(|| format!("{}{down}{}", &module[..start], &module[end..]))
}
