//! What can fail in this crate: what was done, on what, why it failed, and what to do about it.

use std::{fmt, io};

use rustix::io::Errno;

use crate::presence::{ProcessPresence, presence};

/// The process asked about is gone: it has ended, or executes another program, and the address
/// space that was opened is no more.
///
/// Whoever watches processes that live their own lives expects this: see [`unless_gone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[error("process {pid} does not exist (any more)")]
pub struct ProcessGone {
    /// Its pid, which may be another process's by now.
    pub pid: u32,
}

/// The number of a process means another one in `/proc` than in system calls: whoever goes by it
/// looks at one and stops the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[error(
    "/proc shows the numbers of another pid namespace than ours{}, so the process that {pid} is in \
     /proc would not be the one that is stopped: run tracker with the host's pids (hostPID: true, \
     --pid=host, nsenter), or with a /proc of its own pid namespace",
    told_here(*.pid, *.in_proc)
)]
pub struct OtherPidNamespace {
    /// The number that was given.
    pub pid: u32,
    /// What the process of this number in our namespace is called in `/proc`, if there is one, and
    /// `/proc` shows it.
    pub in_proc: Option<u32>,
}

fn told_here(pid: u32, in_proc: Option<u32>) -> String {
    in_proc.map_or_else(String::new, |there| {
        format!(" (what is {pid} here is {there} there)")
    })
}

/// Why this crate has no answer.
#[derive(Debug, thiserror::Error)]
pub enum UffdError {
    /// The process asked about is gone.
    #[error(transparent)]
    Gone(#[from] ProcessGone),
    /// The process asked about lives, and `/proc` does not show it.
    #[error(
        "process {pid} lives, but /proc does not show it: it is mounted with hidepid= and \
         CAP_SYS_PTRACE is missing (mount it without hidepid=, or with gid= of a group of ours)"
    )]
    Hidden {
        /// Its pid.
        pid: u32,
    },
    /// Which process is meant cannot be told.
    #[error(transparent)]
    OtherNamespace(#[from] OtherPidNamespace),
    /// The main thread of the process asked about has ended, and others live on.
    #[error(
        "the main thread of process {pid} has ended while others live: /proc shows its memory by \
         another thread only"
    )]
    Leaderless {
        /// Its pid.
        pid: u32,
    },
    /// A system call failed.
    #[error("{what} {on}: {source}{}", advice(.source))]
    System {
        /// The operation, such as `cannot read`.
        what: &'static str,
        /// What it was done on: a file, a range, a process.
        on: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A file of `/proc` holds something that this crate does not understand.
    #[error(
        "cannot understand {on}: unexpected {text:?}; please report it with the kernel version"
    )]
    Format {
        /// The file.
        on: String,
        /// The text that did not fit: at most 200 bytes, invalid UTF-8 replaced.
        text: String,
    },
    /// `PAGEMAP_SCAN` returned without having walked a single page.
    #[error("PAGEMAP_SCAN of {on} makes no progress at {at:#x}; align the range to its huge pages")]
    Stuck {
        /// The pagemap.
        on: String,
        /// The address at which the walk stays.
        at: u64,
    },
}

impl UffdError {
    /// A failed system call, told as `what` `on`: such as "cannot read" "/proc/1/maps".
    pub fn system(what: &'static str, on: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            what,
            on: on.into(),
            source: source.into(),
        }
    }

    /// Text that does not parse, shortened.
    pub(crate) fn format(on: impl Into<String>, text: &[u8]) -> Self {
        let shown = &text[..text.len().min(200)];
        Self::Format {
            on: on.into(),
            text: String::from_utf8_lossy(shown).into_owned(),
        }
    }

    /// What a failed call on a file or the memory of process `pid` means: the process is gone, or
    /// the call was refused.
    pub(crate) fn of_process<E: Into<io::Error>>(
        pid: u32,
        what: &'static str,
        on: impl fmt::Display,
    ) -> impl FnOnce(E) -> Self {
        move |source| {
            let source = source.into();
            if is_gone(&source) {
                return Self::of_nothing(pid);
            }
            Self::system(what, on.to_string(), source)
        }
    }

    /// What it means that `/proc` says "no such process": that it is gone is only one answer.
    pub(crate) fn of_nothing(pid: u32) -> Self {
        match presence(pid) {
            ProcessPresence::Gone => ProcessGone { pid }.into(),
            ProcessPresence::Hidden => Self::Hidden { pid },
            ProcessPresence::Leaderless => Self::Leaderless { pid },
        }
    }

    /// Whether `/proc` shows nothing of the process asked about: it is gone, or its main thread has
    /// ended while others live, or are about to end, too.
    #[must_use]
    pub const fn is_unseen(&self) -> bool {
        matches!(self, Self::Gone(_) | Self::Leaderless { .. })
    }

    /// Whether the process asked about is gone.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Gone(_))
    }

    /// The kernel's reason, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { source, .. } => Errno::from_io_error(source),
            _ => None,
        }
    }
}

/// What to do about an errno; empty where the errno says it all.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            " (run as root, or with CAP_SYS_PTRACE; for userfaultfd see \
             /proc/sys/vm/unprivileged_userfaultfd)"
        }
        io::ErrorKind::Unsupported => " (this kernel was built without it)",
        _ => "",
    }
}

/// `None` if the process is gone, for callers to whom that is an answer like any other.
///
/// # Errors
/// Those of `result`, without [`UffdError::Gone`].
pub fn unless_gone<T>(result: Result<T, UffdError>) -> Result<Option<T>, UffdError> {
    match result {
        Err(UffdError::Gone(_)) => Ok(None),
        result => result.map(Some),
    }
}

/// `None` if `/proc` shows nothing of the process: it is gone, or its main thread has ended, for
/// callers who know from elsewhere whether it lives.
///
/// # Errors
/// Those of `result`, without [`UffdError::Gone`] and [`UffdError::Leaderless`].
pub fn unless_unseen<T>(result: Result<T, UffdError>) -> Result<Option<T>, UffdError> {
    match result {
        Err(error) if error.is_unseen() => Ok(None),
        result => result.map(Some),
    }
}

/// Whether an errno says that the process of a `/proc/PID` file is gone: ENOENT if it is opened
/// after the end, ESRCH if it is read after it.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::SRCH)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_an_error_of_its_own() {
        let error = UffdError::of_process(u32::MAX, "cannot read", "x")(Errno::SRCH);
        assert!(error.is_gone());
        assert_eq!(
            error.to_string(),
            "process 4294967295 does not exist (any more)"
        );
        assert_eq!(error.errno(), None);
        assert!(matches!(unless_gone::<()>(Err(error)), Ok(None)));
    }

    #[test]
    fn a_refusal_names_what_on_what_and_what_to_do() {
        let error = UffdError::of_process(1, "cannot open", "/proc/1/pagemap")(Errno::PERM);
        let text = error.to_string();
        assert!(text.starts_with("cannot open /proc/1/pagemap: "), "{text}");
        assert!(text.contains("CAP_SYS_PTRACE"), "{text}");
        assert!(!error.is_gone());
        assert_eq!(error.errno(), Some(Errno::PERM));
    }
}
