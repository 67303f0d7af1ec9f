//! Why a process gave no userfaultfd.
#![forbid(unsafe_code)]

use std::io;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uffd::{OtherPidNamespace, ProcessGone};

use super::InjectNote;

/// Why a process gave no userfaultfd. Whatever it is, the target goes on as if nothing had been
/// tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum InjectError {
    /// Another machine than x86-64.
    #[error(
        "cannot make another process open a userfaultfd on this machine: only x86-64 is supported; \
         programs that open their own can still be observed (tracker agent)"
    )]
    Architecture,
    /// No such process, or not the one that was meant.
    #[error(transparent)]
    Gone(#[from] ProcessGone),
    /// Which process is meant cannot be told.
    #[error(transparent)]
    OtherNamespace(#[from] OtherPidNamespace),
    /// A thread's id was given.
    #[error("{tid} is a thread of process {pid}: give {pid}")]
    Thread {
        /// The id given.
        tid: u32,
        /// Its process.
        pid: u32,
    },
    /// A process cannot stop itself.
    #[error("process {pid} is this tracker itself, which cannot stop itself; run another one")]
    Ourselves {
        /// This process.
        pid: u32,
    },
    /// It has no user memory at all.
    #[error("process {pid} ({comm}) is a kernel thread: it has no memory of its own to track")]
    KernelThread {
        /// The one asked for.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// It has ended, and its parent has not waited for it.
    #[error("process {pid} ({comm}) has ended and waits for its parent to notice (a zombie)")]
    Zombie {
        /// The one asked for.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// The first thread has ended and others live on: `/proc/PID` shows no memory then.
    #[error(
        "the first thread of process {pid} ({comm}) has ended while others live on; the kernel \
         then shows nothing of its memory under that number, so it cannot be tracked"
    )]
    NoLeader {
        /// The one asked for.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// A process has one tracer at a time.
    #[error(
        "process {pid} is traced by process {tracer} ({comm}) already, and a process can have one \
         tracer only: let that one (a debugger, strace, another tracker) detach first"
    )]
    Traced {
        /// The one asked for.
        pid: u32,
        /// Its tracer; 0 if it is in another pid namespace.
        tracer: u32,
        /// The tracer's name.
        comm: String,
    },
    /// Registers and system calls of 64-bit programs are all that is known here.
    #[error(
        "process {pid} runs a 32-bit program ({what}); only 64-bit ones can be made to open a \
         userfaultfd"
    )]
    Bits32 {
        /// The one asked for.
        pid: u32,
        /// How it was seen.
        what: String,
    },
    /// The kernel does not let us trace it.
    #[error("not allowed to trace process {pid}: {why}")]
    Privilege {
        /// The one asked for.
        pid: u32,
        /// What stands against it, and what would help.
        why: String,
    },
    /// A filter could kill it for userfaultfd(2).
    #[error(
        "process {pid} has a seccomp filter, which may kill it for calling userfaultfd(2), and the \
         kernel does not suspend the filter ({why}): run tracker as root of the machine \
         (CAP_SYS_ADMIN) and outside of any seccomp filter, on a kernel with \
         CONFIG_CHECKPOINT_RESTORE"
    )]
    Seccomp {
        /// The one asked for.
        pid: u32,
        /// The kernel's answer.
        why: String,
    },
    /// A thread did not stop in time.
    #[error(
        "thread {tid} of process {pid} did not stop within {waited_ms} ms: {}; try again later{}",
        why_busy(*.state, .place.as_deref()),
        meanwhile(.notes)
    )]
    Busy {
        /// The one asked for.
        pid: u32,
        /// The thread.
        tid: u32,
        /// Its state: `R`, `S`, `D`, ...
        state: char,
        /// Where in the kernel it sleeps.
        place: Option<String>,
        /// How long.
        waited_ms: u64,
        /// What became of calls of those that did stop.
        notes: Vec<InjectNote>,
    },
    /// A thread that was to make a call for us got no processor for it.
    #[error(
        "thread {tid} of process {pid} was given no processor for {waited_ms} ms, as at the CPU \
         limit of its control group or on a busy machine, and was let go; try again later"
    )]
    Starved {
        /// The one asked for.
        pid: u32,
        /// The thread.
        tid: u32,
        /// How long.
        waited_ms: u64,
    },
    /// It does not get to run: the freezer of its control group holds it.
    #[error(
        "process {pid} does not get to run: its control group is frozen (cgroup.freeze, as by \
         `docker pause`), or somebody stops and continues it all the time; let it run first"
    )]
    Frozen {
        /// The one asked for.
        pid: u32,
    },
    /// Every thread handles system calls itself, or runs 32-bit code.
    #[error(
        "no thread of process {pid} can make the call: each runs 32-bit code at the moment or \
         dispatches its system calls to itself (as Wine does)"
    )]
    NoThread {
        /// The one asked for.
        pid: u32,
    },
    /// Nothing to make a call with.
    #[error(
        "found no system call instruction in the code of process {pid}, and none is ever written"
    )]
    NoInstruction {
        /// The one asked for.
        pid: u32,
    },
    /// The target's own call failed.
    #[error("process {pid} cannot open a userfaultfd: {why}")]
    Refused {
        /// The one asked for.
        pid: u32,
        /// The kernel's reason and what would help.
        why: String,
    },
    /// A step failed that should not.
    #[error("cannot {what} of process {pid}: {}", errno(*.error))]
    Step {
        /// The process.
        pid: u32,
        /// What, such as `read the registers`.
        what: String,
        /// The kernel's errno.
        error: i32,
    },
    /// The helper process did not do its work.
    #[error("the helper process that stops process {pid} {why}")]
    Helper {
        /// The one asked for.
        pid: u32,
        /// What became of it.
        why: String,
    },
}

