//! A judge of trackers: it stops a process, looks at all of its memory, lets it run, and looks
//! again. Which pages differ is the truth; what a round of a tracker reports is held against it.
//!
//! ```text
//! stop, round 0, snapshot | runs | stop, round 1, snapshot | runs | ...
//! ```

mod snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use pages::strategy::StrategyName;
use pages::track::{
    MappingRound, TrackRound, TrackSession, TrackStep, TrackTree, UntrackedMapping, UntrackedReason,
};
use uffd::{PAGE_SIZE, WrittenMeaning};

use crate::foreign::SigstopGuard;
use crate::script::FACTS;
pub use snapshot::{MemorySnapshot, PageContent, PageIdentity, armed_copies};

/// What differs between two snapshots, and what of it no round reported.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Pages that could be looked at.
    pub compared: u64,
    /// Pages whose content is another one.
    pub changed: u64,
    /// Changed pages that are not reported, by mapping.
    pub missed: Vec<MissedMapping>,
}

/// Pages of one mapping that changed and are not reported.
#[derive(Debug)]
pub struct MissedMapping {
    /// The mapping as `/proc/PID/maps` has it.
    pub mapping: String,
    /// How they changed.
    pub change: PageChange,
    /// Why the session does not look at them, if it says so.
    pub not_looked_at: Option<UntrackedReason>,
    /// Their addresses.
    pub pages: BTreeSet<u64>,
}

/// How a page changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageChange {
    /// It has other bytes.
    Written,
    /// It was emptied, or what was mapped there is gone: it is all zeroes.
    Emptied,
    /// It is a copy of the file's page now, with the same bytes: the kernel made it for a write.
    Copied,
    /// It is the file's page again, where the process had a copy of its own.
    CopyDropped,
    /// It is shared and in no page table of the process: written by another process, or through a
    /// file.
    WrittenElsewhere,
    /// It is shared, and was not mapped before: what it held then nobody saw.
    Mapped,
}

impl Judgement {
    /// Pages that changed in one of `ways` and are not reported though the session looks at them.
    #[must_use]
    pub fn missed(&self, ways: &[PageChange]) -> u64 {
        let wrong = |missed: &&MissedMapping| {
            missed.not_looked_at.is_none() && ways.contains(&missed.change)
        };
        let missed = self.missed.iter().filter(wrong);
        missed.map(|missed| missed.pages.len() as u64).sum()
    }

    /// Judges one interval, by what the session says at its end.
    #[must_use]
    pub fn of(before: &MemorySnapshot, after: &MemorySnapshot, report: &SessionReport<'_>) -> Self {
        Self::by(
            &ReportedPages::of(before, after, report),
            before,
            after,
            report,
        )
    }

    fn by(
        reported: &ReportedPages<'_>,
        before: &MemorySnapshot,
        after: &MemorySnapshot,
        report: &SessionReport<'_>,
    ) -> Self {
        let mut judgement = Self::default();
        let mut missed: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
        for identity in after.identities(before) {
            judgement.compared += 1;
            let Some(change) = before.change(after, identity) else {
                continue;
            };
            judgement.changed += 1;
            if reported.has(identity, change) {
                continue;
            }
            // Of a page that is mapped several times one that is looked at counts.
            let places = after.places(identity).into_iter();
            let place = places.map(|place| (report.reason(place), place)).min();
            let (reason, place) = place.unwrap_or_default();
            let vma = after.vma(place).map_or(0, |vma| vma.start);
            missed
                .entry((vma, change, reason))
                .or_default()
                .insert(place);
        }
        let mapping = |((start, change, not_looked_at), pages)| MissedMapping {
            mapping: after.describe(start),
            change,
            not_looked_at,
            pages,
        };
        judgement.missed = missed.into_iter().map(mapping).collect();
        judgement
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} pages changed", self.changed, self.compared)?;
        for missed in &self.missed {
            let first = missed.pages.first().copied().unwrap_or_default();
            let (pages, change) = (missed.pages.len(), missed.change);
            write!(f, "\n  {pages} {change:?} and not reported")?;
            if let Some(reason) = missed.not_looked_at {
                write!(f, " (not looked at: {})", reason.as_str())?;
            }
            write!(f, ", first {first:#x}: {}", missed.mapping)?;
        }
        Ok(())
    }
}

