//! The kernel's events of one process, read while it runs: the ring must not fill up between two
//! rounds.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tracker_ebpf::{COMM_LEN, CallRecord, EventHead};
use uffd::ProcVma;

use super::audit::decode;
use super::bell::ArmingBell;
use super::evidence::EventFeed;
use super::model::{
    AuditSight, CallerThread, CauseSight, PlaceId, SightGap, TrackerCall, WatchedEvent,
};
use super::places::{PlaceInterner, RawStack};
use super::translate::translate;
use crate::probes::events::{EventProbes, WatchId};
use crate::probes::hooks::HookSubject;
use crate::probes::{HookId, HookPlan, ProbeLevel};

/// All events that are read: one reader for as many processes as are explained.
pub struct EventHub(Arc<HubShared>);

/// The events of one process, for one reader: there may be several, and each has all of them.
pub(super) struct EventSource {
    hub: Arc<HubShared>,
    pid: u32,
    reader: WatchReader,
    /// Tells calls, and rings when pages are armed.
    bell: Option<Arc<OwnedFd>>,
    /// Calls that were missed before it listened.
    missed_before: u64,
}

/// A reader of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WatchReader {
    watch: WatchId,
    /// No other reader has or had this number.
    number: u64,
}

struct HubShared {
    state: Mutex<HubState>,
    seen: CauseSight,
    calls_seen: AuditSight,
    ended: AtomicBool,
    /// Events of a process that are held for one round, at most; 128 bytes each.
    most: usize,
    reader: OnceLock<Thread>,
}

struct HubState {
    events: EventProbes,
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
}

/// What has been read of a process.
struct WatchedProcess {
    pid: u32,
    pending: Vec<WatchedEvent>,
    /// `None`: the reader does not want any.
    calls: Option<Vec<TrackerCall>>,
    bell: Option<ArmingBell>,
    /// Calls that did not fit into memory.
    calls_lost: u64,
    places: PlaceInterner,
    names: HashMap<(u32, [u8; COMM_LEN]), Arc<str>>,
    /// Where it has code, as of the last round: nothing else is a place to return to.
    code: Vec<Range<u64>>,
    most: usize,
}

/// Names of threads that are remembered of a process: it may make threads for as long as it lives.
const NAMES: usize = 4096;
/// How often the hooks are made to fire while a process is watched.
const SELF_TEST: Duration = Duration::from_secs(60);
/// How often the ring is emptied while a process is watched.
const PERIOD: Duration = Duration::from_millis(2);

impl EventHub {
    /// Begins to read. `most`: how many events of a process are held for one round; what comes
    /// beyond that is lost, and counted.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(events: EventProbes, most: usize) -> io::Result<Self> {
        let inner = Arc::new(HubShared {
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
            }),
            ended: AtomicBool::new(false),
            most,
            reader: OnceLock::new(),
        });
        let ours = Arc::clone(&inner);
        let reader = std::thread::Builder::new()
            .name("explain-events".to_owned())
            .spawn(move || ours.work())?;
        inner.reader.get_or_init(|| reader.thread().clone());
        Ok(Self(inner))
    }

    /// What can be seen.
    #[must_use]
    pub fn seen(&self) -> &CauseSight {
        &self.0.seen
    }

    /// Whether calls of trackers can be seen.
    #[must_use]
    pub fn calls_seen(&self) -> &AuditSight {
        &self.0.calls_seen
    }

    /// Begins to read the events of a process.
    ///
    /// # Errors
    /// If the process cannot be watched.
    pub(super) fn watch(&self, pid: u32) -> io::Result<EventSource> {
        Ok(EventSource {
            reader: self.0.watch(pid, PlaceInterner::default(), None)?,
            hub: Arc::clone(&self.0),
            pid,
            bell: None,
            missed_before: 0,
        })
    }
}

impl Drop for EventHub {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
        self.0.wake();
    }
}

impl EventSource {
    /// The places of its events.
    pub(super) fn places<T>(&self, with: impl FnOnce(&mut PlaceInterner) -> T) -> Option<T> {
        let mut state = self.hub.lock();
        let watched = state.reader(self.reader)?;
        Some(with(&mut watched.places))
    }

