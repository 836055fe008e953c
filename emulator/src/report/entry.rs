//! Launches of one kernel with one shape, and what was counted in them.

use std::collections::BTreeMap;

use crate::counters::Counters;
use crate::machine::Launch;
use crate::settings::Settings;
use crate::tma::map::{self, TensorMap};
use serde::{Deserialize, Serialize};

/// Launches of one kernel with one shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// As in PTX.
    pub kernel: String,
    /// `b200` or `h100`.
    pub device: String,
    /// Multiprocessors that the program saw.
    pub sms: u32,
    /// In thread blocks.
    pub grid: [u32; 3],
    /// In threads.
    pub block: [u32; 3],
    /// In thread blocks.
    pub cluster: [u32; 3],
    /// Bytes.
    pub dynamic_shared: u32,
    /// How many launches the counts are of.
    pub launches: u64,
    /// Bytes of the whole tensor of a tensor map that is a parameter, by offset.
    pub tensors: BTreeMap<u64, u64>,
    /// What was counted.
    pub counters: Counters,
}

impl Entry {
    /// Of one launch.
    pub fn new(settings: &Settings, launch: &Launch, counters: &Counters) -> Self {
        let keys = counters.loads.keys().chain(counters.stores.keys());
        let tensors = keys.filter_map(|key| Some((*key, tensor_bytes(&launch.parameters, *key)?)));
        Self {
            kernel: launch.kernel.name.clone(),
            device: format!("{:?}", settings.model).to_lowercase(),
            sms: settings.sms,
            grid: launch.grid,
            block: launch.block,
            cluster: launch.cluster,
            dynamic_shared: launch.dynamic_shared,
            launches: 1,
            tensors: tensors.collect(),
            counters: counters.clone(),
        }
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        let shape = |entry: &Self| {
            (entry.sms, entry.grid, entry.block, entry.cluster, entry.dynamic_shared)
        };
        self.kernel == other.kernel
            && self.device == other.device
            && shape(self) == shape(other)
            && self.tensors == other.tensors
    }

    /// The counts of one launch: the mean, as equal launches count almost equally.
    pub fn per_launch(&self, count: u64) -> f64 {
        count as f64 / self.launches.max(1) as f64
    }
}

/// Bytes of the tensor that the map at an offset of the parameters describes.
fn tensor_bytes(parameters: &[u8], offset: u64) -> Option<u64> {
    let start = usize::try_from(offset).ok()?;
    let map = TensorMap::decode(parameters.get(start..start.checked_add(map::BYTES)?)?).ok()?;
    let elements = map.dims[..map.rank]
        .iter()
        .try_fold(1, |product: u64, extent| product.checked_mul(*extent))?;
    Some(elements.checked_mul(map.element.bits())? / 8)
}
