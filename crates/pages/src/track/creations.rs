//! Userfaultfds that tracked processes create, told when it happens: one watch of the machine for
//! all sessions.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;
use rustix::pipe::PipeFlags;
use rustix::time::ClockId;
use uffd::{CreatedUffd, CreationSight, UffdCreations, UffdError};

/// What one process creates.
#[derive(Debug)]
pub(super) struct OwnCreations {
    watched: Arc<WatchedCreations>,
    watch: Arc<CreationWatch>,
}

/// The watch of the machine. It ends with the last session that has it.
#[derive(Debug)]
struct CreationWatch {
    sight: CreationSight,
    processes: WatchedProcesses,
    /// The thread, and what it ends with when that is closed.
    thread: Option<(OwnedFd, JoinHandle<()>)>,
}

type WatchedProcesses = Arc<Mutex<Vec<Weak<WatchedCreations>>>>;

static WATCH: Mutex<Weak<CreationWatch>> = Mutex::new(Weak::new());

/// What the thread and a session share.
#[derive(Debug)]
struct WatchedCreations {
    pid: u32,
    /// What was created before is not the session's concern: its own was.
    since: Duration,
    /// The process does not create one here: whoever takes one from outside does, as we do.
    vdso: Range<u64>,
    seen: Mutex<Vec<Instant>>,
    /// Readable while something is seen.
    news: OwnedFd,
}

impl OwnCreations {
    /// Sees what the process creates from now on.
    pub(super) fn watch(pid: u32) -> Result<Self, UffdError> {
        let watch = CreationWatch::shared()?;
        let news = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let news = news.map_err(|e| UffdError::system("cannot create", "an eventfd", e))?;
        let watched = Arc::new(WatchedCreations {
            pid,
            since: now(),
            vdso: vdso(pid)?,
            seen: Mutex::default(),
            news,
        });
        lock(&watch.processes).push(Arc::downgrade(&watched));
        Ok(Self { watched, watch })
    }

    /// How the kernel tells.
    pub(super) fn sight(&self) -> CreationSight {
        self.watch.sight
    }

    /// Readable until what was seen is taken.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.watched.news.as_fd()
    }

    /// When the process created some, since the last call.
    pub(super) fn take(&self) -> Vec<Instant> {
        // It is only empty if nothing was seen.
        let _ = rustix::io::read(&self.watched.news, &mut [0; 8]);
        std::mem::take(&mut lock(&self.watched.seen))
    }
}

impl CreationWatch {
    fn shared() -> Result<Arc<Self>, UffdError> {
        let mut shared = lock(&WATCH);
        if let Some(watch) = shared.upgrade() {
            return Ok(watch);
        }
        let watch = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&watch);
        Ok(watch)
    }

    fn start() -> Result<Self, UffdError> {
        let mut creations = UffdCreations::watch()?;
        let on = |e| UffdError::system("cannot create", "a pipe", e);
        let (end, open) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(on)?;
        let (sight, processes) = (creations.sight(), WatchedProcesses::default());
        let told = Arc::clone(&processes);
        let work = move || {
            // If waiting fails, nothing more is seen but what is held when a round looks.
            while matches!(creations.wait(end.as_fd()), Ok(true)) {
                creations.read(|created| tell(&told, &created));
            }
        };
        let thread = thread::Builder::new().name("userfaultfds".to_owned());
        let thread = thread
            .spawn(work)
            .map_err(|e| UffdError::system("cannot start", "a thread", e))?;
        let thread = Some((open, thread));
        Ok(Self {
            sight,
            processes,
            thread,
        })
    }
}

impl Drop for CreationWatch {
    fn drop(&mut self) {
        if let Some((open, thread)) = self.thread.take() {
            drop(open);
            // It panics nowhere, and holds nothing that others need.
            let _ = thread.join();
        }
    }
}

fn tell(processes: &WatchedProcesses, created: &CreatedUffd) {
    let mut processes = lock(processes);
    processes.retain(|process| process.strong_count() != 0);
    let watching = processes.iter().filter_map(Weak::upgrade);
    for process in watching.filter(|process| process.is_own(created)) {
        lock(&process.seen).push(Instant::now());
        // If the counter is full, it is readable.
        let _ = rustix::io::write(&process.news, &1_u64.to_ne_bytes());
    }
}

impl WatchedCreations {
    fn is_own(&self, created: &CreatedUffd) -> bool {
        created.pid == self.pid
            && created.at > self.since
            && !self.vdso.contains(&created.instruction)
    }
}

/// Where the vDSO is; nowhere if there is none.
fn vdso(pid: u32) -> Result<Range<u64>, UffdError> {
    for vma in uffd::maps(pid)? {
        let vma = vma?;
        if vma.name == b"[vdso]" {
            return Ok(vma.start..vma.end);
        }
    }
    Ok(0..0)
}

/// The clock of [`CreatedUffd::at`].
fn now() -> Duration {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_what_the_process_itself_creates_later_is_its_own() {
        let watched = WatchedCreations {
            pid: 7,
            since: Duration::from_secs(5),
            vdso: 0x7000..0x8000,
            seen: Mutex::default(),
            news: rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
        };
        let own = CreatedUffd {
            pid: 7,
            at: Duration::from_secs(6),
            instruction: 0x9000,
        };
        assert!(watched.is_own(&own));
        assert!(!watched.is_own(&CreatedUffd { pid: 8, ..own }));
        let at = Duration::from_secs(5);
        assert!(!watched.is_own(&CreatedUffd { at, ..own }));
        let instruction = 0x7123;
        assert!(!watched.is_own(&CreatedUffd { instruction, ..own }));
    }
}