    /// From now on tells the calls of its tracker, too.
    ///
    /// # Errors
    /// If there can be no eventfd(2).
    pub(super) fn listen(&mut self) -> io::Result<()> {
        let bell = match &self.bell {
            Some(bell) => Arc::clone(bell),
            None => {
                self.missed_before = self.hub.lock().events.missed_calls();
                ArmingBell::descriptor()?
            }
        };
        self.bell = Some(Arc::clone(&bell));
        if let Some(watched) = self.hub.lock().reader(self.reader) {
            watched.calls.get_or_insert_default();
            watched.bell = Some(ArmingBell::new(bell));
        }
        Ok(())
    }

    /// Readable when calls have armed pages since they were taken.
    pub(super) fn arming(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(AsFd::as_fd)
    }

    /// It need not be told of what has been armed until now.
    pub(super) fn hush(&self) {
        self.with_bell(ArmingBell::hush);
    }

    /// It does not know all pages that were armed.
    pub(super) fn ring_again(&self) {
        self.with_bell(ArmingBell::want);
    }

    /// It is not told of armed pages for so long.
    pub(super) fn rest(&self, pause: Duration) {
        self.with_bell(|bell| bell.rest(pause));
    }

    fn with_bell(&self, with: impl FnOnce(&mut ArmingBell)) {
        let mut state = self.hub.lock();
        let watched = state.reader(self.reader);
        if let Some(bell) = watched.and_then(|watched| watched.bell.as_mut()) {
            with(bell);
        }
    }

    /// Calls of its tracker since the last time, and how many were lost since it is watched.
    pub(super) fn take_calls(&self) -> (Vec<TrackerCall>, u64) {
        let mut state = self.hub.lock();
        let missed = state.events.missed_calls();
        let missed = missed.saturating_sub(self.missed_before);
        let lost = state.events.dropped_calls(self.reader.watch) + missed;
        let Some(watched) = state.reader(self.reader) else {
            return (Vec::new(), lost);
        };
        if let Some(bell) = &mut watched.bell {
            bell.hush();
        }
        let calls = watched.calls.as_mut().map(std::mem::take);
        (calls.unwrap_or_default(), lost + watched.calls_lost)
    }
}

impl EventFeed for EventSource {
    fn take(&self) -> io::Result<(Vec<WatchedEvent>, u64)> {
        let code = code_of(self.pid);
        let mut state = self.hub.lock();
        state.read();
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        let mut lost = state.events.dropped();
        // There, the tracepoint of all page faults is missed by those of our own looks at stacks.
        if state.events.level() != ProbeLevel::Observe {
            lost += state.events.missed();
        }
        if !state.silent.is_empty() {
            // Nobody knows how many, but none is to be taken for told.
            state.overflowed += 1;
        }
        lost += state.overflowed;
        let watched = state.reader(self.reader);
        let events = watched.map(|watched| {
            watched.code = code;
            std::mem::take(&mut watched.pending)
        });
        Ok((events.unwrap_or_default(), lost))
    }

    fn begin_again(&mut self) -> io::Result<()> {
        let mut places = self.hub.unwatch(self.reader);
        // The same addresses are other code.
        places.forget();
        let old = self.reader.watch;
        self.reader = self.hub.watch(self.pid, places, Some(old))?;
        match self.bell {
            Some(_) => self.listen(),
            None => Ok(()),
        }
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.hub.unwatch(self.reader);
    }
}

