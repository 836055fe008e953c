//! From a call that launches a kernel to a [`Launch`]: finds the kernel, checks the sizes, copies the parameters.

use std::sync::Arc;

use super::code::Code;
use super::device::{
    BLOCKS_PER_SM, Device, MAX_BLOCK, MAX_CLUSTER, MAX_GRID, MAX_THREADS, SHARED_DEFAULT,
    SHARED_OPTIN, SHARED_PER_SM, SHARED_RESERVED, THREADS_PER_SM,
};
use super::module::{Found, FunctionSettings, lock};
use super::pointer::Arguments;
use super::refusal::{Outcome, Refusal};
use crate::isa::Kernel;
use crate::machine::Launch;

/// `dim3`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Dim3 {
    /// First, and fastest.
    pub x: u32,
    /// Second.
    pub y: u32,
    /// Third.
    pub z: u32,
}

impl From<Dim3> for [u32; 3] {
    fn from(dim: Dim3) -> Self {
        [dim.x, dim.y, dim.z]
    }
}

/// `cudaLaunchConfig_t`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LaunchConfig {
    /// In thread blocks.
    pub grid: Dim3,
    /// In threads.
    pub block: Dim3,
    /// Bytes.
    pub dynamic_shared: u64,
    /// Handle.
    pub stream: u64,
    /// `cudaLaunchAttribute *`
    pub attributes: super::pointer::In<LaunchAttribute>,
    /// How many.
    pub attribute_count: u32,
}

/// `cudaLaunchAttribute`: a number, and a union of which the words are read.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LaunchAttribute {
    /// `cudaLaunchAttributeID`
    pub id: u32,
    /// Unused.
    pub padding: u32,
    /// `cudaLaunchAttributeValue`
    pub value: [u32; 16],
}

/// Sizes and options of a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// In thread blocks.
    pub grid: [u32; 3],
    /// In threads.
    pub block: [u32; 3],
    /// In thread blocks, where the launch says so.
    pub cluster: Option<[u32; 3]>,
    /// Bytes.
    pub dynamic_shared: u64,
    /// All blocks have to run at the same time.
    pub cooperative: bool,
    /// It may begin before the launch ahead of it in its stream has ended.
    pub programmatic: bool,
}

impl Shape {
    /// With the attributes of `cudaLaunchKernelExC`.
    pub fn from_config(config: &LaunchConfig) -> Outcome<Self> {
        let mut shape = Self {
            grid: config.grid.into(),
            block: config.block.into(),
            dynamic_shared: config.dynamic_shared,
            ..Self::default()
        };
        for index in 0..config.attribute_count as usize {
            let attribute = config.attributes.at(index)?;
            let [x, y, z, ..] = attribute.value;
            match attribute.id {
                2 => shape.cooperative = x != 0,
                4 => shape.cluster = (![x, y, z].contains(&0)).then_some([x, y, z]),
                6 => shape.programmatic = x != 0,
                // Ignored, and legal to ignore: hints.
                0 | 1 | 3 | 5 | 8..=11 | 14 | 16 => {}
                id => {
                    let words = format!("launch attribute {id} is not implemented");
                    return Err(Code::NOT_SUPPORTED.because(words));
                }
            }
        }
        Ok(shape)
    }

    /// Thread blocks of a cluster.
    fn cluster_of(&self, kernel: &Kernel, settings: &FunctionSettings) -> Outcome<[u32; 3]> {
        let set = settings.required_cluster;
        let required = kernel.required_cluster.or((set != [0; 3]).then(|| set.map(|n| n.max(1))));
        match (self.cluster, required) {
            (Some(asked), Some(required)) if asked != required => Err(invalid(
                Code::INVALID_CLUSTER_SIZE,
                format!("clusters of {asked:?}; the kernel needs {required:?}"),
            )),
            (asked, required) => Ok(asked.or(required).unwrap_or([1; 3])),
        }
    }
}

fn invalid(code: Code, words: String) -> Refusal {
    code.because(words)
}

/// Bytes of dynamic shared memory that a launch of a kernel may have.
pub fn dynamic_limit(kernel: &Kernel, settings: &FunctionSettings) -> u32 {
    let default = SHARED_DEFAULT.saturating_sub(kernel.static_shared);
    settings.dynamic_shared.unwrap_or(default)
}

