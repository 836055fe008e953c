//! Where the parts of a load go, and which mbarriers count them (PTX ISA, "cp.async.bulk.tensor": `.multicast::cluster`
//! and `.cta_group`).

use crate::fault::{Fault, FaultKind, Result};
use crate::machine::cluster::Cluster;

/// One thread block that a load writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Rank.
    pub rank: u32,
    /// Offset in its shared memory.
    pub offset: u32,
    /// Rank and offset of the mbarrier that counts the bytes.
    pub barrier: (u32, u32),
}

/// All destinations of a load to `into` that signals `barrier`, in a cluster of `size`. `pairs` is `.cta_group::2`.
pub fn destinations(
    into: (u32, u32),
    barrier: (u32, u32),
    mask: Option<u32>,
    pairs: bool,
    size: u32,
) -> Result<Vec<Destination>> {
    let is_near = if pairs { into.0 / 2 == barrier.0 / 2 } else { into.0 == barrier.0 };
    if !is_near {
        let message = format!(
            "a load to thread block {} of the cluster signals an mbarrier of thread block {}, which is {}",
            into.0,
            barrier.0,
            if pairs { "not of its pair" } else { "another one, without cta_group::2" }
        );
        return Err(Fault::new(FaultKind::Barrier, message));
    }
    let Some(mask) = mask else {
        return Ok(vec![Destination { rank: into.0, offset: into.1, barrier }]);
    };
    let mask = mask & 0xFFFF;
    if mask == 0 || u64::from(mask) >> size != 0 {
        let message = format!("multicast to {mask:#06x} in a cluster of {size}");
        return Err(Fault::new(FaultKind::OutOfBounds, message));
    }
    let to = |rank: u32| {
        let signaled = if pairs { rank & !1 | barrier.0 & 1 } else { rank };
        Destination { rank, offset: into.1, barrier: (signaled, barrier.1) }
    };
    Ok((0..16).filter(|rank| mask >> rank & 1 != 0).map(to).collect())
}

/// Whether each destination can take so many bytes and has its mbarrier.
pub fn check(cluster: &mut Cluster, destinations: &[Destination], bytes: u32) -> Result<()> {
    for to in destinations {
        cluster.running(to.rank)?.shared.peek(to.offset, bytes)?;
        cluster.mbarrier(to.barrier.0, to.barrier.1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = Vec<(u32, (u32, u32))>;

    fn parts(
        into: u32,
        barrier: u32,
        mask: Option<u32>,
        pairs: bool,
    ) -> std::result::Result<Parts, FaultKind> {
        let found = destinations((into, 0x800), (barrier, 0x408), mask, pairs, 4);
        let found = found.map_err(|fault| fault.kind)?;
        assert!(found.iter().all(|to| to.offset == 0x800));
        Ok(found.iter().map(|to| (to.rank, to.barrier)).collect())
    }

    #[test]
    fn signals_go_where_the_manual_says() {
        // Without cta_group::2 each destination counts for itself.
        assert_eq!(parts(1, 1, None, false), Ok(vec![(1, (1, 0x408))]));
        let each = vec![(0, (0, 0x408)), (1, (1, 0x408)), (3, (3, 0x408))];
        assert_eq!(parts(1, 1, Some(0b1011), false), Ok(each));
        assert_eq!(parts(1, 0, None, false), Err(FaultKind::Barrier));
        // With it the block of the pair counts that the mbarrier's rank names by its parity.
        assert_eq!(parts(1, 0, None, true), Ok(vec![(1, (0, 0x408))]));
        assert_eq!(parts(3, 3, None, true), Ok(vec![(3, (3, 0x408))]));
        assert_eq!(parts(2, 1, None, true), Err(FaultKind::Barrier));
        let even = vec![(0, (0, 0x408)), (1, (0, 0x408)), (2, (2, 0x408)), (3, (2, 0x408))];
        assert_eq!(parts(1, 0, Some(0xF), true), Ok(even));
        let odd = vec![(1, (1, 0x408)), (2, (3, 0x408))];
        assert_eq!(parts(0, 1, Some(0b110), true), Ok(odd));
        // A mask that names no block, or one that is not there.
        assert_eq!(parts(0, 0, Some(0), false), Err(FaultKind::OutOfBounds));
        assert_eq!(parts(0, 0, Some(0x11), false), Err(FaultKind::OutOfBounds));
    }
}
