//! Lists of modules as quantization configurations write them: exact names, wildcards, regular
//! expressions after `re:`, names of classes.

use std::collections::BTreeSet;

use fancy_regex::Regex;

/// Beginnings of a language model's module names, by which the tensors, the module tree of another
/// release of `transformers`, and the configuration may differ.
const PREFIXES: [&str; 9] = [
    "",
    "model.",
    "language_model.",
    "language_model.model.",
    "model.language_model.",
    "model.language_model.model.",
    "model.model.",
    "llm.model.",
    "text_model.",
];

/// Parts that [`PREFIXES`] are made of.
const PREFIX_PARTS: [&str; 4] = ["model", "language_model", "llm", "text_model"];

/// The name without [`PREFIX_PARTS`] at its beginning.
fn normalized(name: &str) -> &str {
    let mut rest = name;
    while let Some((first, tail)) = rest.split_once('.') {
        if !PREFIX_PARTS.contains(&first) {
            break;
        }
        rest = tail;
    }
    rest
}

/// Whether a name is not that of a part for pictures or sounds.
fn of_text(name: &str) -> bool {
    super::modality::of(name) == super::modality::Modality::Text
}

/// All names under which a configuration may speak of a projection.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// Normalized.
    exact: Vec<String>,
    /// With every prefix.
    spelled: Vec<String>,
    /// Whether it belongs to a mixture of experts, which is a class of its own in some releases.
    experts: bool,
}

impl Names {
    /// The names of each projection in `modules`: a fused one holds two.
    pub fn each(modules: &[&str]) -> Vec<Names> {
        let mut all = Vec::new();
        for module in modules {
            match module.contains("gate_up_proj") {
                true => all.extend(
                    ["gate_proj", "up_proj"].map(|one| module.replace("gate_up_proj", one)),
                ),
                false => all.push((*module).to_owned()),
            }
        }
        all.iter().map(|module| Names::of(module)).collect()
    }

    /// The names of one projection: its own, that of the weight in which it may be fused, and those of
    /// an expert in the other order of index and projection or in a stack.
    fn of(module: &str) -> Self {
        let mut names = Names::default();
        for alias in aliases(module) {
            let bare = normalized(&alias).to_owned();
            if names.exact.contains(&bare) {
                continue;
            }
            names.experts |= bare.split('.').any(|part| part == "experts");
            let prefixes = if of_text(&bare) { &PREFIXES[..] } else { &PREFIXES[..2] };
            names.spelled.push(alias);
            names.spelled.extend(prefixes.iter().map(|prefix| format!("{prefix}{bare}")));
            names.exact.push(bare);
        }
        names
    }

    /// The entries of a map from names of modules that speak of it.
    pub fn entries<'a, T>(
        &'a self,
        map: &'a std::collections::BTreeMap<String, T>,
    ) -> impl Iterator<Item = &'a T> {
        self.exact.iter().filter_map(|name| map.get(name))
    }

    /// The entries of such a map for the innermost module around it that has any.
    pub fn entries_above<'a, T>(
        &'a self,
        map: &'a std::collections::BTreeMap<String, T>,
    ) -> Option<&'a T> {
        self.exact.first().and_then(|name| above(name).find_map(|parent| map.get(parent)))
    }

    /// Whether it is one of the experts that the router chooses from.
    pub fn is_expert(&self) -> bool {
        self.experts
    }

    /// The name under which it is stored, without the beginning that differs between releases.
    pub fn own(&self) -> &str {
        self.exact.first().map_or("", String::as_str)
    }
}

/// The modules around one, the innermost first.
fn above(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| Some(name.rsplit_once('.')?.0)).skip(1)
}

/// The name of a module below another, or at the root.
pub(super) fn join(parent: &str, last: &str) -> String {
    match parent {
        "" => last.to_owned(),
        _ => format!("{parent}.{last}"),
    }
}

