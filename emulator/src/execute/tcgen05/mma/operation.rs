//! An MMA in execution: operands are read from shared and tensor memory when it completes.

use crate::execute::panel::{Slice, read_k_major, read_mn_major};
use crate::execute::tcgen05::hazard::check_readers;
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::tcgen05::mma::Collector;
use crate::machine::asynchronous::{Completion, Operation, Thread};
use crate::machine::cta::Cta;
use crate::machine::tmem::{Region, TensorMemory};
use crate::settings::Rounding;
use crate::tensor::block_scaled::{self, RightScales, Scratch};
use crate::tensor::dense;
use crate::tensor::descriptor::Descriptor;
use crate::tensor::instruction::{Instruction, Kind, ScaleSetup};
use crate::tensor::layout::{self, RowOfD};
use crate::tensor::numbers::{Format, ScaleFormat};
use crate::tensor::rounding::{Mode, Output};

const WHAT: &str = "tcgen05.mma";

/// Columns of the first scale factors.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScaleAddresses {
    pub(super) a: u32,
    pub(super) b: u32,
}

/// Where A is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
    Shared(Descriptor),
    /// First column.
    Tensor(u32),
}

/// One instruction.
#[derive(Debug)]
pub(super) struct Mma {
    /// Who issued it.
    pub(super) thread: Thread,
    pub(super) members: Vec<u32>,
    pub(super) what: Instruction,
    /// First lane of D: 0, or 16 with M = 64.
    pub(super) row: u32,
    /// Lanes of D, in units of 16.
    pub(super) units: u8,
    /// First column of D.
    pub(super) column: u32,
    pub(super) a: Left,
    /// The operand of A as it was given.
    pub(super) a_key: u64,
    pub(super) b: Descriptor,
    pub(super) scales: Option<ScaleAddresses>,
    pub(super) disabled: Vec<u32>,
    pub(super) accumulate: bool,
    pub(super) shift: u32,
    pub(super) collector: Collector,
}

/// The units of lanes that D has from a lane on. With M = 64 these are half of them: the others may hold another D.
pub(super) fn units(what: &Instruction, row: u32) -> u8 {
    let rows = layout::accumulator(what.group, what.m, what.n);
    Region::units_of(rows.iter().map(|of_d| row + of_d.lane))
}

impl Mma {
    /// Where D is, by rank.
    pub(super) fn regions(&self) -> Vec<(u32, Region)> {
        let halved = self.what.group == 2 && self.what.m == 128;
        let columns = if halved { self.what.n / 2 } else { self.what.n };
        let region = Region { units: self.units, column: self.column, columns };
        self.members.iter().map(|rank| (*rank, region)).collect()
    }

    fn is_disabled(&self, row: &RowOfD) -> bool {
        let bit = row.cta * 128 + self.row + row.lane;
        self.disabled.get(bit as usize / 32).is_some_and(|word| word >> (bit % 32) & 1 != 0)
    }

    fn mode(&self, rounding: Rounding) -> Mode {
        match (rounding, self.what.kind) {
            (Rounding::Exact, _) => Mode::Exact,
            (Rounding::MmaSim, Kind::MXF4 | Kind::MXF4NVF4) => block_scaled::MMA_SIM,
            (Rounding::MmaSim, _) => dense::MMA_SIM,
        }
    }

    /// A `use` must find the A that a `fill` left.
    fn check_collector(&self, tmem: &mut TensorMemory) -> Result<()> {
        let held = tmem.collector;
        tmem.collector = match self.collector {
            Collector::Discard | Collector::LastUse => None,
            Collector::Fill | Collector::Use => Some(self.a_key),
        };
        if matches!(self.collector, Collector::Use | Collector::LastUse) && held != Some(self.a_key)
        {
            let held = held.map_or("nothing".to_owned(), |key| format!("{key:#x}"));
            let message = format!(
                "tcgen05.mma takes A = {:#x} from the collector, which holds {held}",
                self.a_key
            );
            return Err(Fault::new(FaultKind::Descriptor, message));
        }
        Ok(())
    }

    /// Rows of A in the thread block.
    fn left(&self, cta: &Cta) -> Result<Vec<Slice>> {
        let rows = self.what.m / self.what.group;
        match &self.a {
            Left::Shared(from) => self.panel(cta, from, rows, self.what.a, self.what.transposed[0]),
            Left::Tensor(column) => (0..rows)
                .map(|row| {
                    let cells = cta.tmem.read("A of tcgen05.mma", row, *column, 8)?;
                    let mut slice = [0; 32];
                    for (bytes, cell) in slice.chunks_exact_mut(4).zip(cells) {
                        bytes.copy_from_slice(&cell.to_le_bytes());
                    }
                    Ok(slice)
                })
                .collect(),
        }
    }

