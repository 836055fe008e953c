//! Blocking, threads and memory, the same for all kernels.
//!
//! Rows of A are cut into segments of one batch each. A wave packs as many segments as 16 MiB hold;
//! its tasks are (group of strips, segment). A task sweeps K in pieces: for every strip it decodes
//! the piece of both weights and multiplies it with the rows of the segment, which stay in L2 from
//! strip to strip.

use rayon::prelude::*;
use std::ops::Range;

use super::epilogue::{Alphas, Epilogue, Residual, Sums};
use super::integer::STRIP;
use super::scratch::{Scratch, Taken};
use crate::dtype::Element;
use crate::matrix::{Nvfp4View, ValuesView};
use crate::op::{Join, Problem};
use crate::shape::GemmShape;

/// K of one piece: a decoded strip of it stays in L1.
pub(super) const PIECE: usize = 512;

/// Bytes of packed activations at a time.
const PANEL_BYTES: usize = 16 << 20;

/// Bytes of the accumulators of all threads together.
const ACCUMULATOR_BYTES: usize = 32 << 20;

/// Rows of a segment: with 512, a piece of A and the accumulators of a group stay in L2.
const SEGMENT_ROWS: usize = 512;

/// Strips of a group, when there are rows enough to make a second look at A worth while.
const GROUP_STRIPS: usize = 8;

/// Which piece is decoded after this one; a kernel may ask for its bytes early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The following piece of the same strip, and after the last one the next strip.
    SameStrip,
    /// The same piece of the next strip.
    SamePiece,
}

/// Activations of one type, as the kernels for them take them.
pub(super) trait Activations: Copy + Sync {
    /// One of the matrices of a batch.
    fn of_batch(&self, l: usize) -> Self;
}

impl Activations for Nvfp4View<'_> {
    fn of_batch(&self, l: usize) -> Self {
        self.slice(l)
    }
}

impl<T: Element> Activations for ValuesView<'_, T> {
    fn of_batch(&self, l: usize) -> Self {
        self.slice(l)
    }
}

/// The rows of a weight from one on; a strip is made of 16, or of those that there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strip<'a> {
    pub weight: Nvfp4View<'a>,
    /// At most as many as the weight has rows.
    pub first: usize,
    /// How many rows further down the next strip of the sweep begins.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // for prefetching
    pub step: usize,
}

impl Strip<'_> {
    /// Rows that exist, at most 16.
    pub fn rows(&self) -> usize {
        (self.weight.rows() - self.first).min(STRIP)
    }
}

/// A piece of K of a strip of both weights.
#[derive(Debug, Clone)]
pub(super) struct Piece<'a> {
    pub strips: [Strip<'a>; 2],
    /// Units of [`Kernel::K`].
    pub units: Range<usize>,
    /// For kernels that ask for memory ahead: those of x86-64.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub next: Next,
}

/// The inner loops of one instruction set.
pub(super) trait Kernel: Sync {
    /// Activations as they come.
    type Input<'a>: Activations;
    /// Packed activations: [`Kernel::ROWS`] rows times [`Kernel::K`] consecutive k.
    type A: Copy + Default + Send + Sync + 'static;
    /// Decoded weights: [`Kernel::K`] consecutive k of a strip of both weights.
    type B: Copy + Default + Send + Sync + 'static;
    /// Rows that are packed together.
    const ROWS: usize;
    /// Consecutive k that are packed together.
    const K: usize;

    /// Packs units `units` of rows `rows` (at most [`Kernel::ROWS`]) of A; what is beyond becomes 0.
    fn pack(
        &self,
        a: &Self::Input<'_>,
        rows: Range<usize>,
        units: Range<usize>,
        out: &mut [Self::A],
    );

