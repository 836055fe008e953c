//! Maps between elements, cells of tensor memory and registers (PTX ISA, "Data movement shape", "Matrix fragments",
//! "Scale factor layout"; CUTLASS, `cute/atom/copy_traits_sm100.hpp`, `cute/atom/mma_traits_sm100_frag.hpp`).

/// Rows of D that lie in the tensor memory of one thread block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOfD {
    /// Thread block of the pair.
    pub cta: u32,
    /// Row of A among those of the thread block: which slice of its shared memory.
    pub row: u32,
    /// Lane, before the lane of the address is added.
    pub lane: u32,
    /// First column of B, and how many.
    pub columns: (u32, u32),
}

/// Where D lies: for each lane that holds some of it, row and columns. `group` is that of `cta_group`.
pub fn accumulator(group: u32, m: u32, n: u32) -> Vec<RowOfD> {
    let mut rows = Vec::new();
    for row in 0..m {
        let columns = (0, n);
        match (group, m) {
            (1, 64) => {
                let lane = row % 16 + 32 * (row / 16);
                rows.push(RowOfD { cta: 0, row, lane, columns });
            }
            (1, _) => rows.push(RowOfD { cta: 0, row, lane: row, columns }),
            (_, 128) => {
                let (cta, row) = (row / 64, row % 64);
                for half in 0..2 {
                    let columns = (half * (n / 2), n / 2);
                    rows.push(RowOfD { cta, row, lane: 64 * half + row, columns });
                }
            }
            _ => rows.push(RowOfD { cta: row / 128, row: row % 128, lane: row % 128, columns }),
        }
    }
    rows
}

/// Lane and column, relative to the address, of the scale factors of a row (of A) or column (of B); `partition` is the
/// quarter of the lanes that reads them.
pub fn scale(row: u32, partition: u32) -> (u32, u32) {
    (row % 32 + 32 * partition, row / 32)
}

/// The shapes of tcgen05.ld and tcgen05.st.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `.32x32b`
    L32x32b,
    /// `.16x64b`
    L16x64b,
    /// `.16x128b`
    L16x128b,
    /// `.16x256b`
    L16x256b,
    /// `.16x32bx2`, with the columns between the halves.
    L16x32bx2(u32),
}

impl Shape {
    /// Registers of `.x1`.
    pub fn registers(self) -> u32 {
        match self {
            Self::L32x32b | Self::L16x64b | Self::L16x32bx2(_) => 1,
            Self::L16x128b => 2,
            Self::L16x256b => 4,
        }
    }

    /// Lanes of tensor memory.
    pub fn lanes(self) -> u32 {
        match self {
            Self::L32x32b => 32,
            _ => 16,
        }
    }

    /// Lane and column, relative to the address, of a register of a thread.
    pub fn cell(self, thread: u32, register: u32) -> (u32, u32) {
        let (t, i) = (thread, register);
        match self {
            Self::L32x32b => (t, i),
            Self::L16x64b => (t / 4 + 8 * (t & 1), (t >> 1 & 1) + 2 * i),
            Self::L16x128b => (t / 4 + 8 * (i & 1), (t & 3) + 4 * (i >> 1)),
            Self::L16x256b => (t / 4 + 8 * (i >> 1 & 1), 2 * (t & 3) + (i & 1) + 8 * (i >> 2)),
            Self::L16x32bx2(apart) => (t % 16, i + if t >= 16 { apart } else { 0 }),
        }
    }

    /// Columns, relative to the address, that are touched by so many registers: first and count of each piece.
    pub fn columns(self, registers: u32) -> Vec<(u32, u32)> {
        match self {
            Self::L32x32b => vec![(0, registers)],
            Self::L16x64b | Self::L16x128b | Self::L16x256b => vec![(0, registers * 2)],
            Self::L16x32bx2(apart) => vec![(0, registers), (apart, registers)],
        }
    }
}

/// The shapes of tcgen05.cp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyShape {
    /// `.32x128b.warpx4`
    C32x128bWarpx4,
    /// `.64x128b.warpx2::02_13`
    C64x128bWarpx2A,
    /// `.64x128b.warpx2::01_23`
    C64x128bWarpx2B,
    /// `.128x128b`
    C128x128b,
    /// `.128x256b`
    C128x256b,
    /// `.4x256b`
    C4x256b,
}

impl CopyShape {
    /// Rows of the source.
    pub fn rows(self) -> u32 {
        match self {
            Self::C32x128bWarpx4 => 32,
            Self::C64x128bWarpx2A | Self::C64x128bWarpx2B => 64,
            Self::C128x128b | Self::C128x256b => 128,
            Self::C4x256b => 4,
        }
    }

    /// 16-byte units of a row; each fills 4 columns.
    pub fn units(self) -> u32 {
        match self {
            Self::C128x256b | Self::C4x256b => 2,
            _ => 1,
        }
    }

    /// Lanes that get a row.
    pub fn lanes(self, row: u32) -> Vec<u32> {
        match self {
            Self::C32x128bWarpx4 => vec![row, row + 32, row + 64, row + 96],
            Self::C64x128bWarpx2A => vec![row, row + 64],
            Self::C64x128bWarpx2B => {
                let first = row % 32 + 64 * (row / 32);
                vec![first, first + 32]
            }
            Self::C128x128b | Self::C128x256b => vec![row],
            Self::C4x256b => vec![32 * row],
        }
    }
}
