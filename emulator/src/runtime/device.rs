//! What the emulated device says of itself.

use crate::settings::{Model, Settings};

/// Version of the driver and of the runtime: CUDA 13.5. CUTLASS sets a bit of tensor maps of its own for drivers up to
/// 13.1.
pub const VERSION: i32 = 13050;
/// Threads that fit a multiprocessor.
pub const THREADS_PER_SM: u32 = 2048;
/// Thread blocks that fit a multiprocessor.
pub const BLOCKS_PER_SM: u32 = 32;
/// Bytes of shared memory of a multiprocessor.
pub const SHARED_PER_SM: u32 = 233_472;
/// Bytes of shared memory that a thread block can have.
pub const SHARED_OPTIN: u32 = 232_448;
/// Bytes of shared memory that a thread block can have without asking.
pub const SHARED_DEFAULT: u32 = 49_152;
/// Bytes of shared memory that the system takes of each thread block.
pub const SHARED_RESERVED: u32 = crate::isa::address::SHARED_RESERVED;
/// Largest thread block.
pub const MAX_THREADS: u32 = 1024;
/// Largest extents of a thread block.
pub const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
/// Largest extents of a grid.
pub const MAX_GRID: [u32; 3] = [0x7FFF_FFFF, 65_535, 65_535];
/// Thread blocks of a cluster that runs on any device, and with NonPortableClusterSizeAllowed.
pub const MAX_CLUSTER: [u32; 2] = [8, 16];
/// Lowest and highest priority of a stream.
pub const PRIORITIES: [i32; 2] = [0, -5];
/// As cudaDeviceGetPCIBusId writes it.
pub const PCI_BUS_ID: &str = "0000:00:00.0";

/// Facts that depend on the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Shown to users; says what it is.
    pub name: &'static str,
    /// Bytes of memory.
    pub memory: u64,
    /// Compute capability.
    pub capability: [i32; 2],
    /// Multiprocessors.
    pub sms: u32,
    /// Bytes.
    pub l2: i32,
    /// In kHz.
    pub clock: i32,
    /// In kHz.
    pub memory_clock: i32,
    /// In bits.
    pub memory_bus: i32,
}

impl Device {
    /// The device of the settings.
    pub fn new(settings: &Settings) -> Self {
        let sms = settings.sms;
        match settings.model {
            Model::B200 => Self {
                name: "NVIDIA B200 (emulated, functional only)",
                memory: 180_000_000_000,
                capability: [10, 0],
                sms,
                l2: 126_500_000,
                clock: 1_965_000,
                memory_clock: 3_996_000,
                memory_bus: 7680,
            },
            Model::H100 => Self {
                name: "NVIDIA H100 (emulated, functional only)",
                memory: 80_000_000_000,
                capability: [9, 0],
                sms,
                l2: 52_428_800,
                clock: 1_980_000,
                memory_clock: 2_619_000,
                memory_bus: 5120,
            },
            Model::A100 => Self {
                name: "NVIDIA A100 (emulated, functional only)",
                memory: 80_000_000_000,
                capability: [8, 0],
                sms,
                l2: 41_943_040,
                clock: 1_410_000,
                memory_clock: 1_593_000,
                memory_bus: 5120,
            },
        }
    }

    /// cudaDeviceGetAttribute, by the numbers of `cudaDeviceAttr`; `None` for what has no meaning here.
    pub fn attribute(&self, attribute: u32) -> Option<i32> {
        let [major, minor] = self.capability;
        Some(match attribute {
            1 => MAX_THREADS as i32,
            at @ 2..=4 => MAX_BLOCK[at as usize - 2] as i32,
            at @ 5..=7 => MAX_GRID[at as usize - 5] as i32,
            8 => SHARED_DEFAULT as i32,
            9 => 65_536,       // constant memory
            10 => 32,          // warp
            11 => i32::MAX,    // pitch
            12 | 82 => 65_536, // registers of a block, of a multiprocessor
            13 => self.clock,
            15 | 19 | 31 | 41 | 78 | 79 | 80 | 83 | 90 | 95 | 120 => 1,
            14 | 30 => 512, // alignment of textures and surfaces
            16 => self.sms as i32,
            36 => self.memory_clock,
            37 => self.memory_bus,
            38 => self.l2,
            39 => THREADS_PER_SM as i32,
            40 => 1, // copy engines
            51 => 32,
            75 => major,
            76 => minor,
            81 => SHARED_PER_SM as i32,
            87 => 2, // single to double precision
            97 => SHARED_OPTIN as i32,
            99 => 1,
            106 => BLOCKS_PER_SM as i32,
            111 => SHARED_RESERVED as i32,
            126 => 4,
            // Not there, or not emulated: timeouts, integrated, ECC, bus numbers, TCC, boards, host atomics, pageable
            // access, pools, IPC, sparse arrays, NUMA, MPS.
            17 | 18 | 20 | 32..=35 | 50 | 84..=86 | 88 | 89 | 91 | 98 | 100 | 101 | 108 | 109 => 0,
            112..=119 | 121 | 125 | 130 | 133 | 135 | 138..=140 | 142..=144 | 147..=151 | 157 => 0,
            131 | 134 => -1,
            160 => 131_072,
            // Textures and surfaces.
            21..=29 | 42..=49 | 52..=74 | 77 => 0,
            _ => return None,
        })
    }
}

