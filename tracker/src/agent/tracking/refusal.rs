//! Why a process is not tracked, in a word for a label, and when it is tried again.

use std::time::Duration;

use pages::inject::InjectError;
use pages::track::TrackError;

/// Why a process is not tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// It cannot be stopped at the moment.
    Busy,
    /// `/proc` does not show it.
    Hidden,
    /// The kernel refuses a userfaultfd.
    Kernel,
    /// All of its memory is such as cannot be tracked.
    Nothing,
    /// Which process is meant cannot be told: `/proc` is that of another pid namespace.
    PidNamespace,
    /// This agent may not trace it.
    Privilege,
    /// Its program is of 32 bits or otherwise unfit.
    Program,
    /// It has a seccomp filter that cannot be suspended.
    Seccomp,
    /// The strategy does not work there.
    Strategy,
    /// It has a tracer already.
    Traced,
    /// A step failed that should not.
    Unexpected,
}

impl RefusalReason {
    /// All reasons, in the order of their index and of their words.
    pub const ALL: [Self; 11] = [
        Self::Busy,
        Self::Hidden,
        Self::Kernel,
        Self::Nothing,
        Self::PidNamespace,
        Self::Privilege,
        Self::Program,
        Self::Seccomp,
        Self::Strategy,
        Self::Traced,
        Self::Unexpected,
    ];

    /// The word, as in `uffdwp_track_failures_total{reason}`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Hidden => "hidden",
            Self::Kernel => "kernel",
            Self::Nothing => "nothing",
            Self::PidNamespace => "pid_namespace",
            Self::Privilege => "privilege",
            Self::Program => "program",
            Self::Seccomp => "seccomp",
            Self::Strategy => "strategy",
            Self::Traced => "traced",
            Self::Unexpected => "unexpected",
        }
    }

    /// Of an error; `None` if the process has just ended, which is no failure.
    pub const fn of(error: &TrackError) -> Option<Self> {
        Some(match error {
            TrackError::Inject(error) => return Self::of_injection(error),
            TrackError::Gone(_) => return None,
            TrackError::Refused { .. }
            | TrackError::ArmsNothing { .. }
            | TrackError::None { .. } => Self::Strategy,
            TrackError::Nothing { .. } => Self::Nothing,
            TrackError::OtherNamespace(_) => Self::PidNamespace,
            TrackError::Unreadable(_) => Self::Program,
            TrackError::Start { .. } | TrackError::Kernel { .. } => Self::Kernel,
        })
    }

    const fn of_injection(error: &InjectError) -> Option<Self> {
        Some(match error {
            InjectError::Gone(_) | InjectError::Zombie { .. } => return None,
            InjectError::Traced { .. } => Self::Traced,
            InjectError::Seccomp { .. } => Self::Seccomp,
            InjectError::OtherNamespace(_) => Self::PidNamespace,
            InjectError::Privilege { .. } => Self::Privilege,
            InjectError::Busy { .. } | InjectError::Starved { .. } | InjectError::Frozen { .. } => {
                Self::Busy
            }
            InjectError::Architecture
            | InjectError::Thread { .. }
            | InjectError::Ourselves { .. }
            | InjectError::KernelThread { .. }
            | InjectError::NoLeader { .. }
            | InjectError::Bits32 { .. }
            | InjectError::NoThread { .. }
            | InjectError::NoInstruction { .. } => Self::Program,
            InjectError::Refused { .. } => Self::Kernel,
            InjectError::Step { .. } | InjectError::Helper { .. } => Self::Unexpected,
        })
    }
}

/// How long to wait after so many failures in a row, at least `first`.
pub fn backoff(tries: u32, first: Duration) -> Duration {
    const LONGEST: Duration = Duration::from_secs(600);
    let doubled = first.saturating_mul(1 << tries.saturating_sub(1).min(16));
    doubled.min(LONGEST.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_try_waits_twice_as_long_up_to_ten_minutes() {
        let waits =
            [1, 2, 3, 7, 8, 40].map(|tries| backoff(tries, Duration::from_secs(5)).as_secs());
        assert_eq!(waits, [5, 10, 20, 320, 600, 600]);
        let hourly = Duration::from_secs(3600);
        assert_eq!(backoff(3, hourly), hourly);
    }

    #[test]
    fn an_error_has_its_word() {
        let traced = InjectError::Traced {
            pid: 1,
            tracer: 2,
            comm: "gdb".to_owned(),
        };
        let kernel = InjectError::Refused {
            pid: 1,
            why: String::new(),
        };
        for (error, word) in [(traced, "traced"), (kernel, "kernel")] {
            let reason = RefusalReason::of(&TrackError::Inject(error));
            assert_eq!(reason.map(RefusalReason::as_str), Some(word));
        }
        let gone = uffd::ProcessGone { pid: 1 };
        assert_eq!(RefusalReason::of(&TrackError::Gone(gone)), None);
    }

    #[test]
    fn every_reason_stands_at_its_index() {
        let all = RefusalReason::ALL;
        assert!(
            all.iter()
                .enumerate()
                .all(|(n, reason)| *reason as usize == n)
        );
        assert!(all.map(RefusalReason::as_str).is_sorted());
    }
}
