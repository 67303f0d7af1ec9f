//! The BPF route: `iter/task_vma` walks all VMAs in the kernel and reports those of uffd-wp.
//!
//! It sees every VMA, whoever holds the userfaultfd, walks no page table, and needs no `/proc`.

use super::{
    DiscoveryError, DiscoveryOutcome, DiscoveryRefusal, DiscoveryRoute, LookFailure, LookWatch,
    LookedAt, describe, key_of, rounded,
};
use crate::model::{FoundVma, ProcessFacts, ProcessKey};
use crate::probes::ProbeError;
use crate::probes::counters::backing;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tracker_ebpf::IterVma;
use uffd::{UffdError, unless_gone};

/// Reads the iterator once: all uffd-wp VMAs of the machine.
pub type ReadIter = Box<dyn FnMut() -> Result<Vec<IterVma>, ProbeError> + Send>;

/// The BPF route.
pub struct IterRoute(ReadIter);

impl IterRoute {
    /// A route over a loaded iterator.
    pub fn new(read: ReadIter) -> Self {
        Self(read)
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
        let rows = watch.look(LookedAt::Iterator, &mut self.0)?;
        let mut outcome = DiscoveryOutcome {
            sees_all: true,
            ..DiscoveryOutcome::default()
        };
        outcome.discovery.at = at;
        outcome.discovery.vmas = from_rows(&rows.map_err(DiscoveryError::Iterator)?);
        let DiscoveryOutcome {
            discovery,
            refusals,
            ..
        } = &mut outcome;
        for vmas in discovery.vmas.chunk_by_mut(|a, b| a.process == b.process) {
            let Some(process) = vmas.first().map(|vma| vma.process) else {
                continue;
            };
            match watch.look(LookedAt::Process(process.pid), || complete(process, vmas)) {
                Ok(Ok(Some(facts))) => _ = discovery.facts.insert(process, facts),
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
fn from_rows(rows: &[IterVma]) -> Vec<FoundVma> {
    let mut seen = HashSet::new();
    let once = rows.iter().filter(|row| seen.insert((row.mm, row.start)));
    let mut vmas: Vec<_> = once.map(from_row).collect();
    vmas.sort_by_key(|vma| (vma.process, vma.start));
    vmas
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

/// Whether `/proc` shows other numbers than those that the kernel told us.
fn is_of_another_namespace() -> bool {
    uffd::proc_shows_initial_pids() == Some(false)
}

/// Adds what only `/proc` tells of the VMAs of one process: names, cgroup, page tables. Without
/// that they still count. `None` if `/proc` shows no such process, or another one of its number.
fn complete(process: ProcessKey, vmas: &mut [FoundVma]) -> Result<Option<ProcessFacts>, UffdError> {
    let Some(thread) = unless_gone(uffd::thread_with_memory(process.pid))? else {
        return Ok(None);
    };
    let (mut names, facts) = (names(thread)?, describe(thread)?);
    // Asked last: whatever was read before is of this process then.
    if unless_gone(key_of(process.pid))? != Some(process) {
        return Ok(None);
    }
    for vma in vmas {
        vma.name = names.remove(&vma.start);
    }
    Ok(Some(facts))
}

/// Names of the VMAs of a process by start, by a thread of it that has memory.
fn names(thread: u32) -> Result<HashMap<u64, Vec<u8>>, UffdError> {
    let Some(maps) = unless_gone(uffd::maps(thread))? else {
        return Ok(HashMap::new());
    };
    maps.filter(|vma| vma.as_ref().map_or(true, |vma| !vma.name.is_empty()))
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

    #[test]
    fn a_vma_that_is_visited_twice_is_one() {
        let rows = [
            row(2, 20, 0x1000),
            row(1, 10, 0x2000),
            row(1, 10, 0x1000),
            row(1, 11, 0x1000),
        ];
        let vmas = from_rows(&rows);
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
        let names = names(std::process::id()).unwrap();
        assert!(names.values().any(|name| name == b"[stack]"));
        assert!(super::names(u32::MAX).unwrap().is_empty());
    }

    #[test]
    fn a_stranger_of_the_same_number_is_not_described() {
        let stranger = row(1, std::process::id(), 0x1000);
        let mut route = IterRoute::new(Box::new(move || Ok(vec![stranger])));
        let watch = LookWatch::new(Default::default());
        let found = route.discover(Duration::ZERO, &watch).unwrap();
        assert_eq!(found.discovery.vmas.len(), 1, "it counts all the same");
        assert!(found.discovery.facts.is_empty(), "{found:?}");
        let own = key_of(std::process::id()).unwrap();
        let ourselves = IterVma {
            start_boottime_ns: own.start_boottime_ns,
            ..stranger
        };
        let mut route = IterRoute::new(Box::new(move || Ok(vec![ourselves])));
        let found = route.discover(Duration::ZERO, &watch).unwrap();
        assert!(found.discovery.facts.contains_key(&own), "{found:?}");
    }

    #[test]
    fn a_failing_iterator_is_told() {
        let mut route = IterRoute::new(Box::new(|| {
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
