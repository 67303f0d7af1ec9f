//! `sync`: each first write is a message that the target waits on; the handler disarms the page,
//! and a round reports what is disarmed and arms it again.
//!
//! A zap disarms, too, and on kernels without markers so does a first touch: a handler that only
//! noted its messages would miss both.
#![forbid(unsafe_code)]

use std::sync::Arc;

use uffd::{
    Backing, KernelBehaviour, Pagemap, RegisterMode, UffdError, UffdFeatures, Userfaultfd, pages_in,
};

use super::area::{AreaStats, TrackedArea, WrittenRun, append};
use super::collect::{PageCollector, UnarmedSearch};
use super::entry::{AbsentPages, StrategyEntry, TargetWait};
use super::handler::{FaultAnswer, FaultHandler, resolve};
use super::registered::{EmergencyRelease, RegisteredAreas};
use super::start::StrategyStart;
use super::{StrategyName, TrackingStrategy};

/// Bytes read before they are armed.
const AT_ONCE: u64 = 256 << 20;

pub(super) const ENTRY: StrategyEntry = StrategyEntry {
    name: "sync",
    merit: "exact, with a message for each first write",
    needs: &[],
    waits: TargetWait::Always,
    absent: AbsentPages::Paid,
    reads_content: false,
    observed: false,
    auto: true,
    caveat: Some(
        "a thread that ends just after a round may never be joined: while it ends the kernel asks \
         no handler, so what it writes for pthread_join(3) is lost if the page is armed",
    ),
    stands_for: None,
    start: StrategyStart::Descriptor(|uffd, target| {
        let strategy = SyncStrategy::new(uffd, target.pagemap()?, target.behaviour)?;
        Ok(Box::new(strategy))
    }),
};

/// Fields are dropped in this order: the handler serves until everything is let go.
#[derive(Debug)]
pub(super) struct SyncStrategy {
    handler: FaultHandler,
    registered: Arc<RegisteredAreas>,
    collector: PageCollector,
    behaviour: KernelBehaviour,
}

impl SyncStrategy {
    /// `uffd` must handle faults of the kernel too, else a read(2) of the target into an armed page
    /// fails.
    pub(super) fn new(
        uffd: Userfaultfd,
        pagemap: Pagemap,
        behaviour: KernelBehaviour,
    ) -> Result<Self, UffdError> {
        let markers = UffdFeatures::WP_UNPOPULATED | UffdFeatures::WP_HUGETLBFS_SHMEM;
        let registered = Arc::new(RegisteredAreas::new(
            uffd,
            behaviour.features & markers,
            RegisterMode::WP,
        )?);
        let answer: FaultAnswer = Box::new(|registered, fault| resolve(registered, &fault.page));
        Ok(Self {
            handler: FaultHandler::start(registered.clone(), answer)?,
            registered,
            collector: PageCollector::new(pagemap),
            behaviour,
        })
    }
}

impl TrackingStrategy for SyncStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::Sync
    }

    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.registered.add(area)?;
        if unarmed(&self.behaviour, area) != UnarmedSearch::PresentEntries {
            return self.registered.arm_all(area).map(drop);
        }
        // What is not there stays disarmed: a round finds its first touch.
        self.round(area, &mut Vec::new()).map(drop)
    }

    /// What may not wait in a fault fails on an armed page: a debugger could not take back a
    /// breakpoint.
    fn tracks_unwritable(&self) -> bool {
        false
    }

    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError> {
        self.handler.check()?;
        let how = unarmed(&self.behaviour, area);
        let mut stats = AreaStats::of(area);
        for part in area.parts(AT_ONCE) {
            for range in self.collector.unarmed(&part, how)? {
                let vanished = self.registered.arm(area, &range)?;
                let pages = pages_in(&range) - vanished;
                stats.lose(vanished);
                stats.armed += pages;
                stats.written += pages;
                if pages != 0 {
                    append(written, range, area.page_size);
                }
            }
        }
        Ok(stats)
    }

    fn redraw(&mut self, old: &[TrackedArea], new: &[TrackedArea]) {
        self.registered.redraw(old, new);
    }

    fn forget(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.registered.remove(area)
    }

    fn emergency_release(&self) -> Option<EmergencyRelease> {
        Some(self.registered.emergency_release())
    }

    fn release(self: Box<Self>) -> Result<(), UffdError> {
        self.registered.release()
    }
}

/// How to find the unarmed pages of an area on this kernel, and those of memory that was mapped
/// anew in its place: nobody has registered that.
fn unarmed(behaviour: &KernelBehaviour, area: &TrackedArea) -> UnarmedSearch {
    let markers = match area.backing {
        Backing::Anon => behaviour.anonymous_markers,
        _ => behaviour.shmem_markers,
    };
    let scan = behaviour.written.is_some() && behaviour.unregistered_is_written;
    match (scan, markers) {
        (true, true) => UnarmedSearch::Scan,
        (false, true) => UnarmedSearch::Entries,
        (_, false) => UnarmedSearch::PresentEntries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uffd::WrittenMeaning;

    #[test]
    fn without_markers_only_what_is_there_can_be_armed() {
        let area = |backing| TrackedArea {
            range: 0..0x1000,
            backing,
            page_size: 0x1000,
            shared: false,
        };
        let old = KernelBehaviour {
            shmem_markers: true,
            ..KernelBehaviour::default()
        };
        assert_eq!(
            unarmed(&old, &area(Backing::Anon)),
            UnarmedSearch::PresentEntries
        );
        assert_eq!(unarmed(&old, &area(Backing::Shmem)), UnarmedSearch::Entries);
        let new = KernelBehaviour {
            anonymous_markers: true,
            written: Some(WrittenMeaning::Old),
            unregistered_is_written: true,
            ..old
        };
        assert_eq!(unarmed(&new, &area(Backing::Anon)), UnarmedSearch::Scan);
        // A scan is silent about what was mapped anew.
        let newest = KernelBehaviour {
            unregistered_is_written: false,
            ..new
        };
        assert_eq!(
            unarmed(&newest, &area(Backing::Anon)),
            UnarmedSearch::Entries
        );
    }
}
