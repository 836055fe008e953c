//! Where the bytes of a box lie in shared memory.
//!
//! A swizzle exchanges chunks of 16, 32 or 64 bytes within lines of 128, by bits of the line's number (PTX ISA,
//! "Swizzling Modes"). It acts on the address in shared memory, not on the offset within the box: the pattern begins
//! at multiples of 1024, wherever the box begins. Each is its own inverse.

use std::ops::Range;

/// A pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// As it comes.
    None,
    /// Chunks of 16 bytes within 32.
    Span32,
    /// Chunks of 16 bytes within 64.
    Span64,
    /// Chunks of 16 bytes within 128.
    Span128,
    /// Chunks of 32 bytes within 128.
    Span128Atom32,
    /// Chunks of 64 bytes within 128.
    Span128Atom64,
}

/// Bytes that no pattern takes apart.
const CHUNK: usize = 16;
/// Bytes that no pattern leaves.
const LINE: u32 = 128;

impl Swizzle {
    /// Which bits of the line's number go where: mask and shift.
    fn pattern(self) -> (u32, u32) {
        match self {
            Self::None => (0, 0),
            Self::Span32 => (1, 4),
            Self::Span64 => (3, 4),
            Self::Span128 => (7, 4),
            Self::Span128Atom32 => (3, 5),
            Self::Span128Atom64 => (1, 6),
        }
    }

    /// Most bytes of a row of the box; `None` without a limit.
    pub fn span(self) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Span32 => Some(32),
            Self::Span64 => Some(64),
            Self::Span128 | Self::Span128Atom32 | Self::Span128Atom64 => Some(128),
        }
    }

    /// The address at which the byte of this linear address lies, and the other way round.
    pub fn apply(self, address: u32) -> u32 {
        let (mask, shift) = self.pattern();
        address ^ (((address / LINE) & mask) << shift)
    }
}

/// Bytes of shared memory that a load writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Offset of the first byte of `bytes`.
    pub start: u32,
    /// What lies there.
    pub bytes: Vec<u8>,
    /// Which of `bytes` are written, ascending; the others stay as they are.
    pub runs: Vec<Range<usize>>,
}

impl Image {
    /// Each run with its offset in shared memory.
    pub fn pieces(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.runs.iter().map(|run| (self.start + run.start as u32, &self.bytes[run.clone()]))
    }
}

