//! Listing the MLP layers of a checkpoint.

use std::cmp::Ordering;

use super::CheckpointError;
use super::file::near;
use super::open::Checkpoint;
use super::read::{FUSED, PAIRS, expert};
use super::scheme;
use super::stack::{experts, join};
use crate::error::Error;

impl Checkpoint {
    /// Prefixes of all MLP layers, for [`Checkpoint::layer`], each expert by itself; numbers in them
    /// are sorted as numbers. Whether they are NVFP4 is not looked at.
    pub fn layers(&self) -> Vec<String> {
        let mut prefixes: Vec<String> = Vec::new();
        for name in self.names() {
            if let Some((parent, count)) = self.get(name).and_then(|t| experts(name, &t)) {
                prefixes.extend((0..count).map(|e| join(parent, &e.to_string())));
                continue;
            }
            let Some((module, "weight" | "weight_packed")) = name.rsplit_once('.') else {
                continue;
            };
            let known = |last: &str| last == FUSED || PAIRS.iter().any(|pair| pair.gate == last);
            // `parent.gate_proj`, or `parent.gate_proj.0` of an expert.
            let (parent, last) = split(module);
            if known(last) {
                prefixes.push(parent.to_owned());
            } else if let Some((projection, e)) = expert(module) {
                let (parent, last) = split(projection);
                if known(last) {
                    prefixes.push(join(parent, e));
                }
            }
        }
        prefixes.sort_by(|a, b| natural(a, b));
        prefixes.dedup();
        prefixes
    }

    /// The error that there is no layer below `prefix`.
    pub(super) fn no_layer(&self, prefix: &str) -> Error {
        let parent = expert(prefix).map(|(parent, _)| parent);
        let stacked = |module| scheme::stacked_experts(self, module);
        if let Some(refusal) = stacked(prefix).or_else(|| parent.and_then(stacked)) {
            return self.refused(prefix, refusal);
        }
        let missing = self.require(&format!("{prefix}."));
        let stacks = parent.map_or(Ok(()), |parent| self.require_stacks(parent));
        if let Err(error) = missing.and(stacks) {
            return error;
        }
        let layers = self.layers();
        let near = match layers.is_empty() {
            true => near(prefix, self.names()),
            false => near(prefix, layers.iter().map(String::as_str)),
        };
        CheckpointError::MissingLayer {
            path: self.path().to_owned(),
            prefix: prefix.to_owned(),
            looked_for: "gate_proj and up_proj, w1 and w3, or gate_up_proj".to_owned(),
            near,
        }
        .into()
    }
}

/// `parent.last`, with no parent at the top.
fn split(module: &str) -> (&str, &str) {
    module.rsplit_once('.').unwrap_or(("", module))
}

/// Compares runs of digits as numbers, and all else character by character.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while !left.is_empty() && !right.is_empty() {
        let ((x, rest_x), (y, rest_y)) = (token(left), token(right));
        let order = match (number(x), number(y)) {
            // Of two numbers without leading zeros the longer is the larger.
            (Some(m), Some(n)) => m.len().cmp(&n.len()).then_with(|| m.cmp(n)),
            _ => x.cmp(y),
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (rest_x, rest_y);
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// The first run of digits, or the first other character, and the rest.
fn token(text: &str) -> (&str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let first = text.chars().next().map_or(0, char::len_utf8);
    text.split_at(digits.max(first))
}

/// A run of digits without leading zeros.
fn number(token: &str) -> Option<&str> {
    token.starts_with(|c: char| c.is_ascii_digit()).then(|| token.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_are_compared_as_numbers() {
        let sorted = [
            "",
            "10",
            "a",
            "a.0",
            "a.1",
            "a.2.b.3",
            "a.2.b.20",
            "a.02.c",
            "a.10",
            "a.18446744073709551616",
            "a.18446744073709551617",
            "a10b",
            "ab",
            "b",
        ];
        let mut mixed = sorted;
        mixed.reverse();
        mixed.swap(1, 7);
        mixed.sort_by(|a, b| natural(a, b));
        assert_eq!(mixed, sorted);
        // Equal as numbers, and still one before the other.
        assert!(natural("a.01", "a.1").is_ne());
    }
}