impl InjectError {
    /// Whether this machine or this privilege cannot do it: exit code 3.
    #[must_use]
    pub fn is_inability(&self) -> bool {
        match self {
            Self::Architecture
            | Self::OtherNamespace(_)
            | Self::NoLeader { .. }
            | Self::KernelThread { .. }
            | Self::Bits32 { .. }
            | Self::Privilege { .. }
            | Self::Seccomp { .. }
            | Self::NoThread { .. }
            | Self::NoInstruction { .. }
            | Self::Refused { .. } => true,
            Self::Gone(_)
            | Self::Thread { .. }
            | Self::Ourselves { .. }
            | Self::Zombie { .. }
            | Self::Traced { .. }
            | Self::Busy { .. }
            | Self::Starved { .. }
            | Self::Frozen { .. }
            | Self::Step { .. }
            | Self::Helper { .. } => false,
        }
    }

    /// What the attempt did that the target's owner might notice. Of threads that had not stopped by
    /// then nothing is known.
    #[must_use]
    pub fn notes(&self) -> &[InjectNote] {
        match self {
            Self::Busy { notes, .. } => notes,
            _ => &[],
        }
    }

    /// Whether the process is gone.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Gone(_))
    }

    /// Whether it may be possible later, by nothing but the passing of time: a debugger leaves, a
    /// thread gets to run, a group is thawed.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Traced { .. } | Self::Busy { .. } | Self::Starved { .. } | Self::Frozen { .. }
        )
    }

    /// A step that failed; ESRCH means that the target ended.
    pub(super) fn step(pid: u32, what: impl Into<String>, error: Errno) -> Self {
        match error {
            Errno::SRCH | Errno::CHILD => ProcessGone { pid }.into(),
            error => Self::Step {
                pid,
                what: what.into(),
                error: error.raw_os_error(),
            },
        }
    }
}

fn errno(error: i32) -> io::Error {
    io::Error::from_raw_os_error(error)
}

/// What happened until it was given up.
fn meanwhile(notes: &[InjectNote]) -> String {
    let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
    if notes.is_empty() {
        return String::new();
    }
    format!(" (meanwhile {})", notes.join(", "))
}

/// Why a thread does not stop.
fn why_busy(state: char, place: Option<&str>) -> String {
    let place = place.map_or_else(String::new, |place| format!(" in {place}"));
    match state {
        'D' => format!(
            "it sleeps in the kernel (state D{place}), as for a slow disk or a vfork(2)ed child"
        ),
        'R' => "it waits for a processor (state R), as on a busy machine or at the CPU limit of \
                its control group"
            .to_owned(),
        state => format!("it is in state {state}{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::InterruptedCall;
    use super::*;

    #[test]
    fn who_does_not_stop_is_told_with_the_reason() {
        let busy = |state| InjectError::Busy {
            pid: 7,
            tid: 8,
            state,
            place: Some("do_vfork".to_owned()),
            waited_ms: 9,
            notes: vec![InjectNote::Interrupted {
                threads: 2,
                call: InterruptedCall::CutShort {
                    name: "write".to_owned(),
                },
            }],
        };
        let text = busy('D').to_string();
        assert!(text.contains("(state D in do_vfork)"), "{text}");
        assert!(
            text.contains("(meanwhile in 2 threads write came back short"),
            "{text}"
        );
        let text = busy('R').to_string();
        assert!(text.contains("waits for a processor"), "{text}");
        assert!(!text.contains("sleeps"), "{text}");
    }
}