    /// Decodes a piece, a unit to each element of `out`; what is beyond N or K becomes 0.
    fn decode(&self, piece: Piece<'_>, out: &mut [Self::B]);

    /// `acc[weight][row][column] (+)= A·Bᵀ` over the units of `b`. `a` holds as many units of each row
    /// tile, one tile after the other; `first` says that the accumulators hold nothing yet.
    fn multiply(&self, a: &[Self::A], b: &[Self::B], acc: [&mut [[f32; STRIP]]; 2], first: bool);

    /// Up to this many rows, which are packed one by one, go to [`Kernel::few_rows`].
    const FEW_ROWS: usize = 0;

    /// [`Kernel::multiply`] for at most [`Kernel::FEW_ROWS`] rows, but not 0, each block as soon as it is decoded; it is not
    /// called where there are none.
    fn few_rows(
        &self,
        _piece: Piece<'_>,
        _a: &[Self::A],
        _acc: [&mut [[f32; STRIP]]; 2],
        _first: bool,
    ) {
    }

    /// [`Kernel::multiply`] with a piece that is decoded for it; what is in `room`, which is as long as the piece, does not
    /// matter before or after.
    fn decode_multiply(
        &self,
        piece: Piece<'_>,
        room: &mut [Self::B],
        a: &[Self::A],
        acc: [&mut [[f32; STRIP]]; 2],
        first: bool,
    ) {
        if (1..=Self::FEW_ROWS).contains(&acc[0].len()) {
            return self.few_rows(piece, a, acc, first);
        }
        self.decode(piece, room);
        self.multiply(a, room, acc, first);
    }

    /// Joins the sums and writes rows of C, each as long as the strips are wide, or less.
    fn finish<'c, T: Element>(
        &self,
        epilogue: &Epilogue<'_>,
        sums: Sums<'_>,
        c: impl Iterator<Item = &'c mut [T]>,
    ) {
        epilogue.finish(sums, c, |values, out| T::convert(values, out));
    }
}

/// Rows of one batch.
#[derive(Debug, Clone, Copy)]
struct Segment {
    batch: usize,
    start: usize,
    rows: usize,
}

/// How the rows of all batches are cut into segments.
#[derive(Debug, Clone, Copy)]
struct Cut {
    m: usize,
    /// Rows of each segment but the last of a batch.
    rows: usize,
    /// Segments of one batch.
    per_batch: usize,
}

impl Cut {
    fn segment(&self, i: usize) -> Segment {
        let start = i % self.per_batch * self.rows;
        Segment { batch: i / self.per_batch, start, rows: self.rows.min(self.m - start) }
    }
}

/// Up to this many multiplications the calling thread works alone: waking others takes longer. Decoding the weights
/// counts as much as multiplying them with eight rows.
const SERIAL_PRODUCTS: usize = 1 << 20;

/// Whether the calling thread computes a problem alone, which is as much work as a dual GEMM of this shape
/// ([`Problem::work`]).
pub(crate) fn is_small(shape: GemmShape) -> bool {
    let GemmShape { m, n, k, batch } = shape;
    let products = [n, 2, k, batch, m.max(8)].iter().try_fold(1usize, |p, &x| p.checked_mul(x));
    products.is_some_and(|products| products <= SERIAL_PRODUCTS)
}

/// Runs the whole problem.
pub(super) fn run<K: Kernel + 'static, T: Element>(
    kernel: &K,
    a: K::Input<'_>,
    problem: &Problem<'_>,
    scratch: &Scratch,
    c: &mut [T],
) {
    let GemmShape { m, n, k, batch } = problem.shape;
    let serial = is_small(problem.work());
    let units = k.div_ceil(K::K);
    let tile_bytes = units * size_of::<K::A>();
    let fitting = PANEL_BYTES / tile_bytes * K::ROWS;
    // A panel that holds no useful number of rows is not worth having: tasks then pack for
    // themselves, piece by piece. That takes a K above 131,072 with AMX and above a million otherwise.
    let shared = fitting >= m.min(4 * K::ROWS);
    let longest = if shared { SEGMENT_ROWS.min(fitting) } else { SEGMENT_ROWS / 8 };
    let rows = m.div_ceil(m.div_ceil(longest)).next_multiple_of(K::ROWS);
    let tiles_per_segment = rows / K::ROWS;
    let cut = Cut { m, rows, per_batch: m.div_ceil(rows) };
    let segments = batch * cut.per_batch;
    let segments_per_wave =
        if shared { (PANEL_BYTES / tile_bytes / tiles_per_segment).max(1) } else { segments };

    let strips = n.div_ceil(columns_of_strip(problem));
    let per_group = if rows <= 16 {
        1
    } else {
        // Enough tasks to keep all threads busy to the end.
        let threads = rayon::current_num_threads();
        let strip_bytes = 2 * rows * size_of::<[f32; STRIP]>();
        (strips * segments / (8 * threads))
            .min(ACCUMULATOR_BYTES / (threads * strip_bytes))
            .clamp(1, GROUP_STRIPS)
    };
    let groups = strips.div_ceil(per_group);
    let output = Output { c: c.as_mut_ptr(), m, n };
    let mut row_alphas = scratch.take::<Vec<[f32; 2]>>();
    row_alphas.clear();
    if problem.row_scales.is_some() {
        row_alphas.extend((0..batch * m).map(|row| problem.alphas(row).map(|alpha| alpha as f32)));
    }
    let row_alphas = &row_alphas[..];
    let mut panel = scratch.take::<Vec<K::A>>();
    for first in (0..segments).step_by(segments_per_wave) {
        let wave = segments_per_wave.min(segments - first);
        if shared {
            let segment_units = tiles_per_segment * units;
            // What was there before is overwritten up to where it is read.
            if panel.len() < wave * segment_units {
                panel.resize(wave * segment_units, K::A::default());
            }
            let panel = &mut panel[..wave * segment_units];
            let pack = |(i, out): (usize, &mut [K::A])| {
                let segment = cut.segment(first + i);
                pack_segment(kernel, &a.of_batch(segment.batch), segment, units, serial, out);
            };
            if serial {
                panel.chunks_mut(segment_units).enumerate().for_each(pack);
            } else {
                panel.par_chunks_mut(segment_units).enumerate().for_each(pack);
            }
        }
        let task =
            Task { kernel, a, problem, panel: &panel, shared, units, rows, per_group, row_alphas };
        let work = |buffers: &mut Taken<'_, Buffers<K>>, i: usize| {
            let (group, i) = (i / wave, i % wave);
            let tile = i * tiles_per_segment;
            task.run(cut.segment(first + i), tile, group * per_group, strips, buffers, &output);
        };
        let buffers = || Buffers::taken(scratch, per_group, rows, shared);
        if serial {
            let mut buffers = buffers();
            (0..groups * wave).for_each(|i| work(&mut buffers, i));
        } else {
            (0..groups * wave).into_par_iter().for_each_init(buffers, work);
        }
    }
}