impl HubShared {
    fn lock(&self) -> MutexGuard<'_, HubState> {
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
    fn watch(
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
        let watched = WatchedProcess {
            pid,
            pending: Vec::new(),
            calls: None,
            bell: None,
            calls_lost: 0,
            places,
            names: HashMap::new(),
            code: code_of(pid),
            most: self.most,
        };
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
    fn unwatch(&self, reader: WatchReader) -> PlaceInterner {
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
    fn reader(&mut self, reader: WatchReader) -> Option<&mut WatchedProcess> {
        let readers = self.watches.get_mut(&reader.watch.0)?;
        let mut readers = readers.iter_mut();
        readers.find_map(|(number, watched)| (*number == reader.number).then_some(watched))
    }

    /// Has the hooks prove at times that they fire, and tells of those that do not any more.
    fn prove(&mut self) {
        if self.proved.elapsed() < SELF_TEST {
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

    /// Empties the ring.
    fn read(&mut self) {
        let Self {
            events,
            watches,
            overflowed,
            failed,
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
        let readers = watches.values_mut().flatten();
        for (_, watched) in readers {
            if let Some(Err(error)) = watched.bell.as_mut().map(ArmingBell::ring) {
                failed.get_or_insert(error);
            }
        }
    }
}

impl WatchedProcess {
    /// Adds an event; false if there is no room for it.
    fn add(&mut self, head: &EventHead, user: &[u64], kernel: &[u64]) -> bool {
        let Some(translated) = translate(head, self.pid) else {
            return true;
        };
        if self.pending.len() >= self.most {
            return false;
        }
        let stack = RawStack {
            user: with_instruction(head.instruction, user),
            top: self.top(head.top),
            kernel: kernel.into(),
            syscall: head.syscall,
        };
        let place = self.place(stack);
        let comm = self.name(head.tid, head.comm);
        self.pending.push(WatchedEvent {
            time: head.time,
            range: translated.start..translated.start.saturating_add(translated.length),
            address: translated.address,
            kind: translated.kind,
            meaning: translated.meaning,
            tgid: head.tgid,
            tid: head.tid,
            comm,
            place,
        });
        true
    }

    /// Adds a call of a tracker. That of another process is in code that is not ours to name: its
    /// stack is not kept.
    fn add_call(&mut self, record: &CallRecord) {
        match &self.calls {
            None => return,
            Some(calls) if calls.len() >= self.most => {
                self.calls_lost += 1;
                return;
            }
            Some(_) => (),
        }
        let own = record.tgid == self.pid;
        let place = own.then(|| {
            let frames = record.user.get(..record.user_frames as usize);
            RawStack {
                user: with_instruction(record.instruction, frames.unwrap_or_default()),
                top: self.top(record.top),
                kernel: Box::default(),
                syscall: record.syscall,
            }
        });
        let place = place.and_then(|stack| self.place(stack));
        let caller = CallerThread {
            tgid: record.tgid,
            tid: record.tid,
            comm: self.name(record.tid, record.comm),
        };
        let call = decode(record, caller, place);
        let is_news = |call: &TrackerCall| call.armed().or(call.registers()).is_some();
        let is_news = call.as_ref().is_some_and(is_news);
        if let Some(bell) = self.bell.as_mut().filter(|_| is_news) {
            bell.want();
        }
        if let Some(calls) = &mut self.calls {
            calls.extend(call);
        }
    }

    /// What is on top of a stack, if it is code.
    fn top(&self, top: u64) -> u64 {
        let is_code = self.code.iter().any(|code| code.contains(&top));
        if is_code { top } else { 0 }
    }

    fn place(&mut self, stack: RawStack) -> Option<PlaceId> {
        let is_empty = stack.user.is_empty() && stack.kernel.is_empty();
        (!is_empty).then(|| self.places.intern(stack))
    }

    /// The name of a thread.
    fn name(&mut self, tid: u32, comm: [u8; COMM_LEN]) -> Arc<str> {
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        let name = self.names.entry((tid, comm)).or_insert_with(|| {
            let length = comm.iter().position(|byte| *byte == 0);
            String::from_utf8_lossy(&comm[..length.unwrap_or(comm.len())]).into()
        });
        Arc::clone(name)
    }
}

/// Where a process has code, by address; nothing of one that has ended.
fn code_of(pid: u32) -> Vec<Range<u64>> {
    let Ok(maps) = uffd::maps(pid) else {
        return Vec::new();
    };
    let executable = |vma: &ProcVma| vma.permissions.get(2) == Some(&b'x');
    let vmas = maps.map_while(Result::ok).filter(executable);
    vmas.map(|vma| vma.start..vma.end).collect()
}

/// A stack that begins where the thread is, even where the kernel could not walk it.
fn with_instruction(instruction: u64, stack: &[u64]) -> Box<[u64]> {
    match stack.first() {
        None if instruction != 0 => [instruction].into(),
        Some(first) if *first != instruction && instruction != 0 => std::iter::once(instruction)
            .chain(stack.iter().copied())
            .collect(),
        _ => stack.into(),
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
