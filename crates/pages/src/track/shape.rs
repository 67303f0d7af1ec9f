//! How much of a process's memory is there.

use uffd::Backing;

use super::error::TrackError;
use super::vmas::{FoundMapping, MappingLook, MappingReader};
use crate::strategy::{MemoryShape, StrategyFacts};

/// The shape of a process's memory now.
///
/// # Errors
/// If its mappings cannot be read.
pub fn memory_shape(pid: u32) -> Result<MemoryShape, TrackError> {
    let kernel = TrackError::kernel(pid);
    let read = || {
        let mappings = MappingReader::open(pid)?.read()?;
        Ok((mappings, uffd::resident_memory(pid)?))
    };
    let (mappings, resident) = read().map_err(kernel)?;
    let resident = resident.map_or(0, |resident| {
        resident.anon + resident.shmem + resident.hugetlb
    });
    Ok(shape(&mappings, resident))
}

/// The shape of its memory, where it decides between strategies: somebody could observe its page
/// faults.
///
/// # Errors
/// If its mappings cannot be read.
pub fn deciding_shape(pid: u32, facts: &StrategyFacts) -> Result<Option<MemoryShape>, TrackError> {
    let observed = facts.observer.is_some();
    observed.then(|| memory_shape(pid)).transpose()
}

fn shape(mappings: &[FoundMapping], present: u64) -> MemoryShape {
    let writable = mappings
        .iter()
        .filter(|found| found.look == MappingLook::Writable)
        .map(|found| &found.mapping);
    let (mut all, mut unobserved) = (0, 0);
    for mapping in writable {
        let bytes = mapping.end - mapping.start;
        all += bytes;
        let is_file = mapping.backing == Backing::File && mapping.shared.is_some();
        if is_file || mapping.backing == Backing::Hugetlb {
            unobserved += bytes;
        }
    }
    MemoryShape {
        absent: all.saturating_sub(present),
        present,
        unobserved,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use super::*;
    use crate::track::model::{SharedPlace, TrackedMapping};

    fn found(bytes: u64, backing: Backing, shared: bool, look: MappingLook) -> FoundMapping {
        let place = SharedPlace {
            device: (0, 1),
            inode: 7,
            offset: 0,
        };
        let mapping = TrackedMapping {
            start: 0x1000_0000,
            end: 0x1000_0000 + bytes,
            name: String::new(),
            backing,
            page_size: uffd::PAGE_SIZE,
            shared: shared.then_some(place),
        };
        FoundMapping {
            mapping: Arc::new(mapping),
            look,
        }
    }

    #[test]
    fn what_may_be_written_and_is_not_there_is_absent() {
        const GIB: u64 = 1 << 30;
        let writable = |backing, shared| found(GIB, backing, shared, MappingLook::Writable);
        let anon = writable(Backing::Anon, false);
        let unwritable = found(GIB, Backing::Anon, false, MappingLook::Unwritable);
        let expected = MemoryShape {
            absent: GIB - 4096,
            present: 4096,
            unobserved: 0,
        };
        assert_eq!(shape(&[anon, unwritable], 4096), expected);
        for (backing, shared, unobserved) in [
            (Backing::Shmem, true, 0),
            (Backing::File, false, 0),
            (Backing::File, true, GIB),
            (Backing::Hugetlb, false, GIB),
        ] {
            let shape = shape(&[writable(backing, shared)], 0);
            assert_eq!(shape.unobserved, unobserved, "{backing:?} {shared}");
        }
    }

    #[test]
    fn ours_is_there() {
        let shape = memory_shape(std::process::id()).unwrap();
        assert!(shape.present != 0 && !shape.is_sparse(), "{shape:?}");
        assert!(memory_shape(i32::MAX as u32).is_err());
    }
}