/// Packs a segment piece by piece, so that what one piece of K needs of all rows is contiguous.
fn pack_segment<K: Kernel>(
    kernel: &K,
    a: &K::Input<'_>,
    segment: Segment,
    units: usize,
    serial: bool,
    out: &mut [K::A],
) {
    let tiles = segment.rows.div_ceil(K::ROWS);
    let (out, piece) = (&mut out[..tiles * units], tiles * (PIECE / K::K));
    let pack = |(i, out): (usize, &mut [K::A])| {
        let start = i * (PIECE / K::K);
        pack_piece(kernel, a, segment, start..start + out.len() / tiles, out);
    };
    if serial {
        out.chunks_mut(piece).enumerate().for_each(pack);
    } else {
        out.par_chunks_mut(piece).enumerate().for_each(pack);
    }
}

/// Packs units `units` of all rows of a segment, row tile by row tile.
fn pack_piece<K: Kernel>(
    kernel: &K,
    a: &K::Input<'_>,
    segment: Segment,
    units: Range<usize>,
    out: &mut [K::A],
) {
    let end = segment.start + segment.rows;
    let starts = (segment.start..end).step_by(K::ROWS);
    for (from, out) in starts.zip(out.chunks_exact_mut(units.len())) {
        kernel.pack(a, from..end.min(from + K::ROWS), units.clone(), out);
    }
}

/// Buffers of one thread.
struct Buffers<K: Kernel> {
    /// A decoded piece of a strip.
    strip: Vec<K::B>,
    /// Accumulators \[strip\]\[weight\]\[row\].
    acc: Vec<[f32; STRIP]>,
    /// A packed piece of the segment, where there is no shared panel.
    a: Vec<K::A>,
}

impl<K: Kernel> Default for Buffers<K> {
    fn default() -> Self {
        Buffers { strip: Vec::new(), acc: Vec::new(), a: Vec::new() }
    }
}

impl<K: Kernel + 'static> Buffers<K> {
    /// Of the exact lengths; what is in them does not matter.
    fn taken(scratch: &Scratch, per_group: usize, rows: usize, shared: bool) -> Taken<'_, Self> {
        let units = PIECE / K::K;
        let mut buffers = scratch.take::<Self>();
        buffers.strip.resize(units, K::B::default());
        buffers.acc.resize(per_group * 2 * rows, [0.0; STRIP]);
        buffers.a.resize(if shared { 0 } else { rows / K::ROWS * units }, K::A::default());
        buffers
    }
}

struct Task<'a, 'i, K: Kernel> {
    kernel: &'a K,
    a: K::Input<'i>,
    problem: &'a Problem<'a>,
    panel: &'a [K::A],
    shared: bool,
    units: usize,
    /// Rows of the longest segment, a multiple of `K::ROWS`.
    rows: usize,
    per_group: usize,
    /// `[alpha1, alpha2]` of all rows of all batches; empty where they are the same.
    row_alphas: &'a [[f32; 2]],
}

