//! Why a process is not tracked, in a word for a label, and when it is tried again.

use std::time::Duration;

use pages::inject::InjectError;
use pages::track::TrackError;

/// All words, as in `uffdwp_track_failures_total{reason}`.
pub const REASONS: [&str; 8] = [
    "busy",
    "kernel",
    "privilege",
    "program",
    "seccomp",
    "strategy",
    "traced",
    "unexpected",
];

/// The word; nothing if the process has just ended, which is no failure.
pub fn reason(error: &TrackError) -> Option<&'static str> {
    Some(match error {
        TrackError::Inject(error) => return injection(error),
        TrackError::Gone(_) => return None,
        TrackError::Refused { .. } | TrackError::ArmsNothing { .. } | TrackError::None { .. } => {
            "strategy"
        }
        TrackError::Unreadable(_) => "program",
        TrackError::Start { .. } | TrackError::Kernel { .. } => "kernel",
    })
}

fn injection(error: &InjectError) -> Option<&'static str> {
    Some(match error {
        InjectError::Gone(_) | InjectError::Zombie { .. } => return None,
        InjectError::Traced { .. } => "traced",
        InjectError::Seccomp { .. } => "seccomp",
        InjectError::Privilege { .. } => "privilege",
        InjectError::Busy { .. } | InjectError::Frozen { .. } => "busy",
        InjectError::Architecture
        | InjectError::Thread { .. }
        | InjectError::Ourselves { .. }
        | InjectError::KernelThread { .. }
        | InjectError::NoLeader { .. }
        | InjectError::Bits32 { .. }
        | InjectError::NoThread { .. }
        | InjectError::NoInstruction { .. } => "program",
        InjectError::Refused { .. } => "kernel",
        InjectError::Step { .. } | InjectError::Helper { .. } => "unexpected",
    })
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
    fn every_word_is_known() {
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
            assert_eq!(reason(&TrackError::Inject(error)), Some(word));
            assert!(REASONS.contains(&word));
        }
        assert_eq!(
            reason(&TrackError::Gone(uffd::ProcessGone { pid: 1 })),
            None
        );
        assert!(REASONS.is_sorted());
    }
}