/// Bytes of `cudaDeviceProp`.
pub const PROPERTIES_BYTES: usize = 1008;

/// A member of `cudaDeviceProp`: name, offset, bytes, and the attributes that its elements show.
pub type Property = (&'static str, usize, usize, &'static [u32]);

/// The members that are not zero, besides the name, the memory and the flags in `properties`.
pub const PROPERTIES: &[Property] = &[
    ("sharedMemPerBlock", 296, 8, &[8]),
    ("regsPerBlock", 304, 4, &[12]),
    ("warpSize", 308, 4, &[10]),
    ("memPitch", 312, 8, &[11]),
    ("maxThreadsPerBlock", 320, 4, &[1]),
    ("maxThreadsDim", 324, 4, &[2, 3, 4]),
    ("maxGridSize", 336, 4, &[5, 6, 7]),
    ("totalConstMem", 352, 8, &[9]),
    ("major", 360, 4, &[75]),
    ("minor", 364, 4, &[76]),
    ("textureAlignment", 368, 8, &[14]),
    ("texturePitchAlignment", 376, 8, &[51]),
    ("multiProcessorCount", 384, 4, &[16]),
    ("canMapHostMemory", 392, 4, &[19]),
    ("surfaceAlignment", 552, 8, &[30]),
    ("concurrentKernels", 560, 4, &[31]),
    ("asyncEngineCount", 584, 4, &[40]),
    ("unifiedAddressing", 588, 4, &[41]),
    ("memoryBusWidth", 592, 4, &[37]),
    ("l2CacheSize", 596, 4, &[38]),
    ("maxThreadsPerMultiProcessor", 604, 4, &[39]),
    ("streamPrioritiesSupported", 608, 4, &[78]),
    ("globalL1CacheSupported", 612, 4, &[79]),
    ("localL1CacheSupported", 616, 4, &[80]),
    ("sharedMemPerMultiprocessor", 624, 8, &[81]),
    ("regsPerMultiprocessor", 632, 4, &[82]),
    ("managedMemory", 636, 4, &[83]),
    ("computePreemptionSupported", 660, 4, &[90]),
    ("cooperativeLaunch", 668, 4, &[95]),
    ("sharedMemPerBlockOptin", 672, 8, &[97]),
    ("maxBlocksPerMultiProcessor", 688, 4, &[106]),
    ("reservedSharedMemPerBlock", 696, 8, &[111]),
    ("hostRegisterSupported", 704, 4, &[99]),
    ("clusterLaunch", 748, 4, &[120]),
    ("deviceNumaId", 760, 4, &[131]),
    ("hostNumaId", 768, 4, &[134]),
];

/// Offset of `totalGlobalMem`.
pub const PROPERTY_MEMORY: (&str, usize) = ("totalGlobalMem", 288);

impl Device {
    /// `cudaDeviceProp`
    pub fn properties(&self) -> [u8; PROPERTIES_BYTES] {
        let mut bytes = [0; PROPERTIES_BYTES];
        let mut put = |offset: usize, from: &[u8]| {
            if let Some(room) = bytes.get_mut(offset..offset + from.len()) {
                room.copy_from_slice(from);
            }
        };
        put(0, self.name.as_bytes());
        put(PROPERTY_MEMORY.1, &self.memory.to_le_bytes());
        for (_, offset, size, attributes) in PROPERTIES {
            for (index, attribute) in attributes.iter().enumerate() {
                let value = i64::from(self.attribute(*attribute).unwrap_or(0));
                put(offset + index * size, &value.to_le_bytes()[..*size]);
            }
        }
        bytes
    }
}
