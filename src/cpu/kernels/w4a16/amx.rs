//! AMX-BF16: bf16 activations are tiles as they are, and the weights those of the kernel for NVFP4.
//!
//! Products are exact, but for subnormal numbers, which the unit takes for 0. Each piece of K is summed on its own and
//! added to the accumulator, as the other kernels do.

use half::bf16;
use std::ops::Range;

use crate::cpu::epilogue::{Epilogue, Sums};
use crate::cpu::integer::STRIP;
use crate::cpu::kernels::amx::{ATile, Amx, BTiles, TILE_K, TILE_ROWS};
use crate::cpu::schedule::{Kernel, Piece};
use crate::dtype::Element;
use crate::matrix::ValuesView;

/// The kernel for bf16.
pub(in crate::cpu) struct AmxBf16(Amx);

impl AmxBf16 {
    /// # Safety
    /// That of [`Amx::new`].
    pub unsafe fn new() -> Self {
        // SAFETY: by the contract of this function.
        AmxBf16(unsafe { Amx::new() })
    }
}

/// Below this many rows f32 is faster: on 2 and on 16 CPUs of an Emerald Rapids Xeon, 8 rows take 0.54 and 0.60 of its time
/// here, and 4 rows 1.46 and 1.14 times as long.
pub(in crate::cpu) const MIN_ROWS: usize = 5;

/// Rows that are summed together.
const ROWS_AT_ONCE: usize = 2 * TILE_ROWS;

impl Kernel for AmxBf16 {
    type Input<'a> = ValuesView<'a, bf16>;
    type A = ATile;
    type B = BTiles;
    const ROWS: usize = TILE_ROWS;
    const K: usize = TILE_K;

    fn pack(
        &self,
        a: &ValuesView<'_, bf16>,
        rows: Range<usize>,
        units: Range<usize>,
        out: &mut [ATile],
    ) {
        for row in 0..TILE_ROWS {
            if row >= rows.len() {
                out.iter_mut().for_each(|tile| tile.0[row].fill(0));
                continue;
            }
            let values = a.row(rows.start + row).chunks(TILE_K).skip(units.start);
            for (values, tile) in values.zip(&mut *out) {
                // K may end in the middle of a tile.
                let (there, beyond) = tile.0[row].split_at_mut(values.len());
                there.iter_mut().zip(values).for_each(|(bits, value)| *bits = value.to_bits());
                beyond.fill(0);
            }
        }
    }

    fn decode(&self, piece: Piece<'_>, out: &mut [BTiles]) {
        self.0.decode(piece, out);
    }

    fn multiply(&self, a: &[ATile], b: &[BTiles], acc: [&mut [[f32; STRIP]]; 2], first: bool) {
        if first {
            return self.0.multiply(a, b, acc, true);
        }
        let [acc1, acc2] = acc;
        let accs = acc1.chunks_mut(ROWS_AT_ONCE).zip(acc2.chunks_mut(ROWS_AT_ONCE));
        for (a, (acc1, acc2)) in a.chunks(2 * b.len()).zip(accs) {
            add_sums([acc1, acc2], false, |sums| self.0.multiply(a, b, sums, true));
        }
    }

    fn decode_multiply(
        &self,
        piece: Piece<'_>,
        room: &mut [BTiles],
        a: &[ATile],
        acc: [&mut [[f32; STRIP]]; 2],
        first: bool,
    ) {
        let (a, a_rest) = a.split_at(a.len().min(2 * room.len()));
        let [(acc1, rest1), (acc2, rest2)] =
            acc.map(|acc| acc.split_at_mut(acc.len().min(ROWS_AT_ONCE)));
        add_sums([acc1, acc2], first, |sums| {
            self.0.decode_multiply(piece, room, a, sums, true);
        });
        self.multiply(a_rest, room, [rest1, rest2], first);
    }

    fn finish<'c, C: Element>(
        &self,
        epilogue: &Epilogue<'_>,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [C]>,
    ) {
        self.0.finish(epilogue, sums, c);
    }
}

/// Adds the sums of at most [`ROWS_AT_ONCE`] rows, which `multiply` writes, to the accumulators; `first` says that they hold
/// nothing yet.
fn add_sums(
    acc: [&mut [[f32; STRIP]]; 2],
    first: bool,
    multiply: impl FnOnce([&mut [[f32; STRIP]]; 2]),
) {
    if first {
        return multiply(acc);
    }
    let mut sums = [[[0.0; STRIP]; ROWS_AT_ONCE]; 2];
    let [sums1, sums2] = &mut sums;
    multiply([&mut sums1[..acc[0].len()], &mut sums2[..acc[1].len()]]);
    for (acc, sums) in acc.into_iter().zip(&sums) {
        for (acc, sum) in acc.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            *acc += sum;
        }
    }
}
