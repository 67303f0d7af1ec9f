//! File descriptors and threads: is there room for all that the agent needs, before it attaches
//! anything? An agent that runs out of them later serves nobody, or sees only a part.

use super::http::{HttpLimits, open_at_most};
use crate::probes::{EVENT_HOOKS, HOOKS};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{Builder, scope};
use uffd::{Capability, Privilege};

/// What takes descriptors and threads, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomNeed {
    /// Connections of clients at once, those that are being closed among them.
    pub clients: usize,
    /// Processes that are tracked at once.
    pub tracked: usize,
    /// Whether processes are explained.
    pub explains: bool,
    /// Whether BPF programs may be loaded.
    pub hooks: bool,
}

/// Why the agent cannot have what it needs.
#[derive(Debug, thiserror::Error)]
pub enum NoRoom {
    /// Too few file descriptors.
    #[error(
        "{needed} file descriptors may be needed, and {hard} are allowed: raise the limit \
         (LimitNOFILE= of the unit, ulimit -Hn, --ulimit nofile of a container){}",
        .fewer.map_or("", |advice| advice)
    )]
    Files {
        /// How many may be needed.
        needed: u64,
        /// The hard limit.
        hard: u64,
        /// What would need fewer.
        fewer: Option<&'static str>,
    },
    /// The limit cannot be raised.
    #[error("cannot raise the limit of open files from {soft} to {hard}: {error}")]
    Raise {
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
        /// What the kernel says.
        error: io::Error,
    },
    /// Too few threads.
    #[error(
        "{needed} threads are needed, and no more than {started} can be started: {error}; raise \
         what is lowest of RLIMIT_NPROC ({limit}; LimitNPROC= of the unit, ulimit -u), pids.max of \
         the control group (TasksMax=, --pids-limit of a container) and kernel.threads-max, or what \
         limits memory for their stacks (ulimit -v, ulimit -d)"
    )]
    Threads {
        /// How many are needed.
        needed: usize,
        /// How many came up.
        started: usize,
        /// `RLIMIT_NPROC`.
        limit: String,
        /// What the kernel says.
        error: io::Error,
    },
}

/// The kernel's own BTF.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Descriptors of a hook: its program, its link, and the event of a kprobe.
const FILES_OF_HOOK: usize = 3;

/// Descriptors of the maps and BTF of one BPF object.
const FILES_OF_OBJECT: usize = 24;

/// Descriptors of a tracked process: pidfd, userfaultfds, pagemap, memory, what is read for a
/// moment, and the sockets of the helper while it attaches.
const FILES_OF_TRACKED: usize = 16;

/// What the agent has open for itself: stdin to stderr, the listeners, the runtime, and files of
/// `/proc` that its threads read.
const FILES_OF_AGENT: usize = 32;

/// Threads of the agent itself: those of the http server are among them, and those of a self-test of
/// the hooks with its child.
const THREADS_OF_AGENT: usize = 16;

/// Threads of a tracked process: its own, and one that answers its faults.
const THREADS_OF_TRACKED: usize = 2;

impl NoRoom {
    /// Whether trying again cannot help.
    pub(crate) const fn lasts(&self) -> bool {
        !matches!(self, Self::Threads { .. })
    }
}

impl RoomNeed {
    /// What an agent needs that tracks `tracked` processes, if any.
    pub fn of(limits: HttpLimits, tracked: usize, explains: bool) -> Self {
        let status = fs::read("/proc/self/status").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/user").ok();
        let namespace = namespace.as_deref().and_then(Path::to_str);
        let privileged = Privilege::parse(&status, namespace).grants(Capability::Bpf);
        Self {
            clients: open_at_most(limits.connections),
            tracked,
            explains,
            // Without BTF none is attached, whatever the privilege.
            hooks: privileged && Path::new(VMLINUX).exists(),
        }
    }

