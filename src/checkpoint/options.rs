//! What a reader knows better than a checkpoint's configuration.

use crate::glu::Glu;

/// How [`super::Checkpoint::layer_with`] reads a layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LayerOptions {
    pub(super) glu: Option<Glu>,
    pub(super) ignored: Vec<String>,
    pub(super) gate_up_only: bool,
}

impl LayerOptions {
    /// Everything as the configuration says.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes this GLU in place of the activation and the limits that the configuration gives, and of
    /// keys of that kind that are not understood. Multipliers, sparsity and transforms are no matter
    /// of the GLU.
    pub fn glu(mut self, glu: Glu) -> Self {
        self.glu = Some(glu);
        self
    }

    /// Reads the layer as if the configuration did not have this key, such as `ffn_multiplier` or
    /// `transform_config`. The key alone, without the objects that it stands in.
    pub fn ignore(mut self, key: impl Into<String>) -> Self {
        self.ignored.push(key.into());
        self
    }

    /// Reads gate and up alone: no byte of the down projection is looked at, and nothing that is wrong with it
    /// matters.
    pub fn gate_up_only(mut self) -> Self {
        self.gate_up_only = true;
        self
    }

    pub(super) fn ignores(&self, key: &str) -> bool {
        self.ignored.iter().any(|ignored| ignored == key)
    }
}
