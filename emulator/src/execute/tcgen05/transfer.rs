//! `tcgen05.ld`, `tcgen05.st` and the waits for them: between tensor memory and the registers of a warp.

use super::hazard::check_writers;
use crate::execute::step::{Flow, Step};
use crate::fault::{Fault, FaultKind, Result};
use crate::isa::tcgen05::transfer::{Access, Op};
use crate::isa::value::LANES;
use crate::machine::asynchronous::{Agent, Completion, Operation};
use crate::machine::order::Issue;
use crate::machine::tmem::{Region, split};
use crate::machine::warp::Wait;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    let agent = Agent::TensorMemory(step.rank, step.warp);
    match op {
        Op::WaitLoads | Op::WaitStores => {
            let loads = matches!(op, Op::WaitLoads);
            if !step.cluster.queues.is_idle(agent) {
                return Ok(Flow::Retry(if loads { Wait::TensorLoads } else { Wait::TensorStores }));
            }
            if loads {
                let pending = &mut step.warp().loads;
                pending.registers.clear();
                pending.regions.clear();
            }
        }
        Op::Load(access, registers) => {
            let place = locate(access, registers.len() as u32, "tcgen05.ld", step)?;
            let warp = step.warp();
            warp.reads_accumulators = true;
            warp.loads.registers.extend(registers.iter().flatten());
            warp.loads.regions.extend_from_slice(&place.regions);
            let load = Load { access: *access, place, registers: registers.clone() };
            touch(step, &load.place, false)?;
            let lane = step.first_lane();
            step.submit(agent, lane, Issue::Told, Box::new(load))?;
        }
        Op::Store(access, values) => {
            let place = locate(access, values.len() as u32, "tcgen05.st", step)?;
            let values: Vec<[u32; LANES]> = values
                .iter()
                .map(|value| std::array::from_fn(|lane| step.value(*value, lane) as u32))
                .collect();
            touch(step, &place, true)?;
            let (lane, store) = (step.first_lane(), Store { access: *access, place, values });
            step.submit(agent, lane, Issue::Told, Box::new(store))?;
        }
    }
    Ok(Flow::Next)
}

/// Tells the checks of order.
fn touch(step: &mut Step<'_>, place: &Place, writes: bool) -> Result<()> {
    let launch = step.launch;
    let Some((order, who)) = step.order() else { return Ok(()) };
    for region in &place.regions {
        order.tensor(launch, who, place.rank, *region, writes)?;
    }
    Ok(())
}

/// Where an access goes.
#[derive(Debug)]
struct Place {
    rank: u32,
    warp: u32,
    lanes: u32,
    row: u32,
    column: u32,
    regions: Vec<Region>,
}

fn locate(access: &Access, registers: u32, what: &str, step: &mut Step<'_>) -> Result<Place> {
    let first = step.first_lane();
    let address = step.address(&access.address, first) as u32;
    if let Some(lane) =
        step.each_lane().find(|lane| step.address(&access.address, *lane) as u32 != address)
    {
        let message = format!(
            "{what}: the address is {address:#x} in lane {first} and {:#x} in lane {lane}",
            step.address(&access.address, lane) as u32
        );
        return Err(Fault::new(FaultKind::Divergence, message));
    }
    let (row, column) = split(address);
    let quarter = step.warp % 4;
    if row / 32 != quarter || row % 32 + access.shape.lanes() > 32 {
        let message = format!(
            "{what} of lanes {row}..{} by warp {}, which may access lanes {}..{}",
            row + access.shape.lanes(),
            step.warp,
            32 * quarter,
            32 * quarter + 32
        );
        return Err(Fault::new(FaultKind::TensorMemory, message));
    }
    if row % 16 != 0 {
        let message = format!("{what} from lane {row}, no multiple of 16");
        return Err(Fault::new(FaultKind::TensorMemory, message));
    }
    let units = Region::units_of(row..row + access.shape.lanes());
    let pieces = access.columns(registers).into_iter();
    let regions: Vec<Region> =
        pieces.map(|(first, columns)| Region { units, column: column + first, columns }).collect();
    for region in &regions {
        step.cta().tmem.check_columns(what, region.column, region.columns)?;
        check_writers(step.cluster, what, step.rank, *region)?;
    }
    Ok(Place { rank: step.rank, warp: step.warp, lanes: step.lanes, row, column, regions })
}

impl Place {
    fn describe(&self, what: &str) -> String {
        format!(
            "{what} of CTA {} warp {}, lane {} column {}",
            self.rank, self.warp, self.row, self.column
        )
    }

    fn each_lane(&self) -> impl Iterator<Item = usize> + use<> {
        let lanes = self.lanes;
        (0..LANES).filter(move |lane| lanes >> lane & 1 != 0)
    }
}

#[derive(Debug)]
struct Load {
    access: Access,
    place: Place,
    registers: Vec<Option<u32>>,
}

impl Operation for Load {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let place = &self.place;
        let cta = &mut at.cluster.ctas[place.rank as usize];
        let words = &mut cta.warps[place.warp as usize].registers.words;
        for (index, register) in (0..).zip(&self.registers) {
            let Some(register) = register else { continue };
            let values = words.get_mut(*register as usize).ok_or_else(|| {
                Fault::new(FaultKind::Unsupported, format!("no register {register}"))
            })?;
            for lane in place.each_lane() {
                let (row, column, count) = self.access.cells(lane as u32, index);
                let (row, column) = (place.row + row, place.column + column);
                let cells = cta.tmem.read("tcgen05.ld", row, column, count)?;
                values[lane] = match *cells {
                    [cell] => cell,
                    [low, high] => low & 0xFFFF | high << 16,
                    _ => 0,
                };
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.place.describe("tcgen05.ld")
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.place.rank]
    }
}

#[derive(Debug)]
struct Store {
    access: Access,
    place: Place,
    values: Vec<[u32; LANES]>,
}

impl Operation for Store {
    fn complete(self: Box<Self>, at: &mut Completion<'_>) -> Result<()> {
        let place = &self.place;
        let cta = &mut at.cluster.ctas[place.rank as usize];
        for (index, values) in (0..).zip(&self.values) {
            for lane in place.each_lane() {
                let (row, column, count) = self.access.cells(lane as u32, index);
                let (row, column) = (place.row + row, place.column + column);
                let cells = cta.tmem.write("tcgen05.st", row, column, count)?;
                match cells {
                    [cell] => *cell = values[lane],
                    [low, high] => (*low, *high) = (values[lane] & 0xFFFF, values[lane] >> 16),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.place.describe("tcgen05.st")
    }

    fn uses(&self) -> Vec<u32> {
        vec![self.place.rank]
    }
}