impl<K: Kernel> Task<'_, '_, K> {
    /// Computes a group of strips of one segment, whose row tiles start with `tile` of the panel.
    fn run<T: Element>(
        &self,
        segment: Segment,
        tile: usize,
        first_strip: usize,
        strips: usize,
        scratch: &mut Buffers<K>,
        output: &Output<T>,
    ) {
        let (kernel, problem) = (self.kernel, self.problem);
        let a = self.a.of_batch(segment.batch);
        let weights = problem.weights.map(|weight| weight.slice(segment.batch));
        let tiles = segment.rows.div_ceil(K::ROWS);
        let group = first_strip..strips.min(first_strip + self.per_group);
        let piece = PIECE / K::K;
        let next = if self.per_group == 1 { Next::SameStrip } else { Next::SamePiece };

        for start in (0..self.units).step_by(piece) {
            let units = start..self.units.min(start + piece);
            let a = if self.shared {
                let segment = &self.panel[tile * self.units..];
                &segment[tiles * start..tiles * units.end]
            } else {
                let out = &mut scratch.a[..tiles * units.len()];
                pack_piece(kernel, &a, segment, units.clone(), out);
                out
            };
            for (strip, acc) in group.clone().zip(scratch.acc.chunks_exact_mut(2 * self.rows)) {
                let room = &mut scratch.strip[..units.len()];
                let strips = strip_of(problem, weights, strip);
                let piece = Piece { strips, units: units.clone(), next };
                let (acc1, acc2) = acc.split_at_mut(self.rows);
                let padded = tiles * K::ROWS;
                let acc = [&mut acc1[..padded], &mut acc2[..padded]];
                kernel.decode_multiply(piece, room, a, acc, start == 0);
            }
        }

        let GemmShape { m, n, .. } = problem.shape;
        let column = group.start * columns_of_strip(problem);
        let width = (group.len() * columns_of_strip(problem)).min(n - column);
        let first = segment.batch * m + segment.start;
        let c = (segment.start..segment.start + segment.rows).map(|row| {
            // SAFETY: each (segment, group) is given to one task, so nobody else holds this part of
            // a row, and `c` outlives the parallel loop.
            unsafe { output.part(segment.batch, row, column, width) }
        });
        let alphas = match self.row_alphas {
            [] => Alphas::Tensor(problem.alphas(first).map(|alpha| alpha as f32)),
            all => Alphas::Row(&all[first..]),
        };
        let biases = problem.biases.map_or([&[][..]; 2], |biases| {
            biases.map(|bias| &bias[segment.batch * n + column..][..width])
        });
        let residual = |values| Residual { values, first: first * n + column, stride: n };
        let join = match problem.join {
            Join::Glu(glu) => super::epilogue::Join::Glu(glu),
            Join::Add(r) => super::epilogue::Join::Add(r.map(residual)),
        };
        let epilogue = Epilogue { alphas, biases, join };
        kernel.finish(&epilogue, Sums { acc: &scratch.acc, rows: self.rows }, c);
    }
}

/// Columns of C that a strip of both weights gives: the same 16 of both of a dual GEMM, and twice 16 of a GEMM, whose
/// weight stands for both.
fn columns_of_strip(problem: &Problem<'_>) -> usize {
    match problem.join {
        Join::Glu(_) => STRIP,
        Join::Add(_) => 2 * STRIP,
    }
}

/// Strip `i` of the weights of one batch.
fn strip_of<'a>(problem: &Problem<'_>, weights: [Nvfp4View<'a>; 2], i: usize) -> [Strip<'a>; 2] {
    let step = columns_of_strip(problem);
    let firsts = match problem.join {
        Join::Glu(_) => [i * step; 2],
        Join::Add(_) => [i * step, i * step + STRIP],
    };
    let strip = |weight: Nvfp4View<'a>, first: usize| Strip {
        weight,
        first: first.min(weight.rows()),
        step,
    };
    [strip(weights[0], firsts[0]), strip(weights[1], firsts[1])]
}

/// C as seen by the tasks, each of which writes its own columns of its own rows.
struct Output<T> {
    c: *mut T,
    m: usize,
    n: usize,
}

// SAFETY: the pointer is only used through `part`, whose callers keep to disjoint parts.
unsafe impl<T: Send> Sync for Output<T> {}

impl<T> Output<T> {
    /// # Safety
    /// The part lies within C, C is borrowed mutably for as long as the part is used, and no two
    /// parts in use overlap.
    #[allow(clippy::mut_from_ref)]
    unsafe fn part(&self, batch: usize, row: usize, column: usize, width: usize) -> &mut [T] {
        let offset = (batch * self.m + row) * self.n + column;
        // SAFETY: by the contract of this function.
        unsafe { std::slice::from_raw_parts_mut(self.c.add(offset), width) }
    }
}
