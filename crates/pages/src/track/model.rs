//! What tracking a process tells: a header, rounds, a summary. The live table, JSON, recordings and
//! their reports all have the same words.
//!
//! Pages are counted in units of 4 KiB whatever their size, as in the kernel's own pagemap.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use uffd::{Backing, pages_in};

use super::event::SessionEvent;
use super::note::TrackNote;
use super::untracked::UntrackedPages;

/// Who is tracked, how, and since when: none of it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackHeader {
    /// The process.
    pub pid: u32,
    /// Its command name when tracking began (`/proc/PID/comm`).
    pub comm: String,
    /// Its arguments when tracking began (`/proc/PID/cmdline`).
    pub command: Vec<String>,
    /// The strategy's name, as in docs/strategies.md.
    pub strategy: String,
    /// Why this strategy.
    pub reason: String,
    /// Time between two rounds, as asked for.
    pub interval: Duration,
    /// When the first page was armed.
    pub began: SystemTime,
    /// The kernel's release (uname(2)).
    pub kernel: String,
    /// Name and version of the tracker.
    pub tracker: String,
    /// For how long one of its threads stood still while it was attached to, or all (a note says
    /// so). `None`: none did.
    pub stopped: Option<Duration>,
    /// What else its owner should know: mappings passed over and why, what the strategy does.
    pub notes: Vec<TrackNote>,
}

/// One mapping of the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrackedMapping {
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
    /// Path, `[heap]`, `[stack]`, `[anon:...]`, or nothing.
    pub name: String,
    /// What its pages come from.
    pub backing: Backing,
    /// Bytes of one page: 4096, or that of hugetlb.
    pub page_size: u64,
    /// Where its pages are, if it is shared (`MAP_SHARED`).
    pub shared: Option<SharedPlace>,
}

/// Where the pages of shared memory are. They can be mapped at several addresses, and by several
/// processes; this is what they have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedPlace {
    /// Major and minor number of the file's device.
    pub device: (u32, u32),
    /// The file.
    pub inode: u64,
    /// Where the mapping begins in it, in bytes.
    pub offset: u64,
}

/// How many mappings a process has, tracked or not, and how many it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingCount {
    /// When the last round read them (`/proc/PID/maps`).
    pub now: usize,
    /// `vm.max_map_count`.
    pub most: usize,
}

/// What happened in one interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackRound {
    /// Counts from 1; round 0 is the first arming.
    pub number: u64,
    /// When its reading began, since [`TrackHeader::began`].
    pub at: Duration,
    /// For how long pages could be written: since the round before.
    pub lasted: Duration,
    /// How long reading and arming took.
    pub took: Duration,
    /// Every tracked mapping, by address.
    pub mappings: Vec<MappingRound>,
    /// Those of its children, if they are tracked, too.
    pub children: Vec<ProcessRound>,
    /// What was not looked at, and why, in all of them: nobody knows whether it was written.
    pub not_looked_at: UntrackedPages,
    /// What happened to the process, and to what is tracked.
    pub events: Vec<SessionEvent>,
    /// How many mappings the process has; `None`: nothing was read, or a recording tells.
    pub mapping_count: Option<MappingCount>,
}

/// The mappings of a child in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRound {
    /// Its pid.
    pub pid: u32,
    /// Its command name when it was attached to (`/proc/PID/comm`).
    pub comm: String,
    /// Every tracked mapping, by address.
    pub mappings: Vec<MappingRound>,
}

/// One mapping in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingRound {
    /// Which mapping: the same allocation as in the round before if nothing about it changed.
    pub mapping: Arc<TrackedMapping>,
    /// Its pages, counted.
    pub pages: TrackedPages,
    /// What is reported as written, and what is unknown, by address, disjoint.
    pub written: Vec<PageExtent>,
}

/// Pages of 4 KiB in a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackedPages {
    /// Tracked.
    pub tracked: u64,
    /// Armed in this round, for the first time or again.
    pub armed: u64,
    /// Reported as written.
    pub written: u64,
    /// There when they were armed for the first time: nobody saw whether they had been written
    /// since they were mapped. Take them as written; they are not counted there, and are told once.
    pub unknown: u64,
    /// Accessed for the first time. `None`: the strategy cannot tell.
    pub touched: Option<u64>,
    /// Emptied since they were armed, as by `MADV_DONTNEED`; part of `written`. `None`: the
    /// strategy cannot tell.
    pub zapped: Option<u64>,
    /// Moved here from another address by mremap(2). `None`: the strategy cannot tell.
    pub moved: Option<u64>,
    /// Unmapped since the round before.
    pub vanished: u64,
}

/// Pages next to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageExtent {
    /// Their addresses.
    pub range: Range<u64>,
    /// Bytes per report: 4096, or a huge page of which nobody knows what in it was written.
    pub unit: u64,
    /// Nobody saw whether they were written: see [`TrackedPages::unknown`].
    pub unknown: bool,
}

/// What all rounds come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackSummary {
    /// Whole rounds, not counting the first arming.
    pub rounds: u64,
    /// From the first arming to the last round.
    pub lasted: Duration,
    /// Different pages reported as written, in 4 KiB.
    pub written_set: u64,
    /// Pages reported as written, each as often as it was reported.
    pub written: u64,
    /// Different pages that are `unknown` and were never reported as written.
    pub unknown_set: u64,
    /// The most pages tracked in one round.
    pub tracked: u64,
    /// The most different pages of shared memory tracked in one round. What others wrote to them is
    /// seen only by strategies that compare content.
    pub shared: u64,
    /// For each reason the most pages that were not looked at in one round.
    pub not_looked_at: UntrackedPages,
    /// How long all reading and arming took.
    pub took: Duration,
    /// Why it ended.
    pub end: TrackEnd,
    /// The exit status of the process, if it was started by the tracker: a code, or 128 and a
    /// signal's number.
    pub status: Option<i32>,
    /// Its huge pages, if they were counted; a recording does not hold them.
    pub huge_pages: Option<HugePageChange>,
}

