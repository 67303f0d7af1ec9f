//! The smaps route: works on any kernel and without BPF.

use super::look::{MachineClues, ProcessClues, SearchNeed, look};
use super::{
    DiscoveryError, DiscoveryOutcome, DiscoveryRefusal, DiscoveryRoute, LookFailure, LookWatch,
    LookedAt, describe, key,
};
use crate::model::{FoundVma, ProcessKey};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;
use uffd::{
    PageCategories, PageRegion, Pagemap, ScanQuery, ShmemDevices, UffdError, UffdFeatures,
    unless_gone,
};

/// The smaps route, with what it remembers of processes.
#[derive(Debug, Default)]
pub struct SmapsRoute {
    /// When each process was last searched, and whether it had uffd-wp VMAs.
    searched: HashMap<ProcessKey, (Duration, bool)>,
    /// A process that is passed over.
    passed_over: Option<u32>,
}

impl SmapsRoute {
    /// Passes over this process, whose memory is for self-tests only.
    #[must_use]
    pub fn of_others() -> Self {
        Self {
            passed_over: uffd::own_pid_in_proc(),
            ..Self::default()
        }
    }
}

/// One process and the features of the userfaultfds it holds; `None` if it cannot be asked.
struct SearchedProcess {
    key: ProcessKey,
    /// A thread of it that has memory.
    thread: u32,
    holds: Option<Vec<UffdFeatures>>,
}

impl DiscoveryRoute for SmapsRoute {
    fn route(&self) -> &'static str {
        "smaps"
    }

    fn discover(
        &mut self,
        at: Duration,
        watch: &LookWatch,
    ) -> Result<DiscoveryOutcome, DiscoveryError> {
        let mut found = DiscoveryOutcome::default();
        found.discovery.at = at;
        let mut processes = processes(&mut found.refusals, watch)?;
        processes.retain(|one| Some(one.key.pid) != self.passed_over);
        let own = uffd::own_pid_in_proc();
        let others = processes.iter().filter(|one| Some(one.key.pid) != own);
        found.processes = others.filter(|one| one.holds.is_some()).count();
        let machine = machine(&processes);
        let mut searched = HashMap::new();
        for process in &processes {
            let pid = process.key.pid;
            let look = || self.visit(process, machine, at, &mut found);
            let state = match watch.look(LookedAt::Process(pid), look) {
                Ok(state) => state,
                Err(LookFailure::GivenUp) => return Err(LookFailure::GivenUp.into()),
                Err(stuck) => {
                    found.discovery.unread.push(process.key);
                    found.refusals.push(DiscoveryRefusal::stuck(pid, stuck));
                    self.searched.get(&process.key).copied()
                }
            };
            searched.extend(state.map(|state| (process.key, state)));
        }
        self.keep_refused(&mut found, &mut searched);
        // What is gone is forgotten.
        self.searched = searched;
        Ok(found)
    }
}

impl SmapsRoute {
    /// Of a process that cannot be looked at any more, what it had is not known to be gone.
    fn keep_refused(
        &self,
        found: &mut DiscoveryOutcome,
        searched: &mut HashMap<ProcessKey, (Duration, bool)>,
    ) {
        let refused: HashSet<u32> = found.refusals.iter().map(|refusal| refusal.pid).collect();
        for (key, state) in &self.searched {
            if refused.contains(&key.pid) && !searched.contains_key(key) {
                found.discovery.unread.push(*key);
                searched.insert(*key, *state);
            }
        }
    }

    /// Searches a process if it must be searched; returns what to remember of it.
    fn visit(
        &self,
        process: &SearchedProcess,
        machine: MachineClues,
        at: Duration,
        found: &mut DiscoveryOutcome,
    ) -> Option<(Duration, bool)> {
        let last = self.searched.get(&process.key).copied();
        if !machine.may_have_any() && !last.is_some_and(|(_, had_some)| had_some) {
            return last;
        }
        let had_some = last.is_some_and(|(_, had_some)| had_some);
        let holds_one = process.holds.as_ref().is_some_and(|fds| !fds.is_empty());
        let known = had_some || holds_one;
        let clues = ProcessClues {
            had_some,
            holds_one,
            has_async: if known {
                None
            } else {
                has_async_vma(process.thread)
            },
            clean_for: last.map(|(when, _)| at.saturating_sub(when)),
        };
        match look(machine, clues) {
            SearchNeed::Now => {}
            SearchNeed::Nothing => return last,
            SearchNeed::Later => {
                found.discovery.unread.push(process.key);
                return last;
            }
        }
        let before = found.discovery.vmas.len();
        if let Err(error) = search(process, found) {
            // Half a process would look as if the other half were gone.
            found.discovery.vmas.truncate(before);
            found.discovery.unread.push(process.key);
            let refusal = DiscoveryRefusal::of(process.key.pid, &error);
            found.refusals.push(refusal);
            return last;
        }
        Some((at, found.discovery.vmas.len() > before))
    }
}