/// What a session says after a round.
#[derive(Clone, Copy, Debug)]
pub struct SessionReport<'a> {
    /// What was written, and what is unknown.
    pub mappings: &'a [MappingRound],
    /// What is gone.
    pub gone: &'a [Range<u64>],
    /// What was not looked at.
    pub untracked: &'a [UntrackedMapping],
    /// What [`armed_copies`] found before the round, while the process stood still.
    pub not_written_yet: &'a BTreeSet<u64>,
}

impl SessionReport<'_> {
    /// Why an address is not looked at; nothing if it is.
    fn reason(&self, address: u64) -> Option<UntrackedReason> {
        let after = |it: &UntrackedMapping| it.mapping.end <= address;
        let at = self.untracked.partition_point(after);
        let untracked = self.untracked.get(at)?;
        (untracked.mapping.start <= address).then_some(untracked.reason)
    }
}

/// The pages that a session tells of.
struct ReportedPages<'a> {
    pages: BTreeSet<PageIdentity>,
    gone: &'a [Range<u64>],
    not_written_yet: &'a BTreeSet<u64>,
}

impl<'a> ReportedPages<'a> {
    fn of(before: &MemorySnapshot, after: &MemorySnapshot, report: &SessionReport<'a>) -> Self {
        let extents = report.mappings.iter().flat_map(|row| &row.written);
        let pages = extents.flat_map(|extent| extent.range.clone().step_by(PAGE_SIZE as usize));
        // What is unmapped by now was mapped before.
        let identify = |page| after.identify(page).or_else(|| before.identify(page));
        Self {
            pages: pages.filter_map(identify).collect(),
            gone: report.gone,
            not_written_yet: report.not_written_yet,
        }
    }

    /// Whether a page is told as written or unknown, is empty because what was mapped there is gone,
    /// or is a copy that nobody has written to.
    fn has(&self, identity: PageIdentity, change: PageChange) -> bool {
        if self.pages.contains(&identity) {
            return true;
        }
        let PageIdentity::Private(address) = identity else {
            return false;
        };
        match change {
            PageChange::Emptied | PageChange::CopyDropped => {
                self.gone.iter().any(|gone| gone.contains(&address))
            }
            PageChange::Copied => self.not_written_yet.contains(&address),
            PageChange::Written | PageChange::WrittenElsewhere | PageChange::Mapped => false,
        }
    }
}

/// How pages change that a strategy must report, as its table in docs/strategies.md says.
#[must_use]
pub fn must_see(name: StrategyName) -> &'static [PageChange] {
    use PageChange::{Copied, CopyDropped, Emptied, Mapped, Written};
    let sees_zaps = FACTS.behaviour.written == Some(WrittenMeaning::Fixed);
    match name {
        StrategyName::Hash => &[Written, Mapped, Emptied, CopyDropped],
        StrategyName::Markers | StrategyName::Prefault if sees_zaps => {
            &[Written, Copied, Mapped, Emptied]
        }
        // `sync` sees zaps, and not that a mapping is a new one while nothing is in it.
        _ => &[Written, Copied, Mapped],
    }
}

/// Judges a session of `rounds` rounds with `interval` between two: nothing may be missed beyond
/// what the strategy's table and the session itself say.
pub fn judge_session(pid: u32, session: &mut TrackSession, rounds: u32, interval: Duration) {
    let name = session.strategy();
    let (mut before, mut changed, mut wrong) = (None, 0, String::new());
    for number in 0..=rounds {
        let (not_written_yet, round, after) = {
            let _still = SigstopGuard::of(pid);
            let not_written_yet = armed_copies(pid);
            let TrackStep::Round(round) = session.step().unwrap() else {
                panic!("process {pid} has ended")
            };
            (not_written_yet, round, MemorySnapshot::take(pid))
        };
        crate::session::check(&round);
        if let Some(before) = &before {
            let report = SessionReport {
                mappings: &round.mappings,
                gone: session.gone(),
                untracked: session.untracked(),
                not_written_yet: &not_written_yet,
            };
            let judgement = Judgement::of(before, &after, &report);
            eprintln!("{name}, round {number}: {judgement}");
            changed += judgement.changed;
            if judgement.missed(must_see(name)) != 0 {
                wrong += &format!("\nround {number}: {judgement}");
            }
        }
        before = Some(after);
        std::thread::sleep(interval);
    }
    assert_ne!(changed, 0, "{name}: nothing changed: nothing was judged");
    assert_eq!(wrong, "", "{name}");
}

