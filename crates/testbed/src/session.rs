//! A session on the script process, and what its rounds say of an area.

use std::collections::BTreeSet;
use std::time::Duration;

use pages::strategy::{StrategyName, TrackedArea};
use pages::track::{MappingRound, TrackError, TrackOptions, TrackRound, TrackSession, TrackStep};
use uffd::{PAGE_SIZE, smaps, unless_gone};

use super::script::{FACTS, ScriptMemory, ScriptProcess, refused};

/// The strategies that `tracker track` offers and that work here for this memory.
pub fn working(kind: ScriptMemory) -> Vec<StrategyName> {
    let offered = StrategyName::outside().filter(|name| name.is_auto());
    let works = |name: &StrategyName| {
        let refused = refused(*name, kind);
        if let Some(why) = &refused {
            eprintln!("skipped: {name} {}: {why}", kind.0);
        }
        refused.is_none()
    };
    offered.filter(works).collect()
}

/// `prefault` maps the zero page, which without PAGEMAP_SCAN looks like a written page: more of a
/// new mapping is unknown than was written.
#[must_use]
pub fn is_vague(name: StrategyName) -> bool {
    name == StrategyName::Prefault && FACTS.behaviour.written.is_none()
}

/// How many VMAs of a process are registered with a userfaultfd, for anything.
pub fn registered(pid: u32) -> usize {
    let Some(vmas) = unless_gone(smaps(pid)).unwrap() else {
        return 0;
    };
    let vmas = vmas.map(Result::unwrap);
    vmas.filter(|vma| vma.flags.uffd_wp() || vma.flags.uffd_missing())
        .count()
}

/// Options for tests.
pub fn options(name: StrategyName) -> TrackOptions {
    TrackOptions {
        strategy: Some(name),
        detailed: false,
        max_mapping: pages::track::MAX_MAPPING,
        interval: Duration::from_millis(1),
        tracker: "test",
        inject: super::inject::options(),
    }
}

/// Begins a session; returns it with round 0.
pub fn try_begin(pid: u32, name: StrategyName) -> Result<(TrackSession, TrackRound), TrackError> {
    let (session, first) = TrackSession::begin(pid, FACTS.clone(), options(name))?;
    check(&first);
    Ok((session, first))
}

/// Begins a session on the script; returns it with round 0.
pub fn begin(script: &ScriptProcess, name: StrategyName) -> (TrackSession, TrackRound) {
    try_begin(script.pid(), name).unwrap()
}

/// Makes a round, checks what must hold of every round, and fails if the process has ended.
pub fn step(session: &mut TrackSession) -> TrackRound {
    match session.step().unwrap() {
        TrackStep::Round(round) => {
            check(&round);
            round
        }
        TrackStep::Exited => panic!("the process has ended"),
    }
}

/// Checks what must hold of every round: rows and extents are disjoint and sorted by address, and
/// counts are sums of extents.
pub fn check(round: &TrackRound) {
    let mut end = 0;
    for row in &round.mappings {
        let mapping = &row.mapping;
        if row.pages.tracked != 0 {
            assert!(
                end <= mapping.start && mapping.start < mapping.end,
                "{round:#x?}"
            );
            end = mapping.end;
        }
        check_row(row);
    }
}

fn check_row(row: &MappingRound) {
    let (mut at, mut written, mut unknown) = (row.mapping.start, 0, 0);
    for extent in &row.written {
        assert!(
            at <= extent.range.start && extent.range.start < extent.range.end,
            "{row:#x?}"
        );
        at = extent.range.end;
        let count = if extent.unknown {
            &mut unknown
        } else {
            &mut written
        };
        *count += extent.pages();
    }
    assert!(at <= row.mapping.end, "{row:#x?}");
    assert_eq!(
        (written, unknown),
        (row.pages.written, row.pages.unknown),
        "{row:#x?}"
    );
    let size = (row.mapping.end - row.mapping.start) / PAGE_SIZE;
    assert!(row.pages.tracked <= size, "{row:#x?}");
}

/// What a round says of an area, as numbers of its pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenPages {
    /// Pages that are reported as written.
    pub written: BTreeSet<u64>,
    /// Pages that are unknown.
    pub unknown: BTreeSet<u64>,
    /// How many pages are tracked.
    pub tracked: u64,
    /// How many pages were unmapped since the last round.
    pub vanished: u64,
}

impl SeenPages {
    /// What a round says of an area.
    pub fn of(round: &TrackRound, area: &TrackedArea) -> Self {
        let here = |row: &&MappingRound| {
            row.mapping.start < area.range.end && area.range.start < row.mapping.end
        };
        let mut seen = Self::default();
        for row in round.mappings.iter().filter(here) {
            seen.tracked += row.pages.tracked;
            seen.vanished += row.pages.vanished;
            for extent in &row.written {
                let start = extent.range.start.max(area.range.start);
                let end = extent.range.end.min(area.range.end);
                let pages = (start..end.max(start)).step_by(PAGE_SIZE as usize);
                let set = if extent.unknown {
                    &mut seen.unknown
                } else {
                    &mut seen.written
                };
                set.extend(pages.map(|address| (address - area.range.start) / PAGE_SIZE));
            }
        }
        seen
    }

    /// All pages that are reported, as written or as unknown.
    pub fn all(&self) -> BTreeSet<u64> {
        self.written.union(&self.unknown).copied().collect()
    }
}

/// Makes a round; returns what it says of an area.
pub fn look(session: &mut TrackSession, area: &TrackedArea) -> SeenPages {
    SeenPages::of(&step(session), area)
}

/// A set of these page numbers.
pub fn pages(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    numbers.into_iter().collect()
}