    fn panel(
        &self,
        cta: &Cta,
        from: &Descriptor,
        rows: u32,
        format: Format,
        transposed: bool,
    ) -> Result<Vec<Slice>> {
        if transposed {
            read_mn_major(&cta.shared, from, rows, format.bits() / 8)
        } else {
            read_k_major(&cta.shared, from, rows)
        }
    }

    fn multiply(&self, ctas: &mut [Cta], rounding: Rounding) -> Result<()> {
        let place = |member: u32| self.members[member as usize] as usize;
        let mut left = Vec::new();
        let mut right = Vec::new();
        for rank in &self.members {
            let cta = &ctas[*rank as usize];
            left.push(self.left(cta)?);
            let columns = self.what.n / self.what.group;
            let transposed = self.what.transposed[1];
            right.extend(self.panel(cta, &self.b, columns, self.what.b, transposed)?);
        }
        let rows = layout::accumulator(self.what.group, self.what.m, self.what.n);
        let mode = self.mode(rounding);
        if matches!(self.what.kind, Kind::MXF4 | Kind::MXF4NVF4) {
            negate_packed(&mut left, &mut right, self.what.negated);
            let right = block_scaled::Right::new(&right);
            let mut scales: Vec<RightScales> = Vec::new();
            let mut known: Vec<(ScaleKey, usize, Vec<[u8; 4]>)> = Vec::new();
            let mut scratch = Scratch::default();
            for row in rows.iter().filter(|row| !self.is_disabled(row)) {
                let tmem = &ctas[place(row.cta)].tmem;
                let (setup, own) = self.left_scales(tmem, row)?;
                let key = ScaleKey::new(row);
                let index = match known.iter().find(|(other, ..)| *other == key) {
                    Some((_, index, _)) => *index,
                    None => {
                        let codes = self.right_scales(tmem, row)?;
                        // All copies are equal in a correct program.
                        let index = match known.iter().find(|(_, _, other)| *other == codes) {
                            Some((_, index, _)) => *index,
                            None => {
                                let count = setup.count as usize;
                                scales.push(RightScales::new(codes.clone(), count, setup.format));
                                scales.len() - 1
                            }
                        };
                        known.push((key, index, codes));
                        index
                    }
                };
                let a = block_scaled::decode(&left[row.cta as usize][row.row as usize]);
                let first = row.columns.0 as usize;
                let cells = self.cells(&mut ctas[place(row.cta)].tmem, row)?;
                block_scaled::row(
                    &a,
                    own,
                    (&right, &scales[index]),
                    first,
                    cells,
                    self.accumulate,
                    mode,
                    &mut scratch,
                );
            }
            return Ok(());
        }
        let (a_format, b_format) = (self.what.a, self.what.b);
        let mut values = Vec::new();
        for slice in &right {
            b_format.unpack(slice, &mut values);
        }
        negate(&mut values, self.what.negated[1]);
        let right = dense::Right::new(&values, self.what.kind.k() as usize, b_format);
        let setup = dense::Setup {
            accumulate: self.accumulate,
            shift: self.shift,
            output: self.what.output,
            mode,
        };
        let mut known: Vec<(ScaleKey, Vec<u8>)> = Vec::new();
        // With cta_group::2 and M = 128 a row of A has two rows of D.
        let mut previous: Option<((u32, u32), dense::Left)> = None;
        for row in rows.iter().filter(|row| !self.is_disabled(row)) {
            let at = (row.cta, row.row);
            let a = match previous.take() {
                Some((place, a)) if place == at => a,
                _ => {
                    let mut values = Vec::with_capacity(right.depth());
                    a_format.unpack(&left[row.cta as usize][row.row as usize], &mut values);
                    negate(&mut values, self.what.negated[0]);
                    dense::Left::new(values, a_format)
                }
            };
            let mut scaled = None;
            if self.scales.is_some() {
                let tmem = &ctas[place(row.cta)].tmem;
                let (_, own) = self.left_scales(tmem, row)?;
                let key = ScaleKey::new(row);
                let index = match known.iter().position(|(other, _)| *other == key) {
                    Some(index) => index,
                    None => {
                        let codes = self.right_scales(tmem, row)?;
                        known.push((key, codes.iter().map(|codes| codes[0]).collect()));
                        known.len() - 1
                    }
                };
                scaled = Some((own[0], index));
            }
            let scales = scaled.map(|(left, index)| dense::Scales {
                left,
                right: &known[index].1,
                format: ScaleFormat::UE8M0,
            });
            let first = row.columns.0 as usize;
            let cells = self.cells(&mut ctas[place(row.cta)].tmem, row)?;
            dense::row(&a, &right, scales, first, cells, setup);
            previous = Some((at, a));
        }
        Ok(())
    }

