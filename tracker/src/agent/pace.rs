//! Keeps background work within a share of one CPU core.

use std::time::Duration;

/// The longest rest: one slow run must not switch work off for hours.
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

/// CPU time of the processes that this one started and waited for, in the kernel's clock ticks:
/// none is lost between two readings. Zero if it cannot be read.
pub fn children_cpu_time() -> Duration {
    let text = std::fs::read("/proc/self/stat").unwrap_or_default();
    children_ticks(&text).map_or(Duration::ZERO, |ticks| Duration::from_millis(10 * ticks))
}

/// `cutime` plus `cstime`, the 16th and 17th field; fields are counted after the last `)`.
fn children_ticks(stat: &[u8]) -> Option<u64> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(name_ends + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace().skip(16 - 3);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
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
    fn time_of_children_is_two_fields() {
        let stat = b"7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 50 7 11 22 20 0 9 0 1234 8192 33 1\n";
        assert_eq!(children_ticks(stat), Some(33));
        assert_eq!(children_ticks(b"7 (a) S 1"), None);
    }

    #[test]
    fn cpu_time_counts_work_and_not_sleep() {
        let start = thread_cpu_time();
        std::thread::sleep(Duration::from_millis(30));
        assert!(thread_cpu_time() - start < Duration::from_millis(20));
    }
}
