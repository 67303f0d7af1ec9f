//! Mappings that come and go, split and merge, while something else runs.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use uffd::PAGE_SIZE;

use crate::area::{MappedArea, MemoryKind};

/// Splits and merges `area`, and maps and unmaps others behind it, until `work` is done.
pub fn turmoil(
    area: &MappedArea,
    seed: u64,
    directory: &Path,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let over = AtomicBool::new(false);
    let disturbed = Mutex::new(Ok(()));
    // Not joined, as in `in_threads`: the scope waits for what it does.
    let worked = thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut result = Ok(());
            while result.is_ok() && !over.load(Ordering::Relaxed) {
                result = disturb(area, &mut random, directory);
            }
            *disturbed.lock().unwrap_or_else(PoisonError::into_inner) = result;
        });
        let worked = work();
        over.store(true, Ordering::Relaxed);
        worked
    });
    worked.and(
        disturbed
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner),
    )
}

fn disturb(area: &MappedArea, random: &mut fastrand::Rng, directory: &Path) -> Result<()> {
    let first = random.u64(0..area.pages());
    let apart = area.pages_part(first..random.u64(first..area.pages()) + 1);
    apart.set_apart(true)?;
    // Next to the area, with which it merges once it is tracked, or not far from it; again and
    // again at the same addresses.
    let gap = random.u64(0..4) * 16 * PAGE_SIZE;
    let other = MappedArea::map_at(
        MemoryKind::Anon,
        area.range().end + gap,
        random.u64(1..16),
        directory,
    )?;
    (0..other.pages())
        .filter(|_| random.bool())
        .for_each(|page| other.store(page, 1));
    if random.bool() {
        thread::yield_now();
    }
    apart.set_apart(false)?;
    let cut = random.u64(0..other.pages());
    if cut != 0 {
        other.pages_part(0..cut).unmap()?;
    }
    other.pages_part(cut..other.pages()).unmap()
}
