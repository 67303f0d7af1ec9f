//! One thread that reads the events of all processes that are watched.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::watched::WatchedProcess;
use crate::explain::model::{AuditSight, CauseSight, SightGap};
use crate::explain::places::PlaceInterner;
use crate::probes::events::{EventProbes, WatchId};
use crate::probes::hooks::HookSubject;
use crate::probes::{HookId, HookPlan, ProbeLevel};

/// A reader of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WatchReader {
    pub(super) watch: WatchId,
    /// No other reader has or had this number.
    number: u64,
}

/// What the reading thread shares with those who ask.
pub(super) struct HubShared {
    state: Mutex<HubState>,
    pub(super) seen: CauseSight,
    pub(super) calls_seen: AuditSight,
    ended: AtomicBool,
    /// Events of a process that are held for one round, at most; 128 bytes each.
    most: usize,
    reader: OnceLock<Thread>,
}

/// The events, and who reads them.
pub(super) struct HubState {
    pub(super) events: EventProbes,
    /// The readers of each watch, by their numbers.
    watches: HashMap<u32, Vec<(u64, WatchedProcess)>>,
    /// Readers that there have been.
    readers: u64,
    /// Events that did not fit into memory, of all processes.
    overflowed: u64,
    failed: Option<io::Error>,
    /// Hooks that never fired, of which [`CauseSight`] tells.
    never_fired: Vec<HookId>,
    /// Hooks that fired when they were attached, and do not now.
    silent: Vec<HookId>,
    /// When the hooks were last made to fire.
    proved: Instant,
    /// How often they are.
    self_test: Duration,
    /// Calls that programs missed, as of `looked_for_misses`.
    missed_calls: u64,
    looked_for_misses: Instant,
}

/// How often the hooks are made to fire while a process is watched.
pub(super) const SELF_TEST: Duration = Duration::from_secs(60);
/// How often the ring is emptied while a process is watched.
const PERIOD: Duration = Duration::from_millis(2);
/// How often the kernel is asked which calls it kept from programs.
const MISSES: Duration = Duration::from_millis(100);

impl HubShared {
    /// Begins to read.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(
        events: EventProbes,
        most: usize,
        self_test: Duration,
    ) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Self {
            seen: seen(&events),
            calls_seen: calls_seen(&events),
            state: Mutex::new(HubState {
                never_fired: events.silent().map(|plan| plan.hook.id).collect(),
                events,
                watches: HashMap::new(),
                readers: 0,
                overflowed: 0,
                failed: None,
                silent: Vec::new(),
                proved: Instant::now(),
                self_test,
                missed_calls: 0,
                looked_for_misses: Instant::now(),
            }),
            ended: AtomicBool::new(false),
            most,
            reader: OnceLock::new(),
        });
        let ours = Arc::clone(&shared);
        let reader = std::thread::Builder::new()
            .name("explain-events".to_owned())
            .spawn(move || ours.work())?;
        shared.reader.get_or_init(|| reader.thread().clone());
        Ok(shared)
    }

    /// Ends the reading thread.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.wake();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the hub ends.
    fn work(&self) {
        while !self.ended.load(Ordering::Relaxed) {
            let mut state = self.lock();
            state.read();
            let idle = state.watches.is_empty();
            if !idle {
                state.prove();
            }
            drop(state);
            if idle {
                std::thread::park();
            } else {
                std::thread::sleep(PERIOD);
            }
        }
    }

    /// Tells the reader that there is something to do. A wake that comes before it parks is not
    /// lost.
    fn wake(&self) {
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }

    /// Adds a reader to the watch of a process, but not to `old`, that of an address space which it
    /// has no more.
    ///
    /// # Errors
    /// If the process cannot be watched.
    pub(super) fn watch(
        &self,
        pid: u32,
        places: PlaceInterner,
        old: Option<WatchId>,
    ) -> io::Result<WatchReader> {
        let mut state = self.lock();
        let of_process = |readers: &[(u64, WatchedProcess)]| {
            readers.iter().any(|(_, watched)| watched.pid == pid)
        };
        let mut known = state.watches.iter();
        let known =
            known.find(|(id, readers)| old.is_none_or(|old| old.0 != **id) && of_process(readers));
        let known = known.map(|(id, _)| WatchId(*id));
        let watch = match known {
            Some(watch) => watch,
            None => state.events.watch(pid)?,
        };
        state.readers += 1;
        let number = state.readers;
        let watched = WatchedProcess::new(pid, places, self.most);
        state
            .watches
            .entry(watch.0)
            .or_default()
            .push((number, watched));
        drop(state);
        self.wake();
        Ok(WatchReader { watch, number })
    }

    /// Takes a reader away, and ends the watch with the last one.
    pub(super) fn unwatch(&self, reader: WatchReader) -> PlaceInterner {
        let mut state = self.lock();
        let Some(readers) = state.watches.get_mut(&reader.watch.0) else {
            return PlaceInterner::default();
        };
        let mut left = readers.extract_if(.., |(number, _)| *number == reader.number);
        let places = left.next().map(|(_, watched)| watched.places);
        drop(left);
        if readers.is_empty() {
            state.watches.remove(&reader.watch.0);
            state.events.unwatch(reader.watch);
        }
        places.unwrap_or_default()
    }
}

