//! The BPF route: `iter/task_vma` walks all VMAs in the kernel and reports those of uffd-wp.
//!
//! It sees every VMA, whoever holds the userfaultfd, walks no page table, and needs no `/proc`.

use super::described::{DescribedProcess, DescriptionNeed, ProcessMoment, needs};
use super::{
    DiscoveryError, DiscoveryOutcome, DiscoveryRefusal, DiscoveryRoute, LookFailure, LookWatch,
    LookedAt, describe, key_of, rounded,
};
use crate::model::{FoundVma, ProcessKey};
use crate::probes::ProbeError;
use crate::probes::counters::backing;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;
use tracker_ebpf::IterVma;
use uffd::{UffdError, unless_gone};

/// Reads the iterator once: tells of all uffd-wp VMAs of the machine.
pub type ReadIter = Box<dyn FnMut(&mut dyn FnMut(&IterVma)) -> Result<(), ProbeError> + Send>;

/// The BPF route, with what it remembers of processes.
pub struct IterRoute {
    read: ReadIter,
    known: HashMap<ProcessKey, DescribedProcess>,
    /// Discoveries that it made.
    turn: u64,
}

impl IterRoute {
    /// A route over a loaded iterator, for who is in the initial pid namespace.
    pub fn new(read: ReadIter) -> Self {
        Self {
            read,
            known: HashMap::new(),
            turn: 0,
        }
    }
}

impl DiscoveryRoute for IterRoute {
    fn route(&self) -> &'static str {
        "iter/task_vma"
    }

    fn discover(
        &mut self,
        at: Duration,
        watch: &LookWatch,
    ) -> Result<DiscoveryOutcome, DiscoveryError> {
        let mut rows = FoundRows::default();
        let read = watch.look(LookedAt::Iterator, || (self.read)(&mut |row| rows.add(row)))?;
        read.map_err(DiscoveryError::Iterator)?;
        self.turn += 1;
        let (vmas, processes) = rows.finish();
        let needs = needs(&processes, &self.known, self.turn);
        // What is gone is forgotten.
        let mut known = std::mem::take(&mut self.known);
        let mut outcome = DiscoveryOutcome {
            sees_all: true,
            ..DiscoveryOutcome::default()
        };
        outcome.discovery.at = at;
        outcome.discovery.vmas = vmas;
        let DiscoveryOutcome {
            discovery,
            refusals,
            ..
        } = &mut outcome;
        for vmas in discovery.vmas.chunk_by_mut(|a, b| a.process == b.process) {
            let Some(process) = vmas.first().map(|vma| vma.process) else {
                continue;
            };
            let question = DescriptionQuestion {
                process,
                need: *needs.get(&process).unwrap_or(&DescriptionNeed::Everything),
                now: processes.get(&process).copied().unwrap_or_default(),
                turn: self.turn,
            };
            let known = known.remove(&process);
            let answer = || question.answer(vmas, known);
            match watch.look(LookedAt::Process(process.pid), answer) {
                Ok(Ok(Some(described))) => {
                    discovery.facts.insert(process, described.facts.clone());
                    self.known.insert(process, described);
                }
                Ok(Ok(None)) if is_of_another_namespace() => {
                    discovery.unreachable.insert(process);
                    refusals.push(DiscoveryRefusal::pid_namespace(process.pid));
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => refusals.push(DiscoveryRefusal::of(process.pid, &error)),
                Err(LookFailure::GivenUp) => return Err(LookFailure::GivenUp.into()),
                Err(stuck) => refusals.push(DiscoveryRefusal::stuck(process.pid, stuck)),
            }
        }
        outcome.processes = outcome.discovery.facts.len();
        Ok(outcome)
    }
}

/// The rows as VMAs, each once: the iterator visits every thread of a process, and every process
/// that shares memory (`CLONE_VM`).
#[derive(Default)]
struct FoundRows {
    seen: HashSet<(u64, u64)>,
    vmas: Vec<FoundVma>,
    layouts: HashMap<ProcessKey, u64>,
}

impl FoundRows {
    fn add(&mut self, row: &IterVma) {
        if !self.seen.insert((row.mm, row.start)) {
            return;
        }
        let vma = from_row(row);
        let mut digest = DefaultHasher::new();
        (row.vma, row.start, row.end, row.features).hash(&mut digest);
        // In whatever order they come.
        let layout = self.layouts.entry(vma.process).or_default();
        *layout = layout.wrapping_add(digest.finish());
        self.vmas.push(vma);
    }

    /// The VMAs in order, and their processes as they are now.
    fn finish(mut self) -> (Vec<FoundVma>, HashMap<ProcessKey, ProcessMoment>) {
        self.vmas
            .sort_unstable_by_key(|vma| (vma.process, vma.start));
        let moment = |(process, layout): (ProcessKey, u64)| {
            let ran = uffd::cpu_time(process.pid);
            (process, ProcessMoment { layout, ran })
        };
        (self.vmas, self.layouts.into_iter().map(moment).collect())
    }
}

fn from_row(row: &IterVma) -> FoundVma {
    let length = row
        .comm
        .iter()
        .position(|&b| b == 0)
        .unwrap_or(row.comm.len());
    FoundVma {
        process: rounded(ProcessKey {
            pid: row.tgid,
            start_boottime_ns: row.start_boottime_ns,
        }),
        comm: row.comm[..length].to_vec(),
        start: row.start,
        end: row.end,
        backing: backing(row.backing),
        features: Some(u64::from(row.features)),
        name: None,
    }
}

/// What to ask about a process.
struct DescriptionQuestion {
    process: ProcessKey,
    need: DescriptionNeed,
    now: ProcessMoment,
    turn: u64,
}

