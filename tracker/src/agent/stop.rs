//! Tells the agent's threads to end, and lets them sleep until then.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shared by all threads of the agent.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<(Mutex<bool>, Condvar)>);

impl StopSignal {
    /// Ends all sleeps, those to come included.
    pub fn stop(&self) {
        *self.stopped() = true;
        self.0.1.notify_all();
    }

    /// Whether the agent ends.
    pub fn is_stopped(&self) -> bool {
        *self.stopped()
    }

    /// Sleeps; false if the agent ends.
    pub fn sleep(&self, duration: Duration) -> bool {
        let wait = self
            .0
            .1
            .wait_timeout_while(self.stopped(), duration, |stopped| !*stopped);
        !*wait.unwrap_or_else(PoisonError::into_inner).0
    }

    /// A poisoned lock is taken: a panic cannot leave a `bool` half written.
    fn stopped(&self) -> MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn stop_ends_a_sleep_at_once() {
        let stop = StopSignal::default();
        let other = stop.clone();
        let sleeper = std::thread::spawn(move || other.sleep(Duration::from_secs(600)));
        let asked = Instant::now();
        stop.stop();
        assert!(!sleeper.join().unwrap_or(true));
        assert!(asked.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_sleep_that_ends_by_itself_goes_on() {
        assert!(StopSignal::default().sleep(Duration::from_millis(1)));
    }
}