/// The first process of a pid namespace, which is always there.
const FIRST: u32 = 1;

fn processes(
    refusals: &mut Vec<DiscoveryRefusal>,
    watch: &LookWatch,
) -> Result<Vec<SearchedProcess>, DiscoveryError> {
    let cannot = DiscoveryError::ListProcesses;
    let mut processes = Vec::new();
    // Where it is hidden, others are: they are not even listed.
    if let Err(error @ UffdError::Hidden { .. }) = uffd::stat(FIRST) {
        refusals.push(DiscoveryRefusal::of(FIRST, &error));
    }
    if uffd::proc_shows_initial_pids() == Some(false) {
        refusals.push(DiscoveryRefusal::others_of_host());
    }
    let mut listed = false;
    for entry in fs::read_dir("/proc").map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        listed = true;
        match watch.look(LookedAt::Process(pid), || holder(pid, refusals)) {
            Ok(Ok(holder)) => processes.extend(holder),
            Ok(Err(error)) if error.is_gone() => {}
            Ok(Err(error)) => refusals.push(DiscoveryRefusal::of(pid, &error)),
            Err(LookFailure::GivenUp) => return Err(LookFailure::GivenUp.into()),
            Err(stuck) => refusals.push(DiscoveryRefusal::stuck(pid, stuck)),
        }
    }
    if listed {
        Ok(processes)
    } else {
        // Not even this process: an empty directory.
        Err(cannot(Errno::NOENT.into()))
    }
}

/// What to look at of a process; nothing of a thread of the kernel: it has no memory, and everybody
/// may look at it, so it tells nothing of what can be seen.
fn holder(
    pid: u32,
    refusals: &mut Vec<DiscoveryRefusal>,
) -> Result<Option<SearchedProcess>, UffdError> {
    let stat = uffd::stat(pid)?;
    if stat.is_of_kernel {
        return Ok(None);
    }
    let thread = if stat.has_memory() {
        pid
    } else {
        uffd::thread_with_memory(pid)?
    };
    Ok(Some(SearchedProcess {
        key: key(pid, stat.start_time),
        thread,
        holds: holds(pid, thread, refusals),
    }))
}

fn holds(pid: u32, thread: u32, refusals: &mut Vec<DiscoveryRefusal>) -> Option<Vec<UffdFeatures>> {
    match unless_gone(uffd::userfaultfds(thread)) {
        Ok(fds) => Some(
            fds.unwrap_or_default()
                .into_iter()
                .map(|held| held.features)
                .collect(),
        ),
        Err(error) => {
            refusals.push(DiscoveryRefusal::of(pid, &error));
            None
        }
    }
}

fn machine(processes: &[SearchedProcess]) -> MachineClues {
    let held = || processes.iter().filter_map(|p| p.holds.as_ref()).flatten();
    MachineClues {
        any: held().next().is_some(),
        any_sync: held().any(|features| !features.is_async()),
        unknown: processes.iter().any(|process| process.holds.is_none()),
    }
}

/// User addresses without 5-level page tables; a program must ask for what is mapped above, which
/// the other clues find.
const ADDRESSES: std::ops::Range<u64> = 0..0x7fff_ffff_f000;

/// Whether a process has an async VMA; `None` if that cannot be told here.
fn has_async_vma(pid: u32) -> Option<bool> {
    let pagemap = Pagemap::open(pid).ok()?;
    let query = ScanQuery {
        all_of: PageCategories::WPALLOWED,
        returned: PageCategories::WPALLOWED,
        ..ScanQuery::default()
    };
    let mut regions = [PageRegion::default()];
    let scanned = unless_gone(pagemap.scan_once(&ADDRESSES, &query, &mut regions)).ok()?;
    Some(scanned.is_some_and(|scanned| scanned.regions > 0))
}