/// The module itself first.
fn aliases(module: &str) -> Vec<String> {
    let (parent, last) = module.rsplit_once('.').unwrap_or(("", module));
    let others: &[&str] = match last {
        "gate_proj" | "up_proj" => &["gate_up_proj"],
        "w1" | "w3" => &["w13"],
        _ => &[],
    };
    let mut all = vec![module.to_owned()];
    all.extend(others.iter().map(|other| join(parent, other)));
    for name in all.clone() {
        let parts: Vec<&str> = name.split('.').collect();
        let Some(at) = parts.iter().rposition(|&part| part == "experts") else { continue };
        let number = |part: &&str| part.bytes().all(|b| b.is_ascii_digit());
        let experts = parts.get(..=at).unwrap_or_default().join(".");
        if let Some([a, b]) = parts.get(at + 1..)
            && (number(a) || number(b))
        {
            all.push(join(&experts, &format!("{b}.{a}")));
            all.push(join(&experts, if number(a) { b } else { a }));
        }
        all.push(experts);
    }
    all
}

/// The key under which a map of module names keeps one of them.
pub(super) fn key(name: &str) -> String {
    normalized(name).to_owned()
}

/// How surely a list speaks of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    /// By its class, such as `Linear`.
    Class,
    /// By a wildcard or a regular expression.
    Pattern,
    /// By its name.
    Name,
}

/// A list of modules.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    exact: BTreeSet<String>,
    regexes: Vec<Regex>,
    linear: bool,
    experts: bool,
    /// The first pattern that is none.
    unreadable: Option<String>,
}

impl Patterns {
    /// Reads a list. What is no string is unreadable.
    pub fn new<'a>(list: impl IntoIterator<Item = &'a serde_json::Value>) -> Self {
        let mut patterns = Patterns::default();
        for value in list {
            match value.as_str() {
                Some(text) => patterns.add(text),
                None => patterns.fail(&value.to_string()),
            }
        }
        patterns
    }

    fn add(&mut self, text: &str) {
        if let Some(pattern) = text.strip_prefix("re:") {
            // Python's `re.match` is anchored at the start alone.
            return self.regex(text, &format!(r"\A(?:{pattern})"));
        }
        if text.contains(['*', '?', '[']) {
            return self.regex(text, &wildcard(text));
        }
        // vLLM looks for the word within the name of the class.
        self.linear |= text == "Linear" || (!text.contains('.') && text.ends_with("Linear"));
        self.experts |= ["Experts", "FusedMoE", "RoutedExperts"].iter().any(|c| text.ends_with(c));
        self.exact.insert(normalized(text).to_owned());
    }

    fn regex(&mut self, text: &str, pattern: &str) {
        match Regex::new(pattern) {
            Ok(regex) => self.regexes.push(regex),
            Err(_) => self.fail(text),
        }
    }

    fn fail(&mut self, text: &str) {
        self.unreadable.get_or_insert_with(|| text.to_owned());
    }

    /// Whether the list has the name of a module around one of `names`. ModelOpt's lists mean what is
    /// below it, too; those of compressed-tensors do not.
    pub fn has_above(&self, names: &Names) -> bool {
        names.exact.iter().any(|name| above(name).any(|parent| self.exact.contains(parent)))
    }

    /// Names of classes, as far as they can be told from those of modules.
    pub fn classes(&self) -> impl Iterator<Item = &str> {
        let class =
            |name: &&str| !name.contains('.') && name.starts_with(|c: char| c.is_uppercase());
        self.exact.iter().map(String::as_str).filter(class)
    }

    /// How the list speaks of any of `names`, if it does.
    ///
    /// # Errors
    /// The pattern that cannot be read or takes too long to match.
    pub fn find(&self, names: &Names) -> Result<Option<Match>, String> {
        if let Some(text) = &self.unreadable {
            return Err(text.clone());
        }
        if names.exact.iter().any(|name| self.exact.contains(name)) {
            return Ok(Some(Match::Name));
        }
        for regex in &self.regexes {
            for name in &names.spelled {
                if regex.is_match(name).map_err(|_| regex.as_str().to_owned())? {
                    return Ok(Some(Match::Pattern));
                }
            }
        }
        let class = self.linear || (self.experts && names.experts);
        Ok(class.then_some(Match::Class))
    }
}

