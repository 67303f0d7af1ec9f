//! Areas registered with a userfaultfd, which are let go whatever happens.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::io::Errno;
use uffd::{RegisterMode, UffdError, UffdFeatures, Userfaultfd, pages_in};

use super::area::TrackedArea;

/// Bytes per ioctl. It holds the target's mmap lock meanwhile, for at most some 5 ms.
const ARM_AT_ONCE: u64 = 256 << 20;

/// Areas that are let go by one ioctl, if they touch and are no larger together than
/// [`ARM_AT_ONCE`]. One that was cut into mappings of single pages is as many areas, and each alone
/// takes longer than the target takes to make more.
const LET_GO_AT_ONCE: usize = 1024;

/// Disarms all areas of a strategy that is still there, from any thread.
#[derive(Clone, Debug)]
pub struct EmergencyRelease(Weak<RegisteredAreas>);

impl EmergencyRelease {
    /// Disarms them. What is registered while it does so, the strategy itself must forget.
    ///
    /// # Errors
    /// If the kernel refuses; the rest is disarmed.
    pub fn release(&self) -> Result<(), UffdError> {
        self.0.upgrade().map_or(Ok(()), |areas| areas.release())
    }
}

/// A userfaultfd and its areas. Dropping it disarms everything and wakes whoever waits.
#[derive(Debug)]
pub(super) struct RegisteredAreas {
    uffd: Userfaultfd,
    mode: RegisterMode,
    areas: Mutex<BTreeMap<u64, TrackedArea>>,
}

impl RegisteredAreas {
    /// Enables `features` on a descriptor that has none yet; areas are registered for `mode`.
    pub(super) fn new(
        uffd: Userfaultfd,
        features: UffdFeatures,
        mode: RegisterMode,
    ) -> Result<Self, UffdError> {
        uffd.enable(features)?;
        let areas = Mutex::default();
        Ok(Self { uffd, mode, areas })
    }

    /// What disarms all areas for as long as there are any.
    pub(super) fn emergency_release(self: &Arc<Self>) -> EmergencyRelease {
        EmergencyRelease(Arc::downgrade(self))
    }

    pub(super) fn uffd(&self) -> &Userfaultfd {
        &self.uffd
    }

    /// Registers an area. It can be found ([`Self::at`]) before its first fault comes.
    pub(super) fn add(&self, area: &TrackedArea) -> Result<(), UffdError> {
        self.add_for(area, self.mode)
    }

    /// As [`Self::add`], for faults of another kind.
    pub(super) fn add_for(&self, area: &TrackedArea, mode: RegisterMode) -> Result<(), UffdError> {
        self.lock().insert(area.range.start, area.clone());
        self.uffd.register(&area.range, mode).inspect_err(|_| {
            self.lock().remove(&area.range.start);
        })
    }

    /// Replaces areas by others that cover what is left of them.
    pub(super) fn redraw(&self, old: &[TrackedArea], new: &[TrackedArea]) {
        let mut areas = self.lock();
        for area in old {
            areas.remove(&area.range.start);
        }
        areas.extend(new.iter().map(|area| (area.range.start, area.clone())));
    }

    /// Arms a whole area, in steps; returns how many pages have vanished meanwhile.
    pub(super) fn arm_all(&self, area: &TrackedArea) -> Result<u64, UffdError> {
        area.parts(ARM_AT_ONCE)
            .map(|part| self.arm(area, &part))
            .sum()
    }

    /// Arms a range of an area; returns how many of its pages are no longer there.
    pub(super) fn arm(&self, area: &TrackedArea, range: &Range<u64>) -> Result<u64, UffdError> {
        match self.uffd.arm(range) {
            Err(e) if is_unmapped(&e) && range.end - range.start > area.page_size => {
                // Most likely gone as a whole. What is left in its middle stays unarmed, and is
                // told later.
                let ends = [area.page_at(range.start), area.page_at(range.end - 1)];
                if ends.iter().all(|end| self.is_gone(end)) {
                    return Ok(pages_in(range));
                }
                // Some of it is gone, or it is two VMAs by now, which old kernels refuse at once.
                let middle = area
                    .page_at(range.start + (range.end - range.start) / 2)
                    .start;
                let middle = middle.max(range.start + area.page_size);
                let first = self.arm(area, &(range.start..middle))?;
                Ok(first + self.arm(area, &(middle..range.end))?)
            }
            Err(e) if is_unmapped(&e) => Ok(pages_in(range)),
            result => result.map(|()| 0),
        }
    }

    fn is_gone(&self, page: &Range<u64>) -> bool {
        matches!(self.uffd.arm(page), Err(e) if is_unmapped(&e))
    }

    /// The area that holds an address.
    pub(super) fn at(&self, address: u64) -> Option<TrackedArea> {
        let areas = self.lock();
        let (_, area) = areas.range(..=address).next_back()?;
        area.range.contains(&address).then(|| area.clone())
    }

    /// Disarms one area. It can be found until nobody can wait in it any more.
    pub(super) fn remove(&self, area: &TrackedArea) -> Result<(), UffdError> {
        let result = self.let_go(&area.range);
        self.lock().remove(&area.range.start);
        result
    }

    /// Disarms all areas; goes on after an error, and returns the first.
    pub(super) fn release(&self) -> Result<(), UffdError> {
        let areas: Vec<TrackedArea> = self.lock().values().cloned().collect();
        let mut result = Ok(());
        for run in touching(&areas) {
            if self.let_go_at_once(run) {
                let mut areas = self.lock();
                for area in run {
                    areas.remove(&area.range.start);
                }
                continue;
            }
            let results = run.iter().map(|area| self.remove(area));
            result = result.and(results.fold(Ok(()), Result::and));
        }
        result
    }

