//! Sets of bytes of an allocation, one bit for each, that threads of the host change together.

use std::sync::atomic::{AtomicU32, Ordering};

use super::global::zeroed;

/// Some bytes of an allocation.
#[derive(Debug)]
pub struct ByteSet {
    /// 32 bytes to a word.
    words: Box<[AtomicU32]>,
}

impl ByteSet {
    /// None of that many bytes. Nothing where the host has no memory for it.
    pub fn new(bytes: u64) -> Option<Self> {
        Some(Self { words: zeroed(usize::try_from(bytes.div_ceil(32)).ok()?)? })
    }

    /// Adds bytes.
    pub fn insert(&self, offset: u64, bytes: u64) {
        for (word, mask) in words(offset, bytes) {
            if self.words[word].load(Ordering::Relaxed) & mask != mask {
                self.words[word].fetch_or(mask, Ordering::Relaxed);
            }
        }
    }

    /// The first of these bytes that is in the set.
    pub fn first(&self, offset: u64, bytes: u64) -> Option<u64> {
        self.find(offset, bytes, |word| word)
    }

    /// The first of these bytes that is not in the set.
    pub fn first_missing(&self, offset: u64, bytes: u64) -> Option<u64> {
        self.find(offset, bytes, |word| !word)
    }

    fn find(&self, offset: u64, bytes: u64, wanted: impl Fn(u32) -> u32) -> Option<u64> {
        words(offset, bytes).find_map(|(word, mask)| {
            let found = wanted(self.words[word].load(Ordering::Relaxed)) & mask;
            (found != 0).then(|| 32 * word as u64 + u64::from(found.trailing_zeros()))
        })
    }
}

/// The words that hold bytes, with the bits of these bytes.
fn words(offset: u64, bytes: u64) -> impl Iterator<Item = (usize, u32)> {
    let end = offset + bytes;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (word, bit) = ((at / 32) as usize, at % 32);
        let count = (32 - bit).min(end - at);
        at += count;
        Some((word, ((u64::from(u32::MAX) >> (32 - count)) << bit) as u32))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_over_words() {
        let Some(set) = ByteSet::new(200) else { return };
        assert_eq!((set.first(0, 200), set.first_missing(0, 200)), (None, Some(0)));
        set.insert(30, 70);
        assert_eq!((set.first(0, 200), set.first_missing(30, 170)), (Some(30), Some(100)));
        assert_eq!((set.first(100, 100), set.first(99, 1)), (None, Some(99)));
        assert_eq!((set.first_missing(30, 70), set.first(31, 0)), (None, None));
    }
}
