//! How many mappings a tracked process may come to have.
//!
//! Memory that is registered with a userfaultfd does not merge with memory that is not
//! (include/linux/userfaultfd_k.h `is_mergeable_vm_userfaultfd_ctx`): what a process maps inside or
//! at the end of a tracked mapping is a mapping of its own until the next round registers it. If it
//! was touched by then it stays one for ever: it could not share the `anon_vma` of its neighbour
//! (mm/vma.c `anon_vma_compatible`), and those that have different ones do not merge
//! (`is_mergeable_anon_vma`). An allocator that unmaps and maps single pages comes to
//! `vm.max_map_count` in a fraction of a second, and then its calls fail. So a thread counts between
//! the rounds, and lets go of everything half way, or before: where counting is slow, as on a busy
//! machine, the process may be there before the next look.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use uffd::{MapsFile, UffdError};

use super::TrackNote;
use crate::strategy::EmergencyRelease;

/// The kernel's default of `vm.max_map_count` (include/linux/mm.h `DEFAULT_MAX_MAP_COUNT`).
const DEFAULT_MOST: usize = 65_530;

/// How many mappings the process had when it was let go, and how many it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MappingExcess {
    /// How many there were.
    pub mappings: usize,
    /// `vm.max_map_count`.
    pub most: usize,
}

/// Watches over the mappings of one address space. Dropping it ends the watch.
#[derive(Debug)]
pub(super) struct MappingLimit {
    most: usize,
    /// How many there were at first.
    first: usize,
    /// At how many it is let go.
    bound: usize,
    watched: Arc<WatchedCount>,
    /// What the watch ends with.
    watch: Option<(Sender<()>, JoinHandle<()>)>,
}

/// How many mappings there were when.
#[derive(Clone, Copy, Debug)]
struct MappingTally {
    count: usize,
    at: Instant,
}

/// What the watch and the rounds share.
#[derive(Debug, Default)]
struct WatchedCount {
    /// Everything was let go.
    is_over: AtomicBool,
    /// How many mappings there were then.
    mappings: AtomicUsize,
    /// Why the watch has ended too early.
    failed: Mutex<Option<UffdError>>,
}

impl MappingLimit {
    /// Begins to watch a process in which nothing is registered yet.
    pub(super) fn watch(pid: u32, release: Option<EmergencyRelease>) -> Result<Self, UffdError> {
        let most = most();
        let watched = Arc::new(WatchedCount::default());
        let mut limit = Self {
            most,
            first: 0,
            bound: most,
            watched,
            watch: None,
        };
        let Some(release) = release else {
            return Ok(limit);
        };
        let maps = MapsFile::open(pid)?;
        let now = maps.count(most)?;
        let Some(bound) = bound(now, most) else {
            limit.watched.let_go(now);
            return Ok(limit);
        };
        (limit.first, limit.bound) = (now, bound);
        let (stop, stopped) = mpsc::channel();
        let watched = limit.watched.clone();
        let look = MappingTally {
            count: now,
            at: Instant::now(),
        };
        let watch = move || {
            let mut before = look;
            let mut pause = SHORTEST;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let began = Instant::now();
                match watched.look(&maps, bound, most, before, &release) {
                    ControlFlow::Continue(now) => {
                        let more = now.count.saturating_sub(before.count);
                        pause = pause_after(began.elapsed(), more);
                        before = now;
                    }
                    ControlFlow::Break(()) => return,
                }
            }
        };
        let started = thread::Builder::new().name("mapping-limit".to_owned());
        let thread = started
            .spawn(watch)
            .map_err(|e| UffdError::system("cannot start a thread for", pid.to_string(), e))?;
        limit.watch = Some((stop, thread));
        Ok(limit)
    }

    /// What to know beforehand of a process with many mappings.
    pub(super) fn note(&self) -> Option<TrackNote> {
        (self.first > self.most / 8).then_some(TrackNote::ManyMappings {
            mappings: self.first,
            bound: self.bound,
            most: self.most,
        })
    }

    /// `vm.max_map_count`.
    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// Whether everything was let go.
    pub(super) fn is_over(&self) -> bool {
        self.watched.is_over.load(Ordering::SeqCst)
    }

    /// If everything was let go: how many mappings there were.
    pub(super) fn excess(&self) -> Result<Option<MappingExcess>, UffdError> {
        if let Some(error) = self.watched.failed().take() {
            return Err(error);
        }
        Ok(self.is_over().then(|| MappingExcess {
            mappings: self.watched.mappings.load(Ordering::SeqCst),
            most: self.most,
        }))
    }

    /// Whether `added` pages at the end of a mapping of `before` pages are left alone for now.
    /// `kept_apart`: how many mappings tracking has left behind that merge with nothing any more,
    /// one for each time that it registered memory that was touched before.
    pub(super) const fn leaves_to_grow(&self, kept_apart: usize, added: u64, before: u64) -> bool {
        kept_apart >= self.most / 16 && added < before / 8
    }
}

impl Drop for MappingLimit {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.watch.take() {
            drop(stop);
            // It panics nowhere, and holds nothing that others need.
            let _ = thread.join();
        }
    }
}