    /// As [`Self::let_go`], of several areas that touch. False: something else is mapped there by
    /// now, or there is only one, so each is to be let go alone.
    fn let_go_at_once(&self, run: &[TrackedArea]) -> bool {
        let [first, .., last] = run else {
            return false;
        };
        let range = first.range.start..last.range.end;
        let registered = self.uffd.register(&range, self.mode);
        let unregistered = registered.and_then(|()| self.uffd.unregister(&range));
        unregistered.and_then(|()| self.uffd.wake(&range)).is_ok()
    }

    /// Unregistering disarms, but wakes only those who wait for a missing page: hence the wake.
    ///
    /// Older kernels let anybody unregister the memory of another userfaultfd, and the process may
    /// have mapped it anew and registered it itself. So it is registered once more first: that
    /// changes nothing in what is ours, and is refused for what is another's.
    fn let_go(&self, range: &Range<u64>) -> Result<(), UffdError> {
        let busy = Some(Errno::BUSY);
        if matches!(self.uffd.register(range, self.mode), Err(e) if e.errno() == busy) {
            return Ok(());
        }
        let unregistered = self.uffd.unregister(range);
        let woken = self.uffd.wake(range);
        match unregistered.and(woken) {
            // Something else is mapped there now; the rest of ours ends with the descriptor.
            Err(e) if is_unmapped(&e) || e.errno() == Some(Errno::INVAL) => Ok(()),
            result => result,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, TrackedArea>> {
        self.areas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RegisteredAreas {
    fn drop(&mut self) {
        // Closing the descriptor, which follows, frees the target, too.
        let _ = self.release();
    }
}

/// Runs of areas that are let go at once: each begins where the one before ends. Areas are by
/// address.
fn touching(areas: &[TrackedArea]) -> Vec<&[TrackedArea]> {
    let mut runs = Vec::new();
    let mut first = 0;
    for (i, area) in areas.iter().enumerate().skip(1) {
        let touches = areas[i - 1].range.end == area.range.start;
        let bytes = area.range.end - areas[first].range.start;
        if !touches || bytes > ARM_AT_ONCE || i - first >= LET_GO_AT_ONCE {
            runs.push(&areas[first..i]);
            first = i;
        }
    }
    runs.push(&areas[first..]);
    runs
}

/// Whether the kernel says that the range is not, or not whole, a registered VMA; or that the
/// process is gone.
pub(super) fn is_unmapped(error: &UffdError) -> bool {
    matches!(
        error.errno(),
        Some(Errno::NOENT | Errno::NOMEM | Errno::SRCH)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use uffd::{Backing, PAGE_SIZE, ScratchMapping, smaps};

    use super::*;

    fn area(range: Range<u64>) -> TrackedArea {
        TrackedArea {
            range,
            backing: Backing::Anon,
            page_size: PAGE_SIZE,
            shared: false,
        }
    }

    #[test]
    fn what_touches_is_one_run() {
        let areas = [area(0..10), area(10..20), area(30..40)];
        let lengths: Vec<usize> = touching(&areas).into_iter().map(<[_]>::len).collect();
        assert_eq!(lengths, [2, 1]);
        let many: Vec<_> = (0..2500).map(|i| area(i..i + 1)).collect();
        let lengths: Vec<usize> = touching(&many).into_iter().map(<[_]>::len).collect();
        assert_eq!(lengths, [1024, 1024, 452]);
        let large = ARM_AT_ONCE / 2 + 1;
        let large: Vec<_> = (0..3).map(|i| area(i * large..(i + 1) * large)).collect();
        assert_eq!(
            touching(&large).len(),
            3,
            "each holds the target's lock long enough"
        );
    }

    /// Of three that touch, the one in the middle may belong to another userfaultfd by now.
    #[test]
    fn what_touches_is_let_go_but_for_what_is_anothers() {
        const PAGES: u64 = 6;
        for taken in [false, true] {
            let memory = ScratchMapping::anonymous(PAGES * PAGE_SIZE).unwrap();
            let range = memory.range();
            let part = |first: u64| {
                let start = range.start + first * PAGE_SIZE;
                start..start + 2 * PAGE_SIZE
            };
            let open = || {
                let uffd = Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only());
                let (features, mode) = (UffdFeatures::default(), RegisterMode::WP);
                RegisteredAreas::new(uffd.unwrap(), features, mode).unwrap()
            };
            let (ours, others) = (open(), open());
            for first in [0, 4] {
                ours.add(&area(part(first))).unwrap();
            }
            if taken {
                others.add(&area(part(2))).unwrap();
                ours.lock().insert(part(2).start, area(part(2)));
            } else {
                ours.add(&area(part(2))).unwrap();
            }
            ours.release().unwrap();
            let vmas = smaps(std::process::id()).unwrap().map(Result::unwrap);
            let left: Vec<_> = vmas
                .filter(|vma| vma.flags.uffd_wp())
                .map(|vma| vma.start..vma.end)
                .filter(|vma| vma.start < range.end && range.start < vma.end)
                .collect();
            let kept = taken.then(|| part(2));
            assert_eq!(left, kept.into_iter().collect::<Vec<_>>());
            assert!(ours.lock().is_empty());
        }
    }
}
