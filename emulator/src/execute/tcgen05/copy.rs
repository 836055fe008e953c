//! `tcgen05.cp`: from shared to tensor memory.

use super::hazard::{agent, check_readers, members};
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::tcgen05::copy::Op;
use crate::machine::asynchronous::{Completion, Operation, Thread};
use crate::machine::order::Issue;
use crate::machine::shared::Proxy;
use crate::machine::tmem::{Region, split};
use crate::tensor::descriptor::{Descriptor, Generation};
use crate::tensor::layout::CopyShape;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    for lane in step.each_lane() {
        let members = members(step, op.group)?;
        let (row, column) = split(step.address(&op.to, lane) as u32);
        let from = Descriptor::parse(step.value(op.from, lane), Generation::Sm100)?;
        let thread = (step.rank, step.warp, lane as u32);
        let copy = Copy { thread, members, shape: op.shape, row, column, from };
        for rank in &copy.members {
            let tmem = &step.cluster.ctas[*rank as usize].tmem;
            tmem.check_columns("tcgen05.cp", column, copy.columns())?;
            check_readers(step.cluster, "tcgen05.cp", *rank, copy.region())?;
        }
        let agent = agent(&copy.members);
        step.submit(agent, lane, Issue::Tensor, Box::new(copy))?;
    }
    Ok(Flow::Next)
}

#[derive(Debug)]
struct Copy {
    /// Who issued it.
    thread: Thread,
    members: Vec<u32>,
    shape: CopyShape,
    row: u32,
    column: u32,
    from: Descriptor,
}

impl Copy {
    fn columns(&self) -> u32 {
        self.shape.units() * 4
    }

    fn region(&self) -> Region {
        let rows = 0..self.shape.rows();
        let lanes = rows.flat_map(|row| self.shape.lanes(row)).map(|lane| self.row + lane);
        Region { units: Region::units_of(lanes), column: self.column, columns: self.columns() }
    }
}

impl Operation for Copy {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let number = at.cluster.count_tensor_operation(self.thread);
        let what = "tcgen05.cp";
        let region = self.region();
        for rank in &self.members {
            check_readers(at.cluster, what, *rank, region)?;
            // Each thread block of a pair copies from its own shared memory.
            let cta = &mut at.cluster.ctas[*rank as usize];
            cta.tmem.check_columns(what, region.column, region.columns)?;
            let read = cta.tmem.reader.newest(region);
            if at.machine.settings.checks.copy_order && read > cta.tmem.observed {
                let message = format!(
                    "tcgen05.cp overwrites {region}, which operation {read} of the tensor cores, an mma, reads; \
                     commits up to {} were waited for, and PTX does not order cp after mma (EMULATOR_CHECKS: copy-order)",
                    cta.tmem.observed
                );
                return Err(Fault::new(FaultKind::TensorHazard, message));
            }
            for row in 0..self.shape.rows() {
                for unit in 0..self.shape.units() {
                    let address = self.from.unit_of_row(row, unit);
                    let mut words = [0; 4];
                    let bytes = cta.shared.read(address, 16, Proxy::Async)?;
                    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
                        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    }
                    for lane in self.shape.lanes(row) {
                        let column = self.column + 4 * unit;
                        let cells = cta.tmem.write(what, self.row + lane, column, 4)?;
                        cells.copy_from_slice(&words);
                    }
                }
            }
            cta.tmem.writer.set(region, number);
            at.touch_tensor(*rank, region, true)?;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!(
            "tcgen05.cp {:?} from {:#x} to columns {}..{} of CTA {:?}",
            self.shape,
            self.from.start,
            self.column,
            self.column + self.columns(),
            self.members
        )
    }

    fn tracked_by(&self) -> Option<Thread> {
        Some(self.thread)
    }

    fn writes_regions(&self) -> Vec<(u32, Region)> {
        self.members.iter().map(|rank| (*rank, self.region())).collect()
    }

    fn uses(&self) -> Vec<u32> {
        self.members.clone()
    }
}