/// Adds the uffd-wp VMAs of a process.
fn search(process: &SearchedProcess, found: &mut DiscoveryOutcome) -> Result<(), UffdError> {
    let (pid, thread) = (process.key.pid, process.thread);
    let opened = uffd::comm(pid).and_then(|comm| Ok((comm, uffd::smaps(thread)?)));
    let Some((comm, smaps)) = unless_gone(opened)? else {
        return Ok(());
    };
    let features = only_features(process.holds.as_deref());
    let before = found.discovery.vmas.len();
    let mut shmem = None;
    for vma in smaps {
        let vma = vma?;
        if !vma.flags.uffd_wp() {
            continue;
        }
        let shmem = match &shmem {
            Some(devices) => devices,
            None => shmem.insert(unless_gone(ShmemDevices::of(thread))?.unwrap_or_default()),
        };
        found.discovery.vmas.push(FoundVma {
            process: process.key,
            comm: comm.clone(),
            start: vma.start,
            end: vma.end,
            backing: vma.backing(shmem),
            features,
            name: Some(vma.name).filter(|name| !name.is_empty()),
        });
    }
    if found.discovery.vmas.len() > before {
        found.discovery.facts.insert(process.key, describe(thread)?);
    }
    Ok(())
}

/// The features of a process's userfaultfds, if all have the same: smaps does not say which of them
/// a VMA belongs to.
fn only_features(held: Option<&[UffdFeatures]>) -> Option<u64> {
    let (first, rest) = held?.split_first()?;
    rest.iter()
        .all(|features| features == first)
        .then_some(first.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::process::Command;
    use uffd::Backing;
    use uffd::{PAGE_SIZE, RegisterMode, ScratchMapping, Userfaultfd};

    fn own(found: &DiscoveryOutcome) -> Vec<&FoundVma> {
        let pid = std::process::id();
        found
            .discovery
            .vmas
            .iter()
            .filter(|vma| vma.process.pid == pid)
            .collect()
    }

    #[test]
    fn finds_our_own_vma_and_its_end() {
        let (mut route, watch) = (SmapsRoute::default(), LookWatch::new(Default::default()));
        let scratch = ScratchMapping::anonymous(4 * PAGE_SIZE).unwrap();
        let fd = Userfaultfd::open_user_mode_only().unwrap();
        fd.enable(UffdFeatures::default()).unwrap();
        fd.register(&scratch.range(), RegisterMode::WP).unwrap();

        let found = route.discover(Duration::ZERO, &watch).unwrap();
        let vmas = own(&found);
        let vma = vmas
            .iter()
            .find(|vma| vma.start == scratch.range().start)
            .unwrap();
        assert_eq!((vma.end, vma.backing), (scratch.range().end, Backing::Anon));
        let facts = &found.discovery.facts[&vma.process];
        assert!(facts.page_table_bytes.unwrap() > 0);

        drop(fd);
        let again = route.discover(Duration::from_secs(1), &watch).unwrap();
        assert!(
            own(&again)
                .iter()
                .all(|vma| vma.start != scratch.range().start)
        );
    }

    /// A process that holds no userfaultfd, and may have VMAs of another one's.
    #[test]
    fn a_process_that_is_passed_over_is_told_from_one_that_has_nothing() {
        let mut sleeper = Command::new("sleep").arg("600").spawn().unwrap();
        let process = SearchedProcess {
            key: super::super::key_of(sleeper.id()).unwrap(),
            thread: sleeper.id(),
            holds: Some(Vec::new()),
        };
        let sync_elsewhere = MachineClues {
            any: true,
            any_sync: true,
            unknown: false,
        };
        let mut route = SmapsRoute::default();
        let mut unread_at = |seconds, machine| {
            let mut found = DiscoveryOutcome::default();
            let at = Duration::from_secs(seconds);
            let state = route.visit(&process, machine, at, &mut found);
            route
                .searched
                .extend(state.map(|state| (process.key, state)));
            assert!(found.discovery.vmas.is_empty());
            found.discovery.unread
        };
        assert_eq!(unread_at(0, sync_elsewhere), [], "it was searched");
        assert_eq!(unread_at(1, sync_elsewhere), [process.key]);
        assert_eq!(unread_at(61, sync_elsewhere), [], "it was searched again");
        let nobody = MachineClues {
            any: false,
            any_sync: false,
            unknown: false,
        };
        assert_eq!(unread_at(62, nobody), [], "there can be nothing");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn features_are_told_where_they_cannot_be_another_userfaultfds() {
        let (sync, wp_async) = (UffdFeatures::default(), UffdFeatures::WP_ASYNC);
        assert_eq!(only_features(Some(&[wp_async, wp_async])), Some(wp_async.0));
        assert_eq!(only_features(Some(&[sync, wp_async])), None);
        assert_eq!(only_features(Some(&[])), None);
        assert_eq!(only_features(None), None);
    }
}
