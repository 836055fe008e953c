//! The packed rows of a strip as the vector kernels of x86-64 load them, and what they ask for ahead.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

use crate::cpu::integer::STRIP;
use crate::cpu::schedule::{Next, Piece, Strip};
use crate::format::BLOCK;

/// Blocks of one load: 64 packed bytes of a row, 128 consecutive k.
pub(super) const SPAN: usize = 8;

/// The 16 rows of a weight that make a strip.
pub(super) struct StripRows<'a> {
    codes: &'a [u8],
    scales: &'a [u8],
    /// Bytes of codes and of scales of one row.
    row_codes: usize,
    row_scales: usize,
    /// Rows that exist, at most 16.
    rows: usize,
    /// The next strip of the sweep and what is behind it, for [`StripRows::prefetch`].
    next_codes: &'a [u8],
    next_scales: &'a [u8],
}

impl<'a> StripRows<'a> {
    /// The rows of a strip; those beyond the end of the weight read as zero.
    pub fn new(strip: Strip<'a>) -> Self {
        let (b, rows) = (strip.weight, strip.rows());
        let (row_codes, row_scales) = (b.cols() / 2, b.cols() / BLOCK);
        let (first, end) = (strip.first, strip.first + rows);
        let next = (first + strip.step).min(b.rows());
        let (codes, scales) = (b.codes(), b.scales());
        let (next_codes, next_scales) = (&codes[next * row_codes..], &scales[next * row_scales..]);
        let codes = &codes[first * row_codes..end * row_codes];
        let scales = &scales[first * row_scales..end * row_scales];
        StripRows { codes, scales, row_codes, row_scales, rows, next_codes, next_scales }
    }

    /// Where a span from block `block` on lies: in the weight, or in `edge` where some of its blocks or rows do not
    /// exist; these are zero there.
    #[inline]
    pub fn span<'s>(&'s self, block: usize, edge: &'s mut Edge) -> RawSpan<'s> {
        if self.rows == STRIP && self.row_scales - block >= SPAN {
            let (codes, scales) = (&self.codes[block * BLOCK / 2..], &self.scales[block..]);
            RawSpan { codes, row_codes: self.row_codes, scales, row_scales: self.row_scales }
        } else {
            self.copy_edge(block, edge);
            RawSpan { codes: &edge.codes, row_codes: 64, scales: &edge.scales, row_scales: SPAN }
        }
    }

    /// Copies the blocks and rows that exist to where all of them do.
    #[cold]
    fn copy_edge(&self, block: usize, edge: &mut Edge) {
        *edge = Edge::default();
        let blocks = (self.row_scales - block).min(SPAN);
        for row in 0..self.rows {
            let from = &self.codes[row * self.row_codes + block * BLOCK / 2..];
            let bytes = blocks * BLOCK / 2;
            edge.codes[64 * row..][..bytes].copy_from_slice(&from[..bytes]);
            let from = &self.scales[row * self.row_scales + block..];
            edge.scales[SPAN * row..][..blocks].copy_from_slice(&from[..blocks]);
        }
    }

    /// Asks for bytes that will be wanted soon: as many as a span has.
    #[inline]
    pub fn prefetch(&self, next: Next, block: usize) {
        let (codes, codes_stride, scales, scales_stride) = match next {
            // A strip is contiguous in memory, so the requests of all its spans together are one
            // sequential sweep.
            Next::SameStrip => (block * BLOCK / 2 * STRIP, 64, block * STRIP, SPAN),
            Next::SamePiece => (block * BLOCK / 2, self.row_codes, block, self.row_scales),
        };
        let (codes_start, scales_start) = (self.next_codes.as_ptr(), self.next_scales.as_ptr());
        if codes + (STRIP - 1) * codes_stride < self.next_codes.len()
            && scales + (STRIP - 1) * scales_stride < self.next_scales.len()
        {
            for row in 0..STRIP {
                // SAFETY: both places are within their slices; a prefetch has no effect on memory, and every x86-64
                // has it.
                unsafe {
                    _mm_prefetch::<_MM_HINT_T1>(codes_start.add(codes + row * codes_stride).cast());
                    let scale = scales_start.add(scales + row * scales_stride);
                    // A line of scales serves eight spans.
                    if row % 8 == 0 || (next == Next::SamePiece && block.is_multiple_of(64)) {
                        _mm_prefetch::<_MM_HINT_T1>(scale.cast());
                    }
                }
            }
        }
    }
}

/// A span at the end of K or N, padded with zeros.
pub(super) struct Edge {
    codes: [u8; 64 * STRIP],
    scales: [u8; SPAN * STRIP],
}

impl Default for Edge {
    fn default() -> Self {
        Edge { codes: [0; 64 * STRIP], scales: [0; SPAN * STRIP] }
    }
}

/// 128 consecutive k of 16 rows: 64 bytes of codes and 8 of scale factors of each.
#[derive(Clone, Copy)]
pub(super) struct RawSpan<'a> {
    codes: &'a [u8],
    row_codes: usize,
    scales: &'a [u8],
    row_scales: usize,
}

impl RawSpan<'_> {
    /// From where on sixteen rows of 64 bytes of codes lie, and how many bytes apart.
    #[inline]
    pub fn codes(&self) -> (*const u8, usize) {
        (self.codes.as_ptr(), self.row_codes)
    }

    /// From where on sixteen rows of eight scale factors lie, and how many bytes apart.
    #[inline]
    pub fn scales(&self) -> (*const u8, usize) {
        (self.scales.as_ptr(), self.row_scales)
    }
}

/// Calls `each(weight, first, blocks, span)` for all spans of a piece whose units are blocks: `blocks` blocks of one weight
/// from the piece's block `first` on.
#[inline(always)]
pub(super) fn each_span(piece: Piece<'_>, mut each: impl FnMut(usize, usize, usize, RawSpan<'_>)) {
    let (rows, mut edge) = (piece.strips.map(StripRows::new), Edge::default());
    let Piece { units: blocks, next, .. } = piece;
    for first in (0..blocks.len()).step_by(SPAN) {
        for (weight, rows) in rows.iter().enumerate() {
            let block = blocks.start + first;
            rows.prefetch(next, block);
            let span = rows.span(block, &mut edge);
            each(weight, first, SPAN.min(blocks.end - block), span);
        }
    }
}
