//! Keeps background work within a share of one CPU core.

use std::time::Duration;

/// The longest rest: work that was slow once must not be off for hours.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// How long to rest after work that took `spent` of CPU time, to stay within `share` of one core.
///
/// `share` is more than 0 and at most 1.
pub fn rest(spent: Duration, share: f64) -> Duration {
    let rest = spent.as_secs_f64() * (1.0 / share - 1.0);
    // Also covers a share so small that the rest is infinite.
    Duration::try_from_secs_f64(rest).map_or(LONGEST_REST, |r| r.min(LONGEST_REST))
}

/// CPU time this thread has used so far, user and kernel.
pub fn thread_cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_keeps_the_share() {
        assert_eq!(
            rest(Duration::from_millis(10), 0.01),
            Duration::from_millis(990)
        );
        assert_eq!(
            rest(Duration::from_millis(10), 0.5),
            Duration::from_millis(10)
        );
        assert_eq!(rest(Duration::from_millis(10), 1.0), Duration::ZERO);
    }

    #[test]
    fn rest_is_bounded() {
        assert_eq!(rest(Duration::from_secs(60), 0.01), LONGEST_REST);
        assert_eq!(
            rest(Duration::from_secs(60), f64::MIN_POSITIVE),
            LONGEST_REST
        );
    }

    #[test]
    fn cpu_time_counts_work_and_not_sleep() {
        let start = thread_cpu_time();
        std::thread::sleep(Duration::from_millis(30));
        assert!(thread_cpu_time() - start < Duration::from_millis(20));
    }
}
