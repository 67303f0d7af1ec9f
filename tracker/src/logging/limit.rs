//! How many log lines of one kind are written: a kind is a place in the code that logs.

use super::losses::LogLoss;
use std::collections::HashMap;
use std::fmt;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind that are written at once, at most.
const BURST: u64 = 100;

/// From then on, one in this time.
const EACH: Duration = Duration::from_secs(1);

static LIMITS: LazyLock<Mutex<LineLimits>> = LazyLock::new(Mutex::default);
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Keeps lines of one kind from coming without end.
pub(super) struct LimitLayer;

impl<S: Subscriber> Layer<S> for LimitLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let admitted = limits().admit(LineKind::of(event), STARTED.elapsed());
        if !admitted {
            LogLoss::Rate.count();
        }
        admitted
    }
}

/// How many lines were left out since the last call, by kind.
pub(super) fn take_left_out() -> Vec<(LineKind, u64)> {
    limits().take_left_out()
}

fn limits() -> MutexGuard<'static, LineLimits> {
    LIMITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in the code that logs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LineKind {
    level: Level,
    target: String,
    line: Option<u32>,
}

impl LineKind {
    fn of(event: &Event<'_>) -> Self {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        Self {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            line: metadata.line(),
        }
    }
}

impl fmt::Display for LineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.level.as_str().to_ascii_lowercase();
        write!(f, "{level} of {}", self.target)?;
        self.line.map_or(Ok(()), |line| write!(f, ", line {line}"))
    }
}

/// What each kind may still write.
#[derive(Debug, Default)]
struct LineLimits(HashMap<LineKind, KindLimit>);

#[derive(Debug)]
struct KindLimit {
    /// Lines that may be written at once.
    left: u64,
    /// Until when `left` has been refilled.
    refilled: Duration,
    /// Lines that were left out and not told yet.
    left_out: u64,
}

impl LineLimits {
    /// Whether a line may be written. `now` never goes back.
    fn admit(&mut self, kind: LineKind, now: Duration) -> bool {
        let limit = self.0.entry(kind).or_insert(KindLimit {
            left: BURST,
            refilled: now,
            left_out: 0,
        });
        let due = now.saturating_sub(limit.refilled).as_secs() / EACH.as_secs();
        limit.left = limit.left.saturating_add(due).min(BURST);
        limit.refilled += EACH * u32::try_from(due).unwrap_or(u32::MAX);
        let admitted = limit.left > 0;
        if admitted {
            limit.left -= 1;
        } else {
            limit.left_out += 1;
        }
        admitted
    }

    fn take_left_out(&mut self) -> Vec<(LineKind, u64)> {
        let all = self.0.iter_mut().filter(|(_, limit)| limit.left_out > 0);
        all.map(|(kind, limit)| (kind.clone(), std::mem::take(&mut limit.left_out)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(line: u32) -> LineKind {
        LineKind {
            level: Level::WARN,
            target: "tracker::agent".to_owned(),
            line: Some(line),
        }
    }

    fn admitted(limits: &mut LineLimits, line: u32, seconds: u64, lines: u64) -> u64 {
        let now = Duration::from_secs(seconds);
        let asked = (0..lines).filter(|_| limits.admit(kind(line), now));
        asked.count() as u64
    }

    #[test]
    fn a_flood_of_one_kind_is_cut_and_counted_and_no_other_kind_suffers() {
        let mut limits = LineLimits::default();
        assert_eq!(admitted(&mut limits, 1, 5, 10_326), BURST);
        assert_eq!(admitted(&mut limits, 1, 8, 10_326), 3);
        assert_eq!(admitted(&mut limits, 2, 8, 7), 7);
        let left_out = 2 * 10_326 - BURST - 3;
        assert_eq!(limits.take_left_out(), [(kind(1), left_out)]);
        assert_eq!(limits.take_left_out(), []);
    }

    #[test]
    fn a_kind_that_was_quiet_may_speak_again() {
        let mut limits = LineLimits::default();
        assert_eq!(admitted(&mut limits, 1, 0, 1000), BURST);
        assert_eq!(admitted(&mut limits, 1, 1_000_000, 1000), BURST);
    }

    #[test]
    fn a_kind_says_where_it_comes_from() {
        assert_eq!(kind(7).to_string(), "warn of tracker::agent, line 7");
    }
}
