//! From the processes that match to what to do about each: a pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::ProcessKey;

/// What is known when a choice is made.
pub struct AttachSituation<'a> {
    /// The processes that match, in the order in which they are wanted.
    pub matching: &'a [ProcessKey],
    /// Those that are tracked.
    pub tracked: &'a BTreeSet<ProcessKey>,
    /// Those that refused, each with the time of its next try.
    pub refused: &'a BTreeMap<ProcessKey, Duration>,
    /// How many may be tracked at a time.
    pub most: usize,
    /// Now, on the clock of `refused`.
    pub now: Duration,
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AttachChoice {
    /// Those that no longer match: to be let go.
    pub let_go: Vec<ProcessKey>,
    /// Those to attach to, in this order.
    pub attach: Vec<ProcessKey>,
    /// Those that match and are left out because there are too many.
    pub over: Vec<ProcessKey>,
}

/// Chooses. What is tracked and still matches stays, whatever else appears; free places go to the
/// first that match. One that refused holds no place.
pub fn choose(situation: &AttachSituation<'_>) -> AttachChoice {
    let AttachSituation {
        matching,
        tracked,
        refused,
        most,
        now,
    } = *situation;
    let wanted: BTreeSet<_> = matching.iter().copied().collect();
    let let_go: Vec<_> = tracked.difference(&wanted).copied().collect();
    // Those that are let go hold their places until they are gone.
    let mut free = most.saturating_sub(tracked.len());
    let mut choice = AttachChoice {
        let_go,
        ..AttachChoice::default()
    };
    for key in matching.iter().filter(|key| !tracked.contains(key)) {
        match refused.get(key) {
            Some(until) if *until > now => (),
            _ if free > 0 => {
                free -= 1;
                choice.attach.push(*key);
            }
            _ => choice.over.push(*key),
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pid: u32) -> ProcessKey {
        ProcessKey {
            pid,
            start_boottime_ns: u64::from(pid),
        }
    }

    fn chosen(matching: &[u32], tracked: &[u32], refused: &[(u32, u64)]) -> [Vec<u32>; 3] {
        let matching: Vec<_> = matching.iter().map(|pid| key(*pid)).collect();
        let refused: BTreeMap<_, _> = refused
            .iter()
            .map(|(pid, until)| (key(*pid), Duration::from_secs(*until)))
            .collect();
        let choice = choose(&AttachSituation {
            matching: &matching,
            tracked: &tracked.iter().map(|pid| key(*pid)).collect(),
            refused: &refused,
            most: 2,
            now: Duration::from_secs(10),
        });
        [choice.let_go, choice.attach, choice.over]
            .map(|keys| keys.iter().map(|key| key.pid).collect())
    }

    #[test]
    fn the_first_that_match_are_attached_and_the_rest_is_named() {
        assert_eq!(chosen(&[3, 1, 2], &[], &[]), [vec![], vec![3, 1], vec![2]]);
    }

    #[test]
    fn what_is_tracked_stays() {
        assert_eq!(chosen(&[1, 2, 3], &[2, 3], &[]), [vec![], vec![], vec![1]]);
    }

    #[test]
    fn what_no_longer_matches_goes_before_another_comes() {
        assert_eq!(chosen(&[1], &[2, 3], &[]), [vec![2, 3], vec![], vec![1]]);
    }

    #[test]
    fn who_refused_waits_and_holds_no_place() {
        let nobody: Vec<u32> = Vec::new();
        assert_eq!(
            chosen(&[1, 2, 3], &[], &[(1, 11)]),
            [nobody.clone(), vec![2, 3], nobody.clone()]
        );
        assert_eq!(
            chosen(&[1, 2, 3], &[], &[(1, 10)]),
            [nobody, vec![1, 2], vec![3]]
        );
    }

    #[test]
    fn another_process_of_the_same_number_is_another_one() {
        let (old, new) = (
            key(1),
            ProcessKey {
                start_boottime_ns: 9,
                ..key(1)
            },
        );
        let choice = choose(&AttachSituation {
            matching: &[new],
            tracked: &BTreeSet::from([old]),
            refused: &BTreeMap::new(),
            most: 2,
            now: Duration::ZERO,
        });
        assert_eq!((choice.let_go, choice.attach), (vec![old], vec![new]));
    }
}
