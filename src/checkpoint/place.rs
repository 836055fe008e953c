//! Where in a model a layer is, by its name.

/// The part of a mixture of experts that an MLP is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No part of one.
    Dense,
    /// An expert that the router chooses.
    Routed,
    /// An expert that every token goes through.
    Shared,
}

/// Where a layer is; nothing is known of "all layers".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Its number among the layers of the model.
    pub layer: Option<usize>,
    /// The part that it is.
    pub kind: Option<Kind>,
}

impl Place {
    /// By a prefix such as `model.layers.3.mlp.experts.7`. Layers for the prediction of further tokens
    /// have numbers of their own, which no list of the model counts.
    pub fn of(prefix: &str) -> Self {
        let parts: Vec<&str> = prefix.split('.').collect();
        let own = parts.iter().any(|part| part.starts_with("mtp") || part.starts_with("nextn"));
        let numbered = parts.windows(2).find_map(|pair| match pair {
            ["layers" | "layer" | "blocks" | "block" | "h", number] => number.parse().ok(),
            _ => None,
        });
        let kind = match () {
            _ if parts
                .iter()
                .any(|part| part.starts_with("shared_") || *part == "share_expert") =>
            {
                Kind::Shared
            }
            // Experts may lie in a module of any name, such as `moe.7`.
            _ if parts.contains(&"experts") || expert(prefix).is_some() => Kind::Routed,
            _ => Kind::Dense,
        };
        Place { layer: numbered.filter(|_| !own), kind: Some(kind) }
    }
}

/// The module of the experts and the number of one, if `prefix` is that of an expert and not of a
/// numbered layer of the model.
pub(super) fn expert(prefix: &str) -> Option<(&str, &str)> {
    super::read::expert(prefix).filter(|(parent, _)| {
        let last = parent.rsplit('.').next().unwrap_or(parent);
        let layers = ["layers", "layer", "blocks", "block"].iter().any(|end| last.ends_with(end));
        !layers && last != "h"
    })
}
