//! Why a process is not seen: not seen is not the same as nothing there.

use super::super::looks::LookFailure;
use rustix::io::Errno;
use uffd::UffdError;

/// Why a process is not seen, in a word for a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SightObstacle {
    /// `/proc` is mounted with `hidepid=`.
    Hidden,
    /// `/proc` shows the numbers of a pid namespace that is not the host's.
    PidNamespace,
    /// It may not be traced.
    Privilege,
    /// The kernel does not answer.
    Stuck,
    /// Something that should not fail.
    Unexpected,
}

impl SightObstacle {
    /// All of them, in the order of their words.
    pub const ALL: [Self; 5] = [
        Self::Hidden,
        Self::PidNamespace,
        Self::Privilege,
        Self::Stuck,
        Self::Unexpected,
    ];

    /// The word, as in `uffdwp_discovery_processes_refused{reason}`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::PidNamespace => "pid_namespace",
            Self::Privilege => "privilege",
            Self::Stuck => "stuck",
            Self::Unexpected => "unexpected",
        }
    }
}

/// A process that is not seen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryRefusal {
    /// The process.
    pub pid: u32,
    /// Why, in a word.
    pub obstacle: SightObstacle,
    /// Why, with what to do.
    pub message: String,
}

impl DiscoveryRefusal {
    /// Of an error of its files, which is not that it is gone.
    pub(super) fn of(pid: u32, error: &UffdError) -> Self {
        let obstacle = match error {
            UffdError::Hidden { .. } => SightObstacle::Hidden,
            _ if matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM)) => {
                SightObstacle::Privilege
            }
            _ => SightObstacle::Unexpected,
        };
        Self {
            pid,
            obstacle,
            message: error.to_string(),
        }
    }

    pub(super) fn stuck(pid: u32, failure: LookFailure) -> Self {
        Self {
            pid,
            obstacle: SightObstacle::Stuck,
            message: format!(
                "process {pid}: {failure}; what does it wait for (/proc/{pid}/stack)?"
            ),
        }
    }

    /// Of all processes of the host that are not in the pid namespace of `/proc`.
    pub(super) fn others_of_host() -> Self {
        Self {
            pid: 0,
            obstacle: SightObstacle::PidNamespace,
            message:
                "/proc shows the processes of one pid namespace only, not the host's: run the \
                agent with the host's pids (hostPID: true, --pid=host), or mount the host's /proc \
                over its own"
                    .to_owned(),
        }
    }

    pub(super) fn pid_namespace(pid: u32) -> Self {
        Self {
            pid,
            obstacle: SightObstacle::PidNamespace,
            message: format!(
                "process {pid} is known to the kernel by a number that /proc does not show: /proc \
                 is that of another pid namespace; run the agent with the host's (hostPID: true, \
                 --pid=host), or mount the host's /proc over its own"
            ),
        }
    }
}
