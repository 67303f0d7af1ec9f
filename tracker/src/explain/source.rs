//! The kernel's events of one process, read while it runs: the ring must not fill up between two rounds.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracker_ebpf::{EventHead, EventKind};

use super::model::{Event, Seen};
use super::places::{Places, Stack};
use super::translate::translate;
use crate::probes::events::{Events, WatchId};

/// Events of a process.
pub struct Source {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    pid: u32,
    watch: Option<WatchId>,
    seen: Seen,
}

struct Shared {
    events: Events,
    taken: Taken,
    failed: Option<io::Error>,
}

/// What has been read.
struct Taken {
    pid: u32,
    pending: Vec<Event>,
    places: Places,
    names: HashMap<(u32, [u8; tracker_ebpf::COMM_LEN]), Arc<str>>,
    /// Did not fit into memory.
    overflowed: u64,
}

/// Events that are held for one round, at most: 1 GiB.
const MOST: usize = 8 << 20;
/// How often the ring is emptied.
const PERIOD: Duration = Duration::from_millis(2);

impl Source {
    /// Begins to read the events of a process.
    ///
    /// # Errors
    /// If the process cannot be watched, or no thread can be started.
    pub fn begin(mut events: Events, pid: u32) -> io::Result<Self> {
        let watch = Some(events.watch(pid)?);
        let seen = seen(&events);
        let shared = Arc::new(Mutex::new(Shared {
            events,
            taken: Taken {
                pid,
                pending: Vec::new(),
                places: Places::default(),
                names: HashMap::new(),
                overflowed: 0,
            },
            failed: None,
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (ours, stopped) = (Arc::clone(&shared), Arc::clone(&stop));
        let reader = std::thread::Builder::new()
            .name("explain-events".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(PERIOD);
                    lock(&ours).read();
                }
            })?;
        Ok(Self {
            shared,
            stop,
            reader: Some(reader),
            pid,
            watch,
            seen,
        })
    }

    /// What can be seen.
    pub const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Events until now, and those lost since the source began.
    pub fn take(&self) -> io::Result<(Vec<Event>, u64)> {
        let mut shared = lock(&self.shared);
        shared.read();
        if let Some(error) = shared.failed.take() {
            return Err(error);
        }
        let lost = shared.events.dropped() + shared.events.missed() + shared.taken.overflowed;
        Ok((std::mem::take(&mut shared.taken.pending), lost))
    }

    /// The process has executed another program.
    pub fn again(&mut self) -> io::Result<()> {
        let mut shared = lock(&self.shared);
        if let Some(watch) = self.watch.take() {
            shared.events.unwatch(watch);
        }
        shared.read();
        shared.taken.pending.clear();
        shared.taken.places.forget();
        self.watch = Some(shared.events.watch(self.pid)?);
        Ok(())
    }

    /// The places of its events.
    pub fn places<T>(&self, with: impl FnOnce(&mut Places) -> T) -> T {
        with(&mut lock(&self.shared).taken.places)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // It has nothing to tell.
            let _ = reader.join();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Empties the ring.
    fn read(&mut self) {
        let Self {
            events,
            taken,
            failed,
        } = self;
        if let Err(error) = events.drain(|head, user, kernel| taken.add(head, user, kernel)) {
            failed.get_or_insert(error);
        }
    }
}

impl Taken {
    fn add(&mut self, head: &EventHead, user: &[u64], kernel: &[u64]) {
        let Some(translated) = translate(head, self.pid) else {
            return;
        };
        if self.pending.len() >= MOST {
            self.overflowed += 1;
            return;
        }
        let stack = Stack {
            user: with_instruction(head.instruction, user),
            kernel: kernel.into(),
            syscall: head.syscall,
        };
        let place =
            (!stack.user.is_empty() || !stack.kernel.is_empty()).then(|| self.places.intern(stack));
        let name = self.names.entry((head.tid, head.comm)).or_insert_with(|| {
            let length = head.comm.iter().position(|byte| *byte == 0);
            let bytes = &head.comm[..length.unwrap_or(head.comm.len())];
            String::from_utf8_lossy(bytes).into()
        });
        self.pending.push(Event {
            time: head.time,
            range: translated.start..translated.start.saturating_add(translated.length),
            address: translated.address,
            // Translated, so it is known.
            kind: EventKind::ALL[head.kind as usize],
            meaning: translated.meaning,
            tgid: head.tgid,
            tid: head.tid,
            comm: Arc::clone(name),
            place,
        });
    }
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

/// How much of what can be a cause is seen.
fn seen(events: &Events) -> Seen {
    let absent = events
        .plan()
        .iter()
        .filter(|hook| hook.mechanism().is_none());
    let absent = absent.filter(|hook| !matches!(hook.verdict, crate::probes::Verdict::NotNeeded));
    let not: Vec<_> = absent
        .map(|hook| format!("{}: {}", hook.hook, hook.reason))
        .collect();
    Seen {
        complete: not.is_empty(),
        not,
    }
}
