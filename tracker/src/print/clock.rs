//! Times for people and for JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::words::share;

const DAY: u64 = 86_400;

/// UTC with milliseconds, such as `2026-11-22T22:00:00.250Z`. `None` before 1970 and after the year
/// 9999.
pub(crate) fn rfc3339(time: SystemTime) -> Option<String> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    let milliseconds = since.subsec_millis();
    (year <= 9999).then(|| {
        format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z"
        )
    })
}

/// The date of a day since 1970, after Howard Hinnant's `civil_from_days`: years begin in March, so
/// that the leap day comes last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

/// A duration as people say it: `740 µs`, `12.5 ms`, `3.2 s`, `4 min 05 s`, `2 h 03 min`.
pub(crate) fn spoken(duration: Duration) -> String {
    let (seconds, whole) = (duration.as_secs_f64(), duration.as_secs());
    match whole {
        0 if seconds == 0.0 => "0 s".to_owned(),
        0 if seconds < 1e-3 => format!("{:.0} µs", seconds * 1e6),
        0 if seconds < 0.1 => format!("{} ms", short(seconds * 1e3)),
        0 => format!("{:.0} ms", seconds * 1e3),
        1..60 => format!("{} s", short(seconds)),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A share is at most 100%: work that took longer than all rounds says so.
pub(crate) fn of_the_time(took: Duration, lasted: Duration) -> String {
    if took > lasted && !lasted.is_zero() {
        return format!("more than the {} of all rounds", spoken(lasted));
    }
    let part = share(micros(took), micros(lasted));
    format!("{part} of the time")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Two decimals below 10 and one above, without trailing zeroes.
fn short(number: f64) -> String {
    let text = if number < 10.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.1}")
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn no_share_is_more_than_the_whole() {
        let told = |took| of_the_time(Duration::from_millis(took), Duration::from_secs(1));
        assert_eq!(told(460), "46% of the time");
        assert_eq!(told(1000), "100% of the time");
        assert_eq!(told(3100), "more than the 1 s of all rounds");
    }

    #[test]
    fn times_are_those_of_date_1() {
        let at = |seconds, ms| {
            rfc3339(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(ms))
        };
        assert_eq!(at(0, 0).unwrap(), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400, 7).unwrap(), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_704_067_199, 999).unwrap(), "2023-12-31T23:59:59.999Z");
        assert_eq!(at(4_107_542_400, 0).unwrap(), "2100-03-01T00:00:00.000Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), None);
        assert_eq!(at(1 << 40, 0), None);
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        let cases = [
            (0.0, "0 s"),
            (0.000_74, "740 µs"),
            (0.0125, "12.5 ms"),
            (0.1, "100 ms"),
            (3.2, "3.2 s"),
        ];
        for (seconds, told) in cases {
            assert_eq!(spoken(Duration::from_secs_f64(seconds)), told);
        }
        assert_eq!(spoken(Duration::from_secs(245)), "4 min 05 s");
        assert_eq!(spoken(Duration::from_secs(7380)), "2 h 03 min");
    }
}
