//! The tensor memory accelerator: tensor maps, boxes, swizzles.
//!
//! Nothing here knows of instructions; `execute::bulk` calls it, and the runtime encodes maps with it. The way of a
//! box into shared memory is [`copy::gather`] (rows of global memory, one after the other) and then [`swizzle::place`]
//! (where those bytes lie); [`load`] is both. The way back is [`copy::source`] and [`copy::scatter`].

pub mod copy;
pub mod element;
pub mod map;
pub mod reduce;
pub mod replace;
pub mod swizzle;

use crate::fault::Result;
use crate::machine::global::GlobalMemory;
use map::TensorMap;
use swizzle::Image;

/// A box as it lies in shared memory after a load to `offset`.
pub fn load(
    map: &TensorMap,
    memory: &GlobalMemory,
    coordinates: &[i32],
    offset: u32,
) -> Result<Image> {
    let rows = copy::gather(map, memory, coordinates)?;
    Ok(swizzle::place(map.swizzle, offset, &rows, map.row_bytes()))
}
