//! The kernel's events of one process, read while it runs: the ring must not fill up between two rounds.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use tracker_ebpf::EventHead;

use super::model::{CauseSight, PageEvent};
use super::places::{Places, Stack};
use super::translate::translate;
use crate::probes::ProbeLevel;
use crate::probes::events::{EventProbes, WatchId};

/// All events that are read: one reader for as many processes as are explained.
pub struct EventHub(Arc<Inner>);

/// Events of a process.
pub struct Source {
    hub: Arc<Inner>,
    pid: u32,
    watch: WatchId,
}

struct Inner {
    shared: Mutex<Shared>,
    seen: CauseSight,
    ended: AtomicBool,
    /// Events of a process that are held for one round, at most; 128 bytes each.
    most: usize,
    reader: OnceLock<Thread>,
}

struct Shared {
    events: EventProbes,
    watches: HashMap<u32, Taken>,
    /// Events that did not fit into memory, of all processes.
    overflowed: u64,
    failed: Option<io::Error>,
}

/// What has been read of a process.
struct Taken {
    pid: u32,
    pending: Vec<PageEvent>,
    places: Places,
    names: HashMap<(u32, [u8; tracker_ebpf::COMM_LEN]), Arc<str>>,
    most: usize,
}

/// Names of threads that are remembered of a process: one may make threads for as long as it lives.
const NAMES: usize = 4096;
/// How often the ring is emptied while a process is watched.
const PERIOD: Duration = Duration::from_millis(2);

impl EventHub {
    /// Begins to read. `most`: events of a process that are held for one round; what comes beyond is lost, and counted.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(events: EventProbes, most: usize) -> io::Result<Self> {
        let inner = Arc::new(Inner {
            seen: seen(&events),
            shared: Mutex::new(Shared {
                events,
                watches: HashMap::new(),
                overflowed: 0,
                failed: None,
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

    /// Begins to read the events of a process.
    ///
    /// # Errors
    /// If the process cannot be watched.
    pub fn watch(&self, pid: u32) -> io::Result<Source> {
        Ok(Source {
            watch: self.0.watch(pid, Places::default())?,
            hub: Arc::clone(&self.0),
            pid,
        })
    }
}

impl Drop for EventHub {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
        self.0.wake();
    }
}

impl Source {
    /// Events until now, and those lost since the programs were attached.
    ///
    /// # Errors
    /// If the ring cannot be read.
    pub fn take(&self) -> io::Result<(Vec<PageEvent>, u64)> {
        let mut shared = self.hub.lock();
        shared.read();
        if let Some(error) = shared.failed.take() {
            return Err(error);
        }
        let mut lost = shared.events.dropped();
        // There, what misses is the tracepoint of all page faults, by those of our own looks at stacks.
        if shared.events.level() != ProbeLevel::Observe {
            lost += shared.events.missed();
        }
        lost += shared.overflowed;
        let taken = shared.watches.get_mut(&self.watch.0);
        let events = taken.map(|taken| std::mem::take(&mut taken.pending));
        Ok((events.unwrap_or_default(), lost))
    }

    /// The process has executed another program.
    ///
    /// # Errors
    /// If the process cannot be watched any more.
    pub fn again(&mut self) -> io::Result<()> {
        let mut places = self.hub.unwatch(self.watch);
        // The same addresses are other code.
        places.forget();
        self.watch = self.hub.watch(self.pid, places)?;
        Ok(())
    }

    /// The places of its events.
    pub fn places<T>(&self, with: impl FnOnce(&mut Places) -> T) -> Option<T> {
        let mut shared = self.hub.lock();
        let taken = shared.watches.get_mut(&self.watch.0)?;
        Some(with(&mut taken.places))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.hub.unwatch(self.watch);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the hub ends.
    fn work(&self) {
        while !self.ended.load(Ordering::Relaxed) {
            let mut shared = self.lock();
            shared.read();
            let idle = shared.watches.is_empty();
            drop(shared);
            if idle {
                std::thread::park();
            } else {
                std::thread::sleep(PERIOD);
            }
        }
    }

    /// There is something to do: a wake that comes before the reader parks is not lost.
    fn wake(&self) {
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }

    fn watch(&self, pid: u32, places: Places) -> io::Result<WatchId> {
        let mut shared = self.lock();
        let watch = shared.events.watch(pid)?;
        let taken = Taken {
            pid,
            pending: Vec::new(),
            places,
            names: HashMap::new(),
            most: self.most,
        };
        shared.watches.insert(watch.0, taken);
        drop(shared);
        self.wake();
        Ok(watch)
    }

    fn unwatch(&self, watch: WatchId) -> Places {
        let mut shared = self.lock();
        shared.events.unwatch(watch);
        let taken = shared.watches.remove(&watch.0);
        taken.map(|taken| taken.places).unwrap_or_default()
    }
}

impl Shared {
    /// Empties the ring.
    fn read(&mut self) {
        let Self {
            events,
            watches,
            overflowed,
            failed,
        } = self;
        let read = events.drain(|head, user, kernel| {
            if let Some(taken) = watches.get_mut(&head.watch) {
                *overflowed += u64::from(!taken.add(head, user, kernel));
            }
        });
        if let Err(error) = read {
            failed.get_or_insert(error.into());
        }
    }
}

impl Taken {
    /// Adds an event; false if there is no room for it.
    fn add(&mut self, head: &EventHead, user: &[u64], kernel: &[u64]) -> bool {
        let Some(translated) = translate(head, self.pid) else {
            return true;
        };
        if self.pending.len() >= self.most {
            return false;
        }
        if self.names.len() >= NAMES {
            self.names.clear();
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
        self.pending.push(PageEvent {
            time: head.time,
            range: translated.start..translated.start.saturating_add(translated.length),
            address: translated.address,
            kind: translated.kind,
            meaning: translated.meaning,
            tgid: head.tgid,
            tid: head.tid,
            comm: Arc::clone(name),
            place,
        });
        true
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
fn seen(events: &EventProbes) -> CauseSight {
    if events.level() == ProbeLevel::Observe {
        // One reason for all.
        let not = format!(
            "only stores, system calls that write to memory, and MADV_DONTNEED, MADV_FREE, mlock and mremap are seen, \
             through tracepoints; KSM, reclaim, huge pages and other processes are not: {}",
            events.reason()
        );
        return CauseSight {
            complete: false,
            not: vec![not],
        };
    }
    let missing = events.plan().iter().filter(|plan| plan.is_missing());
    let not: Vec<_> = missing
        .map(|plan| format!("{}: {}", plan.hook.name(), plan.verdict))
        .collect();
    CauseSight {
        complete: not.is_empty(),
        not,
    }
}