/// Anonymous memory in huge pages (`AnonHugePages`), in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePageChange {
    /// Before the process was attached to.
    pub before: u64,
    /// After the last round, while it was tracked.
    pub after: u64,
}

/// Why tracking ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackEnd {
    /// After as many rounds, or as long, as asked for.
    Done,
    /// By a signal, or because the reader of the output went away.
    Interrupted,
    /// The process ended.
    Exited,
}

impl TrackRound {
    /// Pages of 4 KiB that were reported because what tells of writes was lost: they need not be
    /// written.
    #[must_use]
    pub fn in_doubt(&self) -> u64 {
        let pages = self.events.iter().map(|event| match event {
            SessionEvent::InDoubt { pages } => *pages,
            _ => 0,
        });
        pages.sum()
    }

    /// The mappings of all processes.
    pub fn all_mappings(&self) -> impl Iterator<Item = &MappingRound> {
        let children = self.children.iter().flat_map(|child| &child.mappings);
        self.mappings.iter().chain(children)
    }

    /// Different pages of 4 KiB that are tracked. One of shared memory is one, wherever and however
    /// often it is mapped.
    #[must_use]
    pub fn tracked(&self) -> u64 {
        let rows = self.all_mappings();
        let private = rows.filter(|row| row.mapping.shared.is_none());
        let tracked = private.map(|row| row.pages.tracked);
        tracked.fold(self.shared(), u64::saturating_add)
    }

    /// Different pages of shared memory that are tracked: as far as these processes write them.
    #[must_use]
    pub fn shared(&self) -> u64 {
        let mut files = BTreeMap::<_, (u64, Vec<Range<u64>>)>::new();
        for row in self.all_mappings().filter(|row| row.pages.tracked != 0) {
            if let Some(place) = row.mapping.shared {
                let bytes = row.mapping.end.saturating_sub(row.mapping.start);
                let (sum, ranges) = files.entry(place.file()).or_default();
                *sum = sum.saturating_add(row.pages.tracked);
                ranges.push(place.offset..place.offset.saturating_add(bytes));
            }
        }
        let different = |(sum, ranges)| covered(ranges).min(sum);
        let files = files.into_values().map(different);
        files.fold(0, u64::saturating_add)
    }
}

/// How many pages any of these ranges has.
fn covered(mut ranges: Vec<Range<u64>>) -> u64 {
    ranges.sort_by_key(|range| range.start);
    let (mut pages, mut end) = (0, 0);
    for range in ranges {
        let rest = range.start.max(end)..range.end.max(end);
        pages += pages_in(&rest);
        end = rest.end;
    }
    pages
}

/// A file that shared memory is of, anonymous or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedFile {
    /// Major and minor number of its device.
    pub device: (u32, u32),
    /// Its number there.
    pub inode: u64,
}

impl SharedPlace {
    /// The file.
    #[must_use]
    pub const fn file(&self) -> SharedFile {
        SharedFile {
            device: self.device,
            inode: self.inode,
        }
    }
}

impl TrackedMapping {
    /// Where the page at an address is, if it is shared: other mappings of it say the same.
    #[must_use]
    pub fn shared_at(&self, address: u64) -> Option<SharedPlace> {
        let distance = address.saturating_sub(self.start);
        self.shared.map(|place| SharedPlace {
            offset: place.offset.saturating_add(distance),
            ..place
        })
    }

    /// Where it is and what it is called.
    pub(super) fn place(&self) -> String {
        let Self { start, end, .. } = *self;
        let name = if self.name.is_empty() {
            self.backing.as_str()
        } else {
            &self.name
        };
        format!("{start:#x}-{end:#x} {name}")
    }
}

impl PageExtent {
    /// Its length in pages of 4 KiB.
    #[must_use]
    pub fn pages(&self) -> u64 {
        pages_in(&self.range)
    }
}

#[cfg(test)]
mod tests {
    use uffd::PAGE_SIZE;

    use super::*;

    /// Two views of a file that overlap, one of another file, and private memory.
    #[test]
    fn a_page_that_is_mapped_twice_is_tracked_once() {
        let row = |inode: u64, offset: u64, pages: u64| {
            let place = SharedPlace {
                device: (0, 1),
                inode,
                offset: offset * PAGE_SIZE,
            };
            let mapping = TrackedMapping {
                start: 0,
                end: pages * PAGE_SIZE,
                name: String::new(),
                backing: Backing::Shmem,
                page_size: PAGE_SIZE,
                shared: (inode != 0).then_some(place),
            };
            let pages = TrackedPages {
                tracked: pages,
                ..TrackedPages::default()
            };
            MappingRound {
                mapping: Arc::new(mapping),
                pages,
                written: Vec::new(),
            }
        };
        let round = TrackRound {
            mappings: vec![row(7, 0, 10), row(7, 4, 8), row(8, 0, 3), row(0, 0, 5)],
            ..TrackRound::default()
        };
        assert_eq!((round.tracked(), round.shared()), (12 + 3 + 5, 12 + 3));
    }
}