/// Checks a launch and completes it.
pub fn prepare(
    device: &Device,
    found: &Found,
    shape: &Shape,
    arguments: Arguments,
) -> Outcome<Arc<Launch>> {
    let kernel = &found.kernel;
    let settings = *lock(&found.function.settings);
    let name = &kernel.name;
    let fail = |code: Code, words: String| Err(invalid(code, format!("{name}: {words}")));
    let (grid, block) = (shape.grid, shape.block);
    let threads: u64 = block.iter().map(|&n| u64::from(n)).product();
    if grid.contains(&0) || grid.iter().zip(MAX_GRID).any(|(&n, most)| n > most) {
        return fail(Code::INVALID_VALUE, format!("a grid of {grid:?} blocks"));
    }
    if threads == 0
        || threads > u64::from(MAX_THREADS)
        || block.iter().zip(MAX_BLOCK).any(|(&n, most)| n > most)
    {
        return fail(Code::INVALID_VALUE, format!("a block of {block:?} threads"));
    }
    if let Some(most) = kernel.max_threads
        && threads > u64::from(most)
    {
        let words = format!("{threads} threads; the kernel takes {most} (.maxntid)");
        return fail(Code::INVALID_VALUE, words);
    }
    let cluster = shape.cluster_of(kernel, &settings)?;
    let size: u64 = cluster.iter().map(|&n| u64::from(n)).product();
    let [portable, largest] = MAX_CLUSTER.map(u64::from);
    if size > if settings.non_portable_cluster { largest } else { portable } {
        let words = format!(
            "clusters of {size} blocks; {portable} are possible, or {largest} with \
             cudaFuncAttributeNonPortableClusterSizeAllowed"
        );
        return fail(Code::INVALID_CLUSTER_SIZE, words);
    }
    if grid.iter().zip(cluster).any(|(&blocks, cluster)| blocks % cluster != 0) {
        let words = format!("a grid of {grid:?} blocks in clusters of {cluster:?}");
        return fail(Code::INVALID_CLUSTER_SIZE, words);
    }
    let limit = dynamic_limit(kernel, &settings);
    if shape.dynamic_shared > u64::from(limit) {
        let words = format!(
            "{} bytes of dynamic shared memory; {limit} are set \
             (cudaFuncAttributeMaxDynamicSharedMemorySize)",
            shape.dynamic_shared
        );
        return fail(Code::INVALID_VALUE, words);
    }
    let shared = shape.dynamic_shared + u64::from(kernel.static_shared);
    if shared > u64::from(SHARED_OPTIN) {
        let words = format!("{shared} bytes of shared memory; a block can have {SHARED_OPTIN}");
        return fail(Code::INVALID_VALUE, words);
    }
    let blocks: u64 = grid.iter().map(|&n| u64::from(n)).product();
    let resident = u64::from(blocks_per_sm(kernel, threads as u32, shape.dynamic_shared));
    if shape.cooperative && blocks > resident * u64::from(device.sms) {
        let words = format!(
            "{blocks} blocks in a cooperative launch; {} fit at a time",
            resident * u64::from(device.sms)
        );
        return fail(Code::COOPERATIVE_LAUNCH_TOO_LARGE, words);
    }
    Ok(Arc::new(Launch {
        program: Arc::clone(&found.loaded.program),
        kernel: kernel.clone(),
        grid,
        block,
        cluster,
        dynamic_shared: shape.dynamic_shared as u32,
        parameters: arguments.copy(&kernel.parameters, kernel.parameter_bytes)?,
        blocks_per_sm: resident as u32,
        cooperative: shape.cooperative,
    }))
}

/// Thread blocks that fit a multiprocessor by threads and shared memory. Registers do not count: what the compiler of
/// the real device would need is not known here.
pub fn blocks_per_sm(kernel: &Kernel, threads: u32, dynamic_shared: u64) -> u32 {
    let threads = threads.next_multiple_of(32);
    if threads == 0 || threads > MAX_THREADS {
        return 0;
    }
    let shared = dynamic_shared + u64::from(kernel.static_shared);
    if shared > u64::from(SHARED_OPTIN) {
        return 0;
    }
    let by_shared =
        u64::from(SHARED_PER_SM) / (shared + u64::from(SHARED_RESERVED)).next_multiple_of(128);
    (THREADS_PER_SM / threads).min(BLOCKS_PER_SM).min(by_shared as u32)
}

/// Clusters that run at the same time, if all multiprocessors can be combined: on the real device those of one cluster
/// have to be neighbors, and there can be fewer. (An H100 says 528 for clusters of 2 blocks of 128 threads without shared
/// memory, which are 8 blocks a multiprocessor; this says 1056. With one block a multiprocessor both agree.)
pub fn active_clusters(device: &Device, found: &Found, shape: &Shape) -> Outcome<u32> {
    let settings = *lock(&found.function.settings);
    let cluster = shape.cluster_of(&found.kernel, &settings)?;
    let size: u32 = cluster.iter().product();
    let [portable, largest] = MAX_CLUSTER;
    if size > if settings.non_portable_cluster { largest } else { portable } {
        return Ok(0);
    }
    if shape.dynamic_shared > u64::from(dynamic_limit(&found.kernel, &settings)) {
        return Ok(0);
    }
    let threads = shape.block.iter().product();
    let blocks = device.sms * blocks_per_sm(&found.kernel, threads, shape.dynamic_shared);
    Ok(blocks / size)
}