impl DescriptionQuestion {
    /// Adds what only `/proc` tells of the VMAs of one process: names, cgroup, page tables. Without
    /// that they still count. `None` if `/proc` shows no such process, or another one of its number.
    fn answer(
        &self,
        vmas: &mut [FoundVma],
        known: Option<DescribedProcess>,
    ) -> Result<Option<DescribedProcess>, UffdError> {
        let described = match known {
            Some(known) if self.need == DescriptionNeed::Nothing => Some(known),
            known => self.ask(vmas, known)?,
        };
        if let Some(described) = &described {
            for vma in vmas {
                vma.name = described.names.get(&vma.start).cloned();
            }
        }
        Ok(described)
    }

    fn ask(
        &self,
        vmas: &[FoundVma],
        known: Option<DescribedProcess>,
    ) -> Result<Option<DescribedProcess>, UffdError> {
        let pid = self.process.pid;
        let Some(thread) = unless_gone(uffd::thread_with_memory(pid))? else {
            return Ok(None);
        };
        let same = known.filter(|known| known.now.layout == self.now.layout);
        let since = same.as_ref().map_or(self.turn, |known| known.since);
        let names = match same {
            Some(known) if self.need == DescriptionNeed::Facts => known.names,
            _ => names(thread, vmas)?,
        };
        let facts = describe(thread)?;
        // Asked last: whatever was read before is of this process then.
        if unless_gone(key_of(pid))? != Some(self.process) {
            return Ok(None);
        }
        Ok(Some(DescribedProcess {
            now: self.now,
            turn: self.turn,
            since,
            names,
            facts,
        }))
    }
}

/// Whether `/proc` shows other numbers than those that the kernel told us.
fn is_of_another_namespace() -> bool {
    uffd::proc_shows_initial_pids() == Some(false)
}

/// Names of these VMAs by start, by a thread of their process that has memory.
fn names(thread: u32, vmas: &[FoundVma]) -> Result<HashMap<u64, Vec<u8>>, UffdError> {
    let Some(maps) = unless_gone(uffd::maps(thread))? else {
        return Ok(HashMap::new());
    };
    let is_wanted = |vma: &uffd::ProcVma| {
        let found = vmas.binary_search_by_key(&vma.start, |found| found.start);
        !vma.name.is_empty() && found.is_ok()
    };
    maps.filter(|vma| vma.as_ref().map_or(true, is_wanted))
        .map(|vma| vma.map(|vma| (vma.start, vma.name)))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tracker_ebpf::BackingCode;
    use uffd::Backing;

    fn row(mm: u64, tgid: u32, start: u64) -> IterVma {
        let mut comm = [0; 16];
        comm[..3].copy_from_slice(b"a\xffb");
        IterVma {
            vma: 0xffff_8880_0000_1000,
            mm,
            start,
            end: start + 4096,
            flags: 0x1000,
            start_boottime_ns: 5_000_000_001,
            tgid,
            features: 0x8000,
            backing: BackingCode::Shmem as u32,
            reserved: 0,
            comm,
        }
    }

    /// An iterator that tells of these.
    fn reading(rows: Vec<IterVma>) -> ReadIter {
        Box::new(move |each| {
            rows.iter().for_each(each);
            Ok(())
        })
    }

    #[test]
    fn a_vma_that_is_visited_twice_is_one() {
        let rows = [
            row(2, 20, 0x1000),
            row(1, 10, 0x2000),
            row(1, 10, 0x1000),
            row(1, 11, 0x1000),
        ];
        let mut found = FoundRows::default();
        rows.iter().for_each(|row| found.add(row));
        let (vmas, _) = found.finish();
        let places: Vec<_> = vmas
            .iter()
            .map(|vma| (vma.process.pid, vma.start))
            .collect();
        assert_eq!(places, [(10, 0x1000), (10, 0x2000), (20, 0x1000)]);
        assert_eq!(vmas[0].comm, b"a\xffb");
        assert_eq!(vmas[0].features, Some(0x8000));
        assert_eq!(vmas[0].backing, Backing::Shmem);
    }

    #[test]
    fn names_come_from_maps_and_a_gone_process_has_none() {
        let own = uffd::maps(std::process::id()).unwrap();
        let stack = own.map(Result::unwrap).find(|vma| vma.name == b"[stack]");
        let start = stack.unwrap().start;
        let vmas = [from_row(&row(1, 1, start))];
        let names = names(std::process::id(), &vmas).unwrap();
        assert_eq!(names, HashMap::from([(start, b"[stack]".to_vec())]));
        assert!(super::names(u32::MAX, &vmas).unwrap().is_empty());
    }

    #[test]
    fn a_stranger_of_the_same_number_is_not_described() {
        let stranger = row(1, std::process::id(), 0x1000);
        let mut route = IterRoute::new(reading(vec![stranger]));
        let watch = LookWatch::new(Default::default());
        let found = route.discover(Duration::ZERO, &watch).unwrap();
        assert_eq!(found.discovery.vmas.len(), 1, "it counts all the same");
        assert!(found.discovery.facts.is_empty(), "{found:?}");
        let own = key_of(std::process::id()).unwrap();
        let ourselves = IterVma {
            start_boottime_ns: own.start_boottime_ns,
            ..stranger
        };
        let mut route = IterRoute::new(reading(vec![ourselves]));
        let found = route.discover(Duration::ZERO, &watch).unwrap();
        assert!(found.discovery.facts.contains_key(&own), "{found:?}");
    }

    #[test]
    fn a_failing_iterator_is_told() {
        let mut route = IterRoute::new(Box::new(|_| {
            Err(ProbeError::Io(rustix::io::Errno::PERM.into()))
        }));
        let error = route
            .discover(Duration::ZERO, &LookWatch::new(Default::default()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("task_vma") && error.contains("not permitted"),
            "{error}"
        );
    }
}