impl WatchedCount {
    fn look(
        &self,
        maps: &MapsFile,
        bound: usize,
        most: usize,
        before: MappingTally,
        release: &EmergencyRelease,
    ) -> ControlFlow<(), MappingTally> {
        let began = Instant::now();
        let count = match maps.count(bound) {
            Ok(count) => count,
            Err(error) => {
                *self.failed() = Some(error);
                return ControlFlow::Break(());
            }
        };
        let now = MappingTally {
            count,
            at: Instant::now(),
        };
        let more = count.saturating_sub(before.count);
        let is_near = comes_to(most, count, more, now.at - before.at, now.at - began);
        if count < bound && !is_near {
            return ControlFlow::Continue(now);
        }
        self.let_go(count);
        // A process that is gone needs no help.
        if let Err(error) = uffd::unless_gone(release.release()) {
            *self.failed() = Some(error);
        }
        ControlFlow::Break(())
    }

    fn let_go(&self, mappings: usize) {
        self.mappings.store(mappings, Ordering::SeqCst);
        self.is_over.store(true, Ordering::SeqCst);
    }

    fn failed(&self) -> MutexGuard<'_, Option<UffdError>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `vm.max_map_count`.
fn most() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_MOST)
}

/// At how many mappings a process is let go that has `now`: half way to the `most` that it may
/// have. None: it is too near to be tracked at all.
fn bound(now: usize, most: usize) -> Option<usize> {
    let left = most.saturating_sub(now);
    (left > most / 4).then_some(now + left / 2)
}

/// The shortest time between two looks: in it an allocator makes some 10,000 mappings.
const SHORTEST: Duration = Duration::from_millis(20);
/// The longest.
const LONGEST: Duration = Duration::from_secs(1);

/// More than this from one look to the next is many: a program that loads a library makes five.
const MANY: usize = 500;

/// Whether a process that has `count` mappings, `more` than `since` ago, has `most` before the next
/// look can let go of it, if it goes on as it did and looks take as long as this one.
fn comes_to(most: usize, count: usize, more: usize, since: Duration, took: Duration) -> bool {
    /// The next look counts more, and to let go takes longer than to count.
    const LOOKS: u32 = 4;
    let ahead = SHORTEST + took * LOOKS;
    let times = ahead.as_secs_f64() / since.as_secs_f64().max(1e-6);
    more > MANY && count as f64 + more as f64 * times >= most as f64
}

/// How long to wait after a look that took so long and found so many mappings more: looking takes a
/// fiftieth of the time, or a third while there come to be many more.
fn pause_after(took: Duration, more: usize) -> Duration {
    if more > MANY {
        return (took * 2).min(SHORTEST);
    }
    (took * 50).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_let_go_half_way() {
        assert_eq!(bound(30, 65_530), Some(32_780));
        assert_eq!(bound(45_530, 65_530), Some(55_530));
        assert_eq!(bound(60_000, 65_530), None);
        assert_eq!(bound(70_000, 65_530), None);
    }

    #[test]
    fn where_looking_is_slow_a_process_is_let_go_before() {
        let ms = Duration::from_millis;
        let comes = |count, more, since, took| comes_to(65_530, count, more, since, took);
        // An allocator, as it is seen by a machine at leisure and by one that is emulated and busy.
        assert!(!comes(15_000, 14_900, ms(30), ms(8)));
        assert!(comes(15_000, 14_900, ms(300), ms(250)));
        // A program that starts with many mappings, and stops then.
        assert!(!comes(8_000, 7_900, ms(200), ms(100)));
        assert!(!comes(30_000, 400, ms(20), ms(500)), "few more");
    }

    #[test]
    fn many_mappings_are_looked_at_less_often_unless_they_multiply() {
        let ms = Duration::from_millis;
        assert_eq!(pause_after(Duration::from_micros(50), 3), ms(20));
        assert_eq!(pause_after(ms(2), 3), ms(100));
        assert_eq!(pause_after(ms(100), 3), ms(1000));
        assert_eq!(pause_after(ms(2), 3000), ms(4));
        assert_eq!(pause_after(ms(100), 3000), ms(20));
    }

    #[test]
    fn a_heap_that_grows_for_ever_leaves_few_mappings_behind() {
        let limit = MappingLimit {
            most: 65_530,
            first: 0,
            bound: 65_530,
            watched: Arc::default(),
            watch: None,
        };
        let (mut kept_apart, mut tracked, mut waiting) = (0, 1000, 0);
        for _ in 0..1_000_000 {
            waiting += 10;
            if !limit.leaves_to_grow(kept_apart, waiting, tracked) {
                kept_apart += 1;
                tracked += waiting;
                waiting = 0;
            }
        }
        assert!((4095..4200).contains(&kept_apart), "{kept_apart}");
        assert!(waiting < tracked / 8);
    }

    #[test]
    fn where_nothing_is_registered_nobody_watches() -> Result<(), UffdError> {
        let limit = MappingLimit::watch(std::process::id(), None)?;
        assert!(limit.watch.is_none());
        assert_eq!(limit.excess()?, None);
        Ok(())
    }
}