    /// The most descriptors that are open at once.
    const fn files(self) -> usize {
        let mut files = FILES_OF_AGENT + self.clients + self.tracked * FILES_OF_TRACKED;
        if self.hooks {
            files += HOOKS.len() * FILES_OF_HOOK + FILES_OF_OBJECT;
        }
        if self.hooks && self.explains {
            files += EVENT_HOOKS.len() * FILES_OF_HOOK + FILES_OF_OBJECT;
        }
        files
    }

    const fn threads(self) -> usize {
        THREADS_OF_AGENT + self.tracked * THREADS_OF_TRACKED
    }
}

/// Raises the soft limit of open files to the hard one, and proves that there is room.
///
/// # Errors
/// [`NoRoom`] with what to raise.
pub fn claim(need: RoomNeed) -> Result<(), NoRoom> {
    let (needed, limit) = (need.files() as u64, getrlimit(Resource::Nofile));
    enough_files(needed, limit, need)?;
    raise(limit)?;
    start_threads(need.threads())
}

/// Whether the hard limit suffices. What is inherited beside stdin, stdout and stderr comes on top.
fn enough_files(needed: u64, limit: Rlimit, need: RoomNeed) -> Result<(), NoRoom> {
    let inherited = fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(4));
    let needed = needed + inherited as u64;
    match limit.maximum {
        Some(hard) if hard < needed => Err(NoRoom::Files {
            needed,
            hard,
            fewer: need
                .hooks
                .then_some(", or run it without CAP_BPF, at level observe, which needs fewer"),
        }),
        _ => Ok(()),
    }
}

fn raise(limit: Rlimit) -> Result<(), NoRoom> {
    if limit.current == limit.maximum {
        return Ok(());
    }
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| NoRoom::Raise {
        soft: limit.current.unwrap_or(u64::MAX),
        hard: limit.maximum.unwrap_or(u64::MAX),
        error: error.into(),
    })
}

/// Starts so many threads at once, and lets them end: no limit has to be known to be kept.
fn start_threads(needed: usize) -> Result<(), NoRoom> {
    let gate = (Mutex::new(false), Condvar::new());
    let wait = || {
        let open = gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(gate.1.wait_while(open, |open| !*open));
    };
    scope(|scope| {
        let all = (0..needed).try_for_each(|started| {
            let thread = Builder::new().spawn_scoped(scope, wait);
            thread.map(drop).map_err(|error| (started, error))
        });
        *gate.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        gate.1.notify_all();
        all
    })
    .map_err(|(started, error)| NoRoom::Threads {
        needed,
        started,
        limit: getrlimit(Resource::Nproc)
            .current
            .map_or("none".to_owned(), |limit| limit.to_string()),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBSERVE: RoomNeed = RoomNeed {
        clients: 64,
        tracked: 0,
        explains: false,
        hooks: false,
    };

    fn limit(hard: Option<u64>) -> Rlimit {
        Rlimit {
            current: Some(8),
            maximum: hard,
        }
    }

    #[test]
    fn the_hard_limit_decides_and_the_refusal_says_what_to_raise() {
        let needed = OBSERVE.files() as u64;
        for enough in [None, Some(1 << 20)] {
            assert!(enough_files(needed, limit(enough), OBSERVE).is_ok());
        }
        for few in [8, 40, 64] {
            let refused = enough_files(needed, limit(Some(few)), OBSERVE);
            let text = refused.map_err(|error| error.to_string());
            let text = text.err().unwrap_or_default();
            assert!(
                text.contains(&format!("{few} are allowed: raise")),
                "{text}"
            );
            assert!(!text.contains("CAP_BPF"), "{text}");
        }
    }

    #[test]
    fn hooks_and_tracked_processes_take_room() {
        let hooks = RoomNeed {
            hooks: true,
            ..OBSERVE
        };
        let explains = RoomNeed {
            explains: true,
            tracked: 8,
            ..hooks
        };
        assert!(OBSERVE.files() < hooks.files() && hooks.files() < explains.files());
        assert!(hooks.threads() < explains.threads());
    }

    #[test]
    fn threads_are_started_and_end() {
        assert!(start_threads(20).is_ok());
    }
}
