//! Looks at processes that the kernel may never let return: a file of `/proc` waits for locks of
//! the process, and for whatever holds them.
//!
//! Each look is noted with its begin. A loop whose look takes too long is given up, another thread
//! does its work from then on, and passes over what the first one is stuck in.

use super::loops::LoopClock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LookedAt {
    /// A process, by its number in `/proc`.
    Process(u32),
    /// All VMAs, by the BPF iterator.
    Iterator,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookFailure {
    /// Another thread of ours has been waiting for it all the time.
    #[error("the kernel has not answered an earlier look for {} s", .0.as_secs())]
    Stuck(Duration),
    /// We were given up meanwhile: another thread does our work.
    #[error("the look took too long, and another thread goes on")]
    GivenUp,
}

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Threads that may be stuck at a time; then the loop stands still, and the agent is not ready.
const MOST_STUCK: usize = 8;

/// The looks of one loop.
#[derive(Clone, Debug)]
pub struct LookWatch {
    looks: Arc<Mutex<BTreeMap<LookedAt, NotedLook>>>,
    clock: LoopClock,
}

#[derive(Clone, Copy, Debug)]
struct NotedLook {
    since: Instant,
    given_up: bool,
}

impl LookWatch {
    /// Of a loop with this clock, which each look moves on.
    pub fn new(clock: LoopClock) -> Self {
        Self {
            looks: Arc::default(),
            clock,
        }
    }

    /// Looks at something.
    ///
    /// # Errors
    /// If another thread is stuck in it, or if this one was given up.
    pub fn look<T>(&self, at: LookedAt, look: impl FnOnce() -> T) -> Result<T, LookFailure> {
        let now = Instant::now();
        self.clock.promise(Duration::ZERO);
        let noted = NotedLook {
            since: now,
            given_up: false,
        };
        let mut looks = self.looks();
        if let Some(stuck) = looks.get(&at) {
            return Err(LookFailure::Stuck(now - stuck.since));
        }
        looks.insert(at, noted);
        drop(looks);
        let seen = look();
        match self.looks().remove(&at) {
            Some(look) if look.given_up => Err(LookFailure::GivenUp),
            _ => Ok(seen),
        }
    }

    /// Gives the thread up that has looked at something for too long; true if there is one.
    pub fn give_up(&self) -> bool {
        self.give_up_after(PATIENCE)
    }

    fn give_up_after(&self, patience: Duration) -> bool {
        let mut looks = self.looks();
        let stuck = looks.values().filter(|look| look.given_up).count();
        let mut waiting = looks.values_mut().filter(|look| !look.given_up);
        let Some(late) = waiting.find(|look| look.since.elapsed() >= patience) else {
            return false;
        };
        late.given_up = stuck < MOST_STUCK;
        late.given_up
    }

    fn looks(&self) -> MutexGuard<'_, BTreeMap<LookedAt, NotedLook>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::sync::mpsc::channel;

    const SEVEN: LookedAt = LookedAt::Process(7);

    #[test]
    fn who_is_stuck_holds_up_nobody_else_and_is_told_when_it_returns() {
        let watch = LookWatch::new(LoopClock::default());
        let (go, gate) = channel::<()>();
        let (begun, begins) = channel();
        let stuck = watch.clone();
        let stuck = std::thread::spawn(move || {
            stuck.look(SEVEN, || {
                begun.send(()).unwrap();
                gate.recv().unwrap();
            })
        });
        begins.recv().unwrap();
        assert!(!watch.give_up());
        assert!(watch.give_up_after(Duration::ZERO));
        assert!(!watch.give_up_after(Duration::ZERO), "once");
        assert!(matches!(
            watch.look(SEVEN, || ()),
            Err(LookFailure::Stuck(_))
        ));
        assert_eq!(watch.look(LookedAt::Process(8), || 8), Ok(8));
        go.send(()).unwrap();
        assert_eq!(stuck.join().unwrap(), Err(LookFailure::GivenUp));
        assert_eq!(watch.look(SEVEN, || 7), Ok(7));
    }
}
