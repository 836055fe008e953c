//! The JSON object of `--json`, and a check that objects name no key twice: what serde_json reads without a word, other
//! parsers refuse or lose.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

#[derive(Serialize)]
struct Envelope<'a, T: Serialize> {
    command: &'a str,
    version: &'a str,
    ok: bool,
    #[serde(flatten)]
    body: T,
}

/// The one line of `--json`. No field of `body` may be named like one of the envelope.
///
/// # Errors
/// Those of `body`.
pub fn line(
    command: &str,
    version: &str,
    ok: bool,
    body: impl Serialize,
) -> serde_json::Result<String> {
    serde_json::to_string(&Envelope { command, version, ok, body })
}

/// The first key that an object of `text` has twice, or what else is wrong with it.
///
/// # Errors
/// One sentence about it.
pub fn check_keys(text: &str) -> Result<(), String> {
    serde_json::from_str::<Strict>(text).map(|_| ()).map_err(|error| error.to_string())
}

struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Strict, M::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Strict>()?;
            if let Some(key) = keys.replace(key) {
                return Err(M::Error::custom(format_args!("{key:?} is there twice")));
            }
        }
        Ok(Strict)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Strict, S::Error> {
        while list.next_element::<Strict>()?.is_some() {}
        Ok(Strict)
    }

    fn visit_unit<E: Error>(self) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Strict, E> {
        Ok(Strict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// serde writes both, and serde_json reads the last.
    #[test]
    fn a_field_named_like_one_of_the_envelope_is_found() {
        #[derive(Serialize)]
        struct Body {
            command: &'static str,
        }
        let twice = line("bench", "1", true, Body { command: "nvfp4 bench" }).unwrap();
        assert!(check_keys(&twice).unwrap_err().contains("\"command\" is there twice"));
        let nested = "{\"a\": [1, {\"b\": null, \"c\": 1.5, \"b\": -1}]}";
        assert!(check_keys(nested).unwrap_err().contains("\"b\" is there twice"));
        assert_eq!(check_keys("{\"a\": {\"b\": true}, \"b\": [\"a\", \"a\"]}"), Ok(()));
        assert!(check_keys("{\"a\": 1} {}").is_err());
    }
}
