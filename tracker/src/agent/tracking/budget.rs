//! How long to wait for the next round, so that all tracking keeps to its share of a core: pure
//! functions.

use std::time::Duration;

/// The longest interval: one wrong cost must not switch tracking off for good.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How much of the budget selecting processes and attaching to them may take; the rest is for
/// rounds.
pub const OVERHEAD: f64 = 0.5;

/// What one process would take of a core if its rounds came as often as asked for.
///
/// `cost` is the CPU time of its last round.
pub fn need(cost: Duration, wanted: Duration) -> f64 {
    cost.as_secs_f64() / wanted.as_secs_f64().max(1e-9)
}

/// The share of a core that each process may take so that all together stay within `budget`: those
/// that need less take what they need, and leave the rest to the others in equal parts. Infinite if
/// all fit.
pub fn level(needs: &[f64], budget: f64) -> f64 {
    let mut sorted = needs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (mut left, mut others) = (budget, sorted.len());
    for need in sorted {
        let equal = left / parts(others);
        if need > equal {
            return equal;
        }
        left -= need;
        others -= 1;
    }
    f64::INFINITY
}

#[allow(clippy::cast_precision_loss, reason = "at most --track-max")]
fn parts(number: usize) -> f64 {
    number as f64
}

/// From the start of a round that took `cost` of CPU time to the next one: as asked for, or as long
/// as it takes for the round to be `share` of it.
pub fn interval(cost: Duration, wanted: Duration, share: f64) -> Duration {
    let paid = Duration::try_from_secs_f64(cost.as_secs_f64() / share).unwrap_or(LONGEST);
    wanted.max(paid.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn within_the_budget_it_is_as_asked_for() {
        let level = level(&[need(ms(4), ms(1000)), need(ms(5), ms(1000))], 0.01);
        assert_eq!(interval(ms(5), ms(1000), level), ms(1000));
        assert_eq!(interval(Duration::ZERO, ms(1000), 0.01), ms(1000));
    }

    #[test]
    fn over_the_budget_the_interval_pays_for_the_round() {
        let needs = [need(ms(50), ms(1000))];
        assert_eq!(interval(ms(50), ms(1000), level(&needs, 0.01)), ms(5000));
        // A round that came out cheaper is paid for sooner.
        assert_eq!(interval(ms(20), ms(1000), level(&needs, 0.01)), ms(2000));
    }

    #[test]
    fn who_needs_little_does_not_wait_for_who_needs_much() {
        let [small, large, larger] = [ms(1), ms(100), ms(900)];
        let needs = [small, large, larger].map(|cost| need(cost, ms(1000)));
        let level = level(&needs, 0.011);
        assert!((level - 0.005).abs() < 1e-9, "{level}");
        assert_eq!(interval(small, ms(1000), level), ms(1000));
        assert_eq!(interval(large, ms(1000), level), ms(20_000));
        assert_eq!(interval(larger, ms(1000), level), ms(180_000));
    }

    #[test]
    fn the_extremes_end() {
        assert_eq!(interval(Duration::MAX, ms(1), 1e-12), LONGEST);
        assert_eq!(interval(ms(1), ms(1), 0.0), LONGEST);
        assert!(level(&[], 0.01).is_infinite());
    }

    proptest! {
        #[test]
        fn together_they_keep_to_the_budget(
            costs in proptest::collection::vec(0u64..10_000, 0..9),
            budget in 0.001f64..1.0,
        ) {
            let wanted = ms(1000);
            let needs: Vec<_> = costs.iter().map(|cost| need(ms(*cost), wanted)).collect();
            let level = level(&needs, budget);
            let paid = |cost| need(ms(cost), interval(ms(cost), wanted, level));
            let share: f64 = costs.iter().map(|cost| paid(*cost)).sum();
            prop_assert!(share <= budget * 1.000_001, "{share}");
            let all_fit = needs.iter().sum::<f64>() <= budget * 0.999_999;
            prop_assert!(!all_fit || level.is_infinite(), "{level}");
        }
    }
}
