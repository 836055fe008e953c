//! Loads, stores and atomic operations as the checks of order see them.

use std::sync::Arc;

use crate::execute::step::Step;
use crate::fault::Result;
use crate::isa::address::{Target, split_shared};
use crate::isa::semantics::Semantics;
use crate::isa::value::LANES;
use crate::machine::order::{Kind, Who};

/// Lanes that access the same place.
fn groups(step: &Step<'_>, targets: &[Target; LANES]) -> Vec<(u32, Target)> {
    let mut groups: Vec<(u32, Target)> = Vec::new();
    for lane in step.each_lane() {
        match groups.last_mut() {
            Some((lanes, target)) if *target == targets[lane] => *lanes |= 1 << lane,
            _ => groups.push((1 << lane, targets[lane])),
        }
    }
    groups
}

/// What of an instruction is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// After a load.
    Load,
    /// Before a store.
    Store,
    /// Before an atomic operation.
    Update,
    /// After it.
    Updated,
}

/// Tells what the lanes do to shared and global memory.
pub fn tell(
    step: &mut Step<'_>,
    targets: &[Target; LANES],
    bytes: usize,
    semantics: Semantics,
    part: Part,
) -> Result<()> {
    if step.cluster.order.is_none() {
        return Ok(());
    }
    let (launch, grid) = (step.launch, Arc::clone(&step.cluster.grid));
    let global = &grid.order;
    for (lanes, target) in groups(step, targets) {
        let Some((order, all)) = step.order() else { return Ok(()) };
        let who = Who { lanes, ..all };
        let kind = Kind {
            writes: part != Part::Load,
            strong: semantics.is_strong.then_some(semantics.scope),
            is_async: false,
            is_collective: false,
        };
        let observes = semantics.is_strong && matches!(part, Part::Load | Part::Updated);
        let passes_on = semantics.is_strong && matches!(part, Part::Store | Part::Update);
        match target {
            Target::Shared(address) => {
                let at = split_shared(address);
                if observes {
                    order.observe(who, at, semantics);
                }
                if part != Part::Updated {
                    order.shared(launch, who, at, bytes as u32, kind)?;
                }
                if passes_on {
                    order.pass_on(who, at, semantics);
                }
            }
            Target::Global(address) => {
                if observes {
                    order.observe_global(global, who, address, semantics);
                }
                if part != Part::Updated {
                    order.global(launch, global, who, address, bytes as u64, kind)?;
                }
                if passes_on {
                    order.pass_on_global(global, who, address, semantics);
                }
            }
            Target::Param(_) | Target::Local(_) => {}
        }
    }
    Ok(())
}