/// The processes of a tree at one moment, by pid.
type TreeSnapshot = HashMap<u32, MemorySnapshot>;

/// Judges a process and its children, as [`judge_session`] does: what any of them writes to shared
/// memory must be reported by one of them. None may come or go.
pub fn judge_tree(tree: &mut TrackTree, rounds: u32, interval: Duration) {
    let pid = tree.header().pid;
    let name = tree.session(pid).unwrap().strategy();
    let (mut before, mut changed, mut wrong) = (TreeSnapshot::new(), 0, String::new());
    for number in 0..=rounds {
        let (not_written_yet, round, after) = {
            let family = family(pid);
            let _still: Vec<_> = family.iter().copied().map(SigstopGuard::of).collect();
            let copies = family.into_iter().map(|pid| (pid, armed_copies(pid)));
            let not_written_yet: HashMap<_, _> = copies.collect();
            let TrackStep::Round(round) = tree.step().unwrap() else {
                panic!("process {pid} has ended")
            };
            let children = round.children.iter().map(|child| child.pid);
            let snapshots = children
                .chain([pid])
                .map(|pid| (pid, MemorySnapshot::take(pid)));
            let snapshots: TreeSnapshot = snapshots.collect();
            (not_written_yet, round, snapshots)
        };
        for (pid, judgement) in judge_processes(tree, &round, &not_written_yet, &before, &after) {
            eprintln!("{name}, round {number}, process {pid}: {judgement}");
            changed += judgement.changed;
            if judgement.missed(must_see(name)) != 0 {
                wrong += &format!("\nround {number}, process {pid}: {judgement}");
            }
        }
        before = after;
        std::thread::sleep(interval);
    }
    assert_ne!(changed, 0, "{name}: nothing changed: nothing was judged");
    assert_eq!(wrong, "", "{name}");
}

fn judge_processes(
    tree: &TrackTree,
    round: &TrackRound,
    not_written_yet: &HashMap<u32, BTreeSet<u64>>,
    before: &TreeSnapshot,
    after: &TreeSnapshot,
) -> Vec<(u32, Judgement)> {
    let own = (tree.header().pid, &round.mappings[..]);
    let children = round.children.iter();
    let all = children
        .map(|child| (child.pid, &child.mappings[..]))
        .chain([own]);
    let told: Vec<_> = all
        .filter_map(|(pid, mappings)| {
            let session = tree.session(pid)?;
            let report = SessionReport {
                mappings,
                gone: session.gone(),
                untracked: session.untracked(),
                not_written_yet: not_written_yet.get(&pid)?,
            };
            let (before, after) = (before.get(&pid)?, after.get(&pid)?);
            let reported = ReportedPages::of(before, after, &report);
            Some((pid, report, reported, before, after))
        })
        .collect();
    let pages = told.iter().flat_map(|(_, _, reported, ..)| &reported.pages);
    let shared = pages.filter(|page| matches!(page, PageIdentity::Shared { .. }));
    let shared: BTreeSet<PageIdentity> = shared.copied().collect();
    let judged = told
        .into_iter()
        .map(|(pid, report, mut reported, before, after)| {
            reported.pages.extend(&shared);
            let judgement = Judgement::by(&reported, before, after, &report);
            (pid, judgement)
        });
    judged.collect()
}

/// A process and its descendants.
fn family(pid: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids
        .filter_map(|pid| Some((pid, uffd::stat(pid).ok()?.parent)))
        .collect();
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        let born = parents.iter().filter(|(_, of)| *of == parent);
        family.extend(born.map(|(pid, _)| *pid));
        at += 1;
    }
    family
}