/// A shell wildcard as `fnmatch` reads it, as a regular expression. ModelOpt writes `module*` for a
/// module and what is below it, and not for its neighbor `module_other`.
fn wildcard(text: &str) -> String {
    let (text, end) = match text.strip_suffix('*') {
        Some(head) if !head.ends_with(['.', '*']) && !head.is_empty() => (head, r"(?:\..*)?"),
        _ => (text, ""),
    };
    let mut pattern = String::from(r"\A");
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' => pattern.push_str(".*"),
            '?' => pattern.push('.'),
            '[' => {
                let tail = rest.as_str();
                match tail.split_once(']') {
                    Some((class, after)) if !class.is_empty() => {
                        let class = class.replace('\\', r"\\").replace('[', r"\[");
                        let (not, class) = match class.strip_prefix('!') {
                            Some(class) => ("^", class),
                            None => ("", class.as_str()),
                        };
                        pattern.push_str(&format!("[{not}{class}]"));
                        rest = after.chars();
                    }
                    _ => pattern.push_str(r"\["),
                }
            }
            c => pattern.push_str(&fancy_regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    format!(r"{pattern}{end}\z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(list: &[&str], module: &str) -> Result<Option<Match>, String> {
        let list: Vec<_> = list.iter().map(|&text| text.into()).collect();
        Patterns::new(&list).find(&Names::of(module))
    }

    /// As `re.match`, `fnmatch` and `==` of Python say; prefixes of language models do not count.
    #[test]
    fn lists_speak_of_modules() {
        const GATE: &str = "model.language_model.layers.3.mlp.gate_proj";
        let (class, pattern, name) = (Some(Match::Class), Some(Match::Pattern), Some(Match::Name));
        for (text, expected) in [
            ("Linear", class),
            ("Embedding", None),
            ("lm_head", None),
            (GATE, name),
            ("language_model.model.layers.3.mlp.gate_proj", name),
            ("model.layers.3.mlp.gate_proj", name),
            ("model.layers.3.mlp.gate_up_proj", name),
            ("model.layers.3.mlp.down_proj", None),
            ("visual.layers.3.mlp.gate_proj", None),
            ("model.layers.3.mlp", None),
            ("re:.*mlp.*", pattern),
            ("re:mlp", None),      // re.match is anchored at the start,
            ("re:model", pattern), // and not at the end
            (r"re:^language_model\.model\.layers\.\d+\.mlp\..*", pattern),
            (r"re:.*mlp\.gate$", None),
            (r"re:.*layers\.(?!3\.)\d+\.mlp.*", None),
            (r"re:.*layers\.(?!4\.)\d+\.mlp.*", pattern),
            (r"re:a|.*gate_proj$", pattern),
            ("*.mlp.gate_proj", pattern),
            ("model.layers.3*", pattern),
            ("model.layers.3.mlp.gate*", None), // the router and what is below it
            ("*.mlp.gate.*", None),
            ("*layers.[!12].mlp*", pattern),
            ("*layers.[12].mlp*", None),
            ("*layers.?.mlp.*", pattern),
        ] {
            assert_eq!(find(&[text], GATE), Ok(expected), "{text}");
        }
        assert_eq!(find(&["re:.*mlp.*", "re:(unclosed"], GATE), Err("re:(unclosed".to_owned()));
        let expert = "model.layers.0.mlp.experts.7.gate_proj";
        assert_eq!(find(&["Qwen3MoeExperts"], expert), Ok(class));
        assert_eq!(find(&["Qwen3MoeExperts"], GATE), Ok(None));
        for other in ["experts.gate_proj.7", "experts.gate_up_proj", "experts"] {
            assert_eq!(
                find(&[&format!("model.layers.0.mlp.{other}")], expert),
                Ok(name),
                "{other}"
            );
        }
    }
}
