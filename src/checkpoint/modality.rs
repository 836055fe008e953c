//! Which part of a model a module belongs to.

/// Parts of a model with activations of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Modality {
    /// The language model.
    Text,
    /// The encoder of pictures.
    Vision,
    /// The encoder of sounds.
    Audio,
}

/// By the parts of a module's name.
pub(super) fn of(module: &str) -> Modality {
    let starts = |part: &str, words: &[&str]| words.iter().any(|word| part.starts_with(word));
    for part in module.split('.') {
        if starts(part, &["visual", "vision", "vit", "image", "img_"]) && !part.contains("language")
        {
            return Modality::Vision;
        }
        if starts(part, &["audio", "speech", "sound", "whisper"]) {
            return Modality::Audio;
        }
    }
    Modality::Text
}
