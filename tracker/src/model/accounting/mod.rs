//! The books: every gain is added once, to the series its owner has at that moment, and never
//! moves afterwards.
//!
//! One collection goes: who owns what ([`owners`], [`discovery`]), what was gained ([`records`]),
//! who left, who gets a free slot ([`admission`]), count.

mod admission;
mod discovery;
mod owners;
mod process;
mod records;
mod rows;

use std::collections::BTreeMap;
use std::time::Duration;

use self::process::{Process, Vma};
use self::records::{Gain, Records};
use super::counts::{Counts, ProcessCounts};
use super::input::{Input, Releases};
use super::limits::Limits;
use super::sample::{ProcessKey, Snapshot};
use super::view::Outcomes;

/// Series of processes and VMAs, bounded, whose sum never goes down.
#[derive(Debug)]
pub struct Model {
    limits: Limits,
    records: Records,
    processes: BTreeMap<ProcessKey, Process>,
    /// Serial of the next owner of a VMA.
    next_serial: u64,
    /// When the last discovery that was taken in began.
    discovered_at: Option<Duration>,
    sums: Sums,
    last: LastReading,
}

/// Counters without an owner.
#[derive(Debug, Default)]
struct Sums {
    node: Counts,
    node_process: ProcessCounts,
    other: Counts,
    other_process: ProcessCounts,
    retired: Counts,
    retired_process: ProcessCounts,
    outcomes: Outcomes,
}

/// What is shown as the last snapshot had it.
#[derive(Debug, Default)]
struct LastReading {
    snapshot: Snapshot,
}

impl Model {
    /// A model with nothing counted.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            records: Records::default(),
            processes: BTreeMap::new(),
            next_serial: 0,
            discovered_at: None,
            sums: Sums::default(),
            last: LastReading::default(),
        }
    }

    /// Takes one reading in. The records returned have been read to the end.
    pub fn collect(&mut self, input: &Input<'_>) -> Releases {
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
        self.keep_reading(snapshot);
        releases
    }

    /// Adds each gain to the series that its owner has now.
    fn count(&mut self, gains: &[Gain]) {
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
            let series = (gain.owner)
                .and_then(|owner| {
                    process
                        .vmas
                        .get_mut(&owner.start)
                        .filter(|v| v.serial == owner.serial)
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

    fn keep_reading(&mut self, snapshot: &Snapshot) {
        self.last.snapshot = Snapshot {
            vmas: Vec::new(),
            mms: Vec::new(),
            ..snapshot.clone()
        };
    }
}

impl Sums {
    fn note_outcome(&mut self, gain: &Gain) {
        let outcomes = &mut self.outcomes;
        let events = match (gain.owner, gain.process) {
            (Some(_), _) => &mut outcomes.counted,
            (None, Some(_)) => &mut outcomes.process_only,
            (None, None) => &mut outcomes.unattributed,
        };
        *events = events.saturating_add(gain.counts.total());
    }

    fn retire_vma(&mut self, vma: &Vma) {
        if let Some(counts) = vma.series.as_deref() {
            self.retired += counts;
        }
    }

    fn retire_process(&mut self, process: &Process) {
        self.retired += &process.other;
        self.retired_process += &process.counts;
        for vma in process.vmas.values() {
            self.retire_vma(vma);
        }
    }
}
