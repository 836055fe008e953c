//! Why a call fails: a code, and words for stderr where the code says too little.

use super::code::Code;
use crate::fault::Fault;

/// An error of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the program gets.
    pub code: Code,
    /// What stderr gets.
    pub words: Option<String>,
}

/// What a call gives.
pub type Outcome<T = ()> = Result<T, Refusal>;

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self { code, words: None }
    }
}

impl Code {
    /// With words.
    pub fn because(self, words: impl Into<String>) -> Refusal {
        Refusal { code: self, words: Some(words.into()) }
    }

    /// With the words of a fault.
    pub fn from_fault(self, fault: &Fault) -> Refusal {
        self.because(fault.to_string())
    }
}

/// A line on stderr.
pub fn say(words: impl std::fmt::Display) {
    use std::io::Write as _;
    // In one piece, so that threads do not mix their lines; nobody is left to tell when stderr is closed.
    let _ = std::io::stderr().write_all(format!("emulator: {words}\n").as_bytes());
}
