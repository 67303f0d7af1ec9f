//! The books: every gain is added once, to the series that its owner has at that moment, and never
//! moves afterwards.
//!
//! One collection decides who owns what ([`owners`], [`discovery`]), what was gained ([`records`]),
//! who left and who gets a free slot ([`admission`]), and then counts.

mod admission;
mod discovery;
mod owners;
mod process;
mod records;
mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use self::process::{ProcessAccount, VmaAccount};
use self::records::{RecordBook, RecordGain};
use super::collection::{CollectionInput, RecordReleases};
use super::counters::{ProcessCounters, VmaCounters};
use super::limits::SeriesLimits;
use super::series::EventOutcomes;
use super::snapshot::{NodeReading, ProcessKey};

/// Series of processes and VMAs: bounded, and their sum never goes down.
#[derive(Debug)]
pub struct SeriesBooks {
    limits: SeriesLimits,
    records: RecordBook,
    processes: BTreeMap<ProcessKey, ProcessAccount>,
    /// Serial of the next owner of a VMA.
    next_serial: u64,
    /// When the last discovery that was taken in began.
    discovered_at: Option<Duration>,
    sums: OwnerlessSums,
    /// The node's part of the last snapshot, shown as it is.
    last: NodeReading,
}

/// Counters without an owner.
#[derive(Debug, Default)]
struct OwnerlessSums {
    node: VmaCounters,
    node_process: ProcessCounters,
    other: VmaCounters,
    other_process: ProcessCounters,
    retired: VmaCounters,
    retired_process: ProcessCounters,
    outcomes: EventOutcomes,
}

impl SeriesBooks {
    /// Books with nothing counted.
    #[must_use]
    pub fn new(limits: SeriesLimits) -> Self {
        Self {
            limits,
            records: RecordBook::default(),
            processes: BTreeMap::new(),
            next_serial: 1,
            discovered_at: None,
            sums: OwnerlessSums::default(),
            last: NodeReading::default(),
        }
    }

    /// Takes one reading in; returns the records that have been read to the end.
    pub fn collect(&mut self, input: &CollectionInput<'_>) -> RecordReleases {
        let (snapshot, now) = (input.snapshot, input.now);
        self.resolve_processes(snapshot);
        self.resolve_vmas(snapshot, now);
        self.take_discovery(input.discovery, now);
        self.take_scans(input.scans);
        let (gains, releases) = self.records.take(snapshot);
        self.note_process_exits(now);
        self.retire(now);
        let admitted = self.admit(&gains);
        self.count(&gains);
        self.open(admitted);
        self.forget_exited();
        self.last = snapshot.node;
        releases
    }

    /// Adds each gain to the series that its owner has now.
    fn count(&mut self, gains: &[RecordGain]) {
        for gain in gains {
            self.sums.node += &gain.counts;
            self.sums.node_process += &gain.process_counts;
            self.sums.note_outcome(gain);
            let process = (gain.process)
                .and_then(|key| self.processes.get_mut(&key))
                .filter(|process| process.series);
            let Some(process) = process else {
                self.sums.other += &gain.counts;
                self.sums.other_process += &gain.process_counts;
                continue;
            };
            process.counts += &gain.process_counts;
            process.total += &gain.counts;
            let series = (gain.owner)
                .and_then(|owner| {
                    let vma = process.vmas.get_mut(&owner.start)?;
                    (vma.serial == owner.serial).then_some(vma)
                })
                .and_then(|vma| vma.series.as_deref_mut());
            *series.unwrap_or(&mut process.other) += &gain.counts;
        }
    }

    /// A process without anything live has exited; one that uses uffd-wp again has not.
    fn note_process_exits(&mut self, now: Duration) {
        for process in self.processes.values_mut() {
            process.exited = match process.exited {
                _ if process.is_live() => None,
                None => Some(now),
                since => since,
            };
        }
    }

    /// Drops the series that lingered long enough; their values go to no other series.
    fn retire(&mut self, now: Duration) {
        let linger = self.limits.linger;
        let over = |exited: Duration| now.saturating_sub(exited) >= linger;
        for process in self.processes.values_mut() {
            process.vmas.retain(|_, vma| {
                let retire = vma.series.is_some() && vma.exited.is_some_and(|exit| over(exit.at));
                if retire {
                    self.sums.retire_vma(vma);
                }
                !retire
            });
        }
        self.processes.retain(|_, process| {
            let retire = process.series && process.exited.is_some_and(over);
            if retire {
                self.sums.retire_process(process);
            }
            !retire
        });
    }

    /// Drops what is gone and has no series to linger.
    fn forget_exited(&mut self) {
        self.processes.retain(|_, process| {
            (process.vmas).retain(|_, vma| vma.series.is_some() || vma.exited.is_none());
            process.series || process.exited.is_none()
        });
    }
}

impl OwnerlessSums {
    fn note_outcome(&mut self, gain: &RecordGain) {
        let outcomes = &mut self.outcomes;
        let events = match (gain.owner, gain.process) {
            (Some(_), _) => &mut outcomes.counted,
            (None, Some(_)) => &mut outcomes.process_only,
            (None, None) => &mut outcomes.unattributed,
        };
        *events = events.saturating_add(gain.counts.total());
    }

    fn retire_vma(&mut self, vma: &VmaAccount) {
        if let Some(counts) = vma.series.as_deref() {
            self.retired += counts;
        }
    }

    fn retire_process(&mut self, process: &ProcessAccount) {
        self.retired += &process.other;
        self.retired_process += &process.counts;
        for vma in process.vmas.values() {
            self.retire_vma(vma);
        }
    }
}
