//! Whether each loop of the agent goes on: one that stands still leaves old numbers behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::stop::StopSignal;

/// What the agent does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentLoop {
    /// Reads the counters.
    Collect,
    /// Searches for uffd-wp VMAs.
    Discover,
    /// Has hooks prove that they fire.
    SelfTest,
    /// Counts pages.
    Scan,
    /// Looks for processes to track.
    Track,
}

impl AgentLoop {
    const ALL: [Self; 5] = [
        Self::Collect,
        Self::Discover,
        Self::SelfTest,
        Self::Scan,
        Self::Track,
    ];

    /// The name of its thread.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Discover => "discover",
            Self::SelfTest => "self-test",
            Self::Scan => "scan",
            Self::Track => "track",
        }
    }
}

/// When one loop will be heard of again.
#[derive(Clone, Debug)]
pub struct LoopClock {
    started: Instant,
    /// In milliseconds after `started`; the greatest number while the loop does not run.
    promised: Arc<AtomicU64>,
}

impl Default for LoopClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            promised: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }
}

impl LoopClock {
    /// The loop lives, and will say so again after `rest`, or a little later.
    pub fn promise(&self, rest: Duration) {
        let next = (self.started.elapsed() + rest).as_millis();
        let next = u64::try_from(next).unwrap_or(u64::MAX - 1);
        self.promised.store(next, Ordering::Relaxed);
    }

    /// Sleeps between two runs; false if the agent ends.
    pub fn sleep(&self, stop: &StopSignal, rest: Duration) -> bool {
        self.promise(rest);
        stop.sleep(rest)
    }

    /// For how long it has been overdue; zero if it is not, or does not run.
    pub fn late_by(&self) -> Duration {
        let promised = Duration::from_millis(self.promised.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(promised)
    }
}

/// The clocks of all loops.
#[derive(Debug, Default)]
pub struct LoopClocks([LoopClock; AgentLoop::ALL.len()]);

impl LoopClocks {
    /// That of one loop.
    pub const fn of(&self, which: AgentLoop) -> &LoopClock {
        &self.0[which as usize]
    }

    /// The loop that is overdue the longest, and for how long.
    pub fn latest(&self) -> (AgentLoop, Duration) {
        let late = AgentLoop::ALL.map(|which| (which, self.of(which).late_by()));
        late.into_iter()
            .max_by_key(|(_, late)| *late)
            .unwrap_or((AgentLoop::Collect, Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loop_stands_at_its_index() {
        let mut all = AgentLoop::ALL.iter().enumerate();
        assert!(all.all(|(index, which)| *which as usize == index));
    }

    #[test]
    fn a_loop_is_late_when_it_breaks_its_promise() {
        let clocks = LoopClocks::default();
        assert_eq!(clocks.latest().1, Duration::ZERO, "none runs");
        clocks
            .of(AgentLoop::Scan)
            .promise(Duration::from_secs(3600));
        assert_eq!(clocks.latest().1, Duration::ZERO);
        clocks.of(AgentLoop::Discover).promise(Duration::ZERO);
        while clocks.latest().1.is_zero() {
            std::thread::yield_now();
        }
        assert_eq!(clocks.latest().0, AgentLoop::Discover);
    }
}
