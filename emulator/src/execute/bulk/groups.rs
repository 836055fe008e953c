//! `cp.async.bulk.commit_group` and `cp.async.bulk.wait_group`.

use crate::execute::step::{Flow, Step};
use crate::fault::Result;
use crate::isa::bulk::groups::Op;
use crate::machine::warp::Wait;

/// Executes.
pub fn execute(op: &Op, step: &mut Step<'_>) -> Result<Flow> {
    let lanes = step.each_lane();
    match op {
        Op::Commit => {
            for lane in lanes {
                if let Some(groups) = step.warp().bulk.get_mut(lane) {
                    groups.commit();
                }
            }
            if let Some((order, who)) = step.order() {
                order.commit_group(who, true);
            }
        }
        Op::Wait { allowed, read } => {
            let bulk = &step.warp_ref().bulk;
            let mut groups = lanes.filter_map(|lane| bulk.get(lane));
            if !groups.all(|groups| groups.is_over(*allowed, *read)) {
                return Ok(Flow::Retry(Wait::BulkGroups { allowed: *allowed, read: *read }));
            }
            if let Some((order, who)) = step.order() {
                order.wait_group(who, true, *allowed, *read);
            }
        }
    }
    Ok(Flow::Next)
}