    /// The row of D.
    fn cells<'a>(&self, tmem: &'a mut TensorMemory, row: &RowOfD) -> Result<&'a mut [u32]> {
        let lane = self.row + row.lane;
        if self.accumulate {
            tmem.read("D of tcgen05.mma", lane, self.column, row.columns.1)?;
        }
        tmem.write(WHAT, lane, self.column, row.columns.1)
    }

    fn left_scales(&self, tmem: &TensorMemory, row: &RowOfD) -> Result<(ScaleSetup, [u8; 4])> {
        let (Some(setup), Some(addresses)) = (self.what.scales, self.scales) else {
            return Err(Fault::unsupported("tcgen05.mma without scale factors"));
        };
        let (lane, column) = layout::scale(row.row, row.lane / 32);
        let what = "scale factors of A of tcgen05.mma";
        let cell = tmem.read(what, lane, addresses.a + column, 1)?[0];
        Ok((setup, codes(cell, setup.id_a)))
    }

    /// Scale factors of the columns of B that the row has; the others are 0.
    fn right_scales(&self, tmem: &TensorMemory, row: &RowOfD) -> Result<Vec<[u8; 4]>> {
        let (Some(setup), Some(addresses)) = (self.what.scales, self.scales) else {
            return Err(Fault::unsupported("tcgen05.mma without scale factors"));
        };
        let mut all = vec![[0; 4]; self.what.n as usize];
        let (first, count) = row.columns;
        for (n, codes_of) in (0..count).zip(all.iter_mut().skip(first as usize)) {
            let (lane, column) = layout::scale(n, row.lane / 32);
            let what = "scale factors of B of tcgen05.mma";
            let cell = tmem.read(what, lane, addresses.b + column, 1)?[0];
            *codes_of = codes(cell, setup.id_b);
        }
        Ok(all)
    }

    /// Columns that are read other than as accumulator: first and count.
    fn read_columns(&self) -> Vec<(u32, u32)> {
        let mut columns = Vec::new();
        if let Some(scales) = self.scales {
            let rows = self.what.m / self.what.group;
            let width = if self.what.group == 2 && self.what.m == 128 {
                self.what.n / 2
            } else {
                self.what.n
            };
            columns.extend([(scales.a, rows.div_ceil(32)), (scales.b, width.div_ceil(32))]);
        }
        if let Left::Tensor(column) = self.a {
            columns.push((column, 8));
        }
        columns
    }
}

/// Rows of D with the same key use the same copy of the scale factors of B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ScaleKey {
    cta: u32,
    partition: u32,
    first: u32,
}

impl ScaleKey {
    fn new(row: &RowOfD) -> Self {
        Self { cta: row.cta, partition: row.lane / 32, first: row.columns.0 }
    }
}

/// What is known of D in words.
fn output_name(output: Output) -> &'static str {
    match output {
        Output::F32 => "f32",
        Output::F16 => "f16",
        Output::S32 { .. } => "s32",
    }
}

/// The bytes of a cell from `id` on.
fn codes(cell: u32, id: u32) -> [u8; 4] {
    (cell >> (8 * id)).to_le_bytes()
}

fn negate(values: &mut [f64], negated: bool) {
    if negated {
        for value in values {
            *value = -*value;
        }
    }
}

/// Negates packed E2M1 elements: their signs are bits 3 and 7 of each byte.
fn negate_packed(left: &mut [Vec<Slice>], right: &mut [Slice], negated: [bool; 2]) {
    let flip = |slice: &mut Slice| slice.iter_mut().for_each(|byte| *byte ^= 0x88);
    if negated[0] {
        left.iter_mut().flatten().for_each(flip);
    }
    if negated[1] {
        right.iter_mut().for_each(flip);
    }
}

impl Operation for Mma {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let number = at.cluster.count_tensor_operation(self.thread);
        for (rank, region) in self.regions() {
            check_readers(at.cluster, WHAT, rank, region)?;
            let tmem = &mut at.cluster.ctas[rank as usize].tmem;
            tmem.check_columns(WHAT, region.column, region.columns)?;
            for (first, count) in self.read_columns() {
                tmem.check_columns("tcgen05.mma (scale factors or A)", first, count)?;
                tmem.reader.set(Region::whole(first, count), number);
            }
            tmem.writer.set(region, number);
            for (first, count) in self.read_columns() {
                at.touch_tensor(rank, Region::whole(first, count), false)?;
            }
            at.touch_tensor(rank, region, true)?;
        }
        let leader = self.members[0] as usize;
        self.check_collector(&mut at.cluster.ctas[leader].tmem)?;
        self.multiply(&mut at.cluster.ctas, at.machine.settings.rounding)
    }

    fn describe(&self) -> String {
        let what = &self.what;
        format!(
            "tcgen05.mma kind::{} cta_group::{} {}x{}x{} into columns {}.. ({}) of CTA {:?}",
            what.kind.name(),
            what.group,
            what.m,
            what.n,
            what.kind.k(),
            self.column,
            output_name(what.output),
            self.members
        )
    }

    fn tracked_by(&self) -> Option<Thread> {
        Some(self.thread)
    }

    fn writes_regions(&self) -> Vec<(u32, Region)> {
        self.regions()
    }

    fn uses(&self) -> Vec<u32> {
        self.members.clone()
    }
}