/// Where the rows of a box lie when it is loaded to `offset`, a multiple of 16. A swizzle pads rows to its span.
pub fn place(swizzle: Swizzle, offset: u32, linear: &[u8], row_bytes: u32) -> Image {
    let Some(span) = swizzle.span() else {
        let whole = 0..linear.len();
        return Image { start: offset, bytes: linear.to_vec(), runs: vec![whole] };
    };
    let rows = linear.chunks(row_bytes.max(1) as usize);
    let start = offset / LINE * LINE;
    let end = (offset as usize + rows.len() * span as usize).next_multiple_of(LINE as usize);
    let mut bytes = vec![0; end - start as usize];
    let mut present = vec![0; bytes.len() / CHUNK];
    for (index, row) in rows.enumerate() {
        for (part, chunk) in row.chunks(CHUNK).enumerate() {
            let linear = offset + index as u32 * span + (part * CHUNK) as u32;
            let at = (swizzle.apply(linear) - start) as usize;
            bytes[at..at + chunk.len()].copy_from_slice(chunk);
            present[at / CHUNK] = chunk.len();
        }
    }
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, count) in present.into_iter().enumerate().filter(|(_, count)| *count != 0) {
        let run = index * CHUNK..index * CHUNK + count;
        match runs.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => runs.push(run),
        }
    }
    Image { start, bytes, runs }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of the 16-byte chunks of eight lines, as PTX ISA 9.2 prints them ("Swizzling Modes").
    fn table(swizzle: Swizzle) -> Vec<[u32; 8]> {
        (0..8)
            .map(|line| {
                let mut chunks = [0; 8];
                for chunk in 0..8 {
                    let at = swizzle.apply(0x1400 + line * 128 + chunk * 16);
                    chunks[((at - 0x1400) / 16 % 8) as usize] = chunk;
                    assert_eq!(at / 128, (0x1400 + line * 128) / 128);
                }
                chunks
            })
            .collect()
    }

    #[test]
    fn patterns_are_those_that_the_manual_prints() {
        assert_eq!(
            table(Swizzle::Span128),
            [
                [0, 1, 2, 3, 4, 5, 6, 7],
                [1, 0, 3, 2, 5, 4, 7, 6],
                [2, 3, 0, 1, 6, 7, 4, 5],
                [3, 2, 1, 0, 7, 6, 5, 4],
                [4, 5, 6, 7, 0, 1, 2, 3],
                [5, 4, 7, 6, 1, 0, 3, 2],
                [6, 7, 4, 5, 2, 3, 0, 1],
                [7, 6, 5, 4, 3, 2, 1, 0],
            ]
        );
        let two = [[0, 1, 2, 3, 4, 5, 6, 7], [1, 0, 3, 2, 5, 4, 7, 6]];
        assert_eq!(table(Swizzle::Span32), [two, two, two, two].concat());
        let four = [
            [0, 1, 2, 3, 4, 5, 6, 7],
            [1, 0, 3, 2, 5, 4, 7, 6],
            [2, 3, 0, 1, 6, 7, 4, 5],
            [3, 2, 1, 0, 7, 6, 5, 4],
        ];
        assert_eq!(table(Swizzle::Span64), [four, four].concat());
        let atom32 = [
            [0, 1, 2, 3, 4, 5, 6, 7],
            [2, 3, 0, 1, 6, 7, 4, 5],
            [4, 5, 6, 7, 0, 1, 2, 3],
            [6, 7, 4, 5, 2, 3, 0, 1],
        ];
        assert_eq!(table(Swizzle::Span128Atom32), [atom32, atom32].concat());
        let atom64 = [[0, 1, 2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 0, 1, 2, 3]];
        assert_eq!(table(Swizzle::Span128Atom64), [atom64, atom64, atom64, atom64].concat());
    }

    #[test]
    fn narrow_rows_are_padded_as_on_an_h100() {
        // Recorded: 12 rows of 16 bytes to offset 0x400 with the 32-byte pattern, and where each was found.
        let linear: Vec<u8> = (0..12).flat_map(|row| [row; 16]).collect();
        let image = place(Swizzle::Span32, 0x400, &linear, 16);
        let pieces: Vec<(u32, Vec<u8>)> =
            image.pieces().map(|(offset, bytes)| (offset, bytes.to_vec())).collect();
        let places =
            [0x400, 0x420, 0x440, 0x460, 0x490, 0x4B0, 0x4D0, 0x4F0, 0x500, 0x520, 0x540, 0x560];
        // Rows 3 and 4 do not touch, nor do 7 and 8 but for the end of the line.
        let mut expected: Vec<(u32, Vec<u8>)> =
            places.into_iter().zip(0..).map(|(place, row)| (place, vec![row; 16])).collect();
        let last = expected.remove(8);
        expected[7].1.extend(last.1);
        assert_eq!(pieces, expected);
        // Ten rows of 48 bytes with the 128-byte pattern: the last was found with its chunks at 1, 0 and 3.
        let linear: Vec<u8> = (0..480).map(|byte| (byte / 16) as u8).collect();
        let image = place(Swizzle::Span128, 0x400, &linear, 48);
        let line: Vec<u8> = image.bytes[0x480..].iter().step_by(16).copied().collect();
        assert_eq!(line, [28, 27, 0, 29, 0, 0, 0, 0]);
        assert_eq!(image.runs.last(), Some(&(0x4B0..0x4C0)));
    }
}