impl HubState {
    /// What has been read for a reader.
    pub(super) fn reader(&mut self, reader: WatchReader) -> Option<&mut WatchedProcess> {
        let readers = self.watches.get_mut(&reader.watch.0)?;
        let mut readers = readers.iter_mut();
        readers.find_map(|(number, watched)| (*number == reader.number).then_some(watched))
    }

    /// The hooks that fired when they were attached, and did not in the last self-test.
    pub(super) fn silent(&self) -> &[HookId] {
        &self.silent
    }

    /// Has the hooks prove at times that they fire, and tells of those that do not any more.
    fn prove(&mut self) {
        if self.proved.elapsed() < self.self_test {
            return;
        }
        self.events.prove();
        self.proved = Instant::now();
        let mut silent = Vec::new();
        let told = |plan: &&HookPlan| self.never_fired.contains(&plan.hook.id);
        for plan in self.events.silent().filter(|plan| !told(plan)) {
            silent.push(plan.hook.id);
            if !self.silent.contains(&plan.hook.id) {
                let (hook, without) = (plan.hook.name(), plan.hook.without);
                tracing::warn!(hook, without, "{}", plan.verdict);
            }
        }
        for hook in self.silent.iter().filter(|hook| !silent.contains(hook)) {
            tracing::info!(hook = hook.name(), "it fires again");
        }
        self.silent = silent;
    }

    /// Why events could not be read, told once.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// Events that were lost until now, of all processes.
    pub(super) fn lost(&mut self) -> u64 {
        let mut lost = self.events.dropped();
        // There, the tracepoint of all page faults is missed by those of our own looks at stacks.
        if self.events.level() != ProbeLevel::Observe {
            lost += self.events.missed();
        }
        if !self.silent.is_empty() {
            // Nobody knows how many, but none is to be taken for told.
            self.overflowed += 1;
        }
        lost + self.overflowed
    }

    /// Calls on a watched address space that were lost until now, as far as that is known.
    pub(super) fn lost_calls(&self, watch: WatchId) -> u64 {
        self.missed_calls + self.events.dropped_calls(watch)
    }

    /// Learns at times which calls the kernel kept from programs.
    fn look_for_misses(&mut self) {
        let mut readers = self.watches.values().flatten();
        let listens = readers.any(|(_, watched)| watched.bell.is_some());
        if listens && self.looked_for_misses.elapsed() >= MISSES {
            self.missed_calls = self.events.missed_calls();
            self.looked_for_misses = Instant::now();
        }
    }

    /// Empties the ring.
    pub(super) fn read(&mut self) {
        self.look_for_misses();
        let Self {
            events,
            watches,
            overflowed,
            failed,
            missed_calls,
            ..
        } = self;
        // Calls first: of a call that is read all events are there that came before it.
        let calls = events.drain_calls(|call| {
            let readers = watches.get_mut(&call.watch).into_iter().flatten();
            for (_, watched) in readers {
                watched.add_call(call);
            }
        });
        let read = events.drain(|head, user, kernel| {
            let readers = watches.get_mut(&head.watch).into_iter().flatten();
            for (_, watched) in readers {
                *overflowed += u64::from(!watched.add(head, user, kernel));
            }
        });
        if let Err(error) = calls.and(read.map(drop)) {
            failed.get_or_insert(error.into());
        }
        for (watch, readers) in watches {
            let lost = *missed_calls + events.dropped_calls(WatchId(*watch));
            for (_, watched) in readers {
                if let Err(error) = watched.ring(lost) {
                    failed.get_or_insert(error);
                }
            }
        }
    }
}

/// The hooks of some subjects that are not attached.
fn missing(
    events: &EventProbes,
    of: impl Fn(HookSubject) -> bool,
) -> impl Iterator<Item = &HookPlan> {
    let plan = events.plan().iter();
    plan.filter(move |plan| plan.is_missing() && of(plan.hook.subject))
}

/// Whether calls of trackers can be seen.
fn calls_seen(events: &EventProbes) -> AuditSight {
    if events.level() == ProbeLevel::Observe {
        return AuditSight::Gaps(vec![events.reason().to_owned()]);
    }
    let missing = missing(events, |subject| subject == HookSubject::Calls);
    let gaps = missing.map(|plan| format!("{}: {}", plan.hook.without, plan.verdict));
    let gaps: Vec<_> = gaps.collect();
    if gaps.is_empty() {
        AuditSight::Complete
    } else {
        AuditSight::Gaps(gaps)
    }
}

/// How much of what can be a cause is seen.
fn seen(events: &EventProbes) -> CauseSight {
    if events.level() == ProbeLevel::Observe {
        let reason = events.reason().to_owned();
        return CauseSight::new(vec![SightGap::OnlyTracepoints { reason }]);
    }
    let missing = missing(events, |subject| subject != HookSubject::Calls);
    let gaps = missing.map(|plan| SightGap::NoHook {
        hook: plan.hook.name().to_owned(),
        reason: plan.verdict.to_string(),
    });
    CauseSight::new(gaps.collect())
}
