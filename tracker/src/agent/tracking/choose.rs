//! From the processes that match to what to do about each: a pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::find::SelectedProcess;
use super::selector::ProcessSelector;
use crate::model::ProcessKey;

/// A process that matches.
#[derive(Clone, Copy, Debug)]
pub struct AttachCandidate {
    /// Which process it is.
    pub key: ProcessKey,
    /// The user who started it, if known.
    pub uid: Option<u32>,
    /// Whether its number was asked for: anybody can take a name, nobody a number.
    pub by_pid: bool,
}

impl From<&SelectedProcess> for AttachCandidate {
    fn from(process: &SelectedProcess) -> Self {
        Self {
            key: process.key,
            uid: process.uid,
            by_pid: matches!(process.selector, ProcessSelector::Pid(_)),
        }
    }
}

/// What is known when a choice is made.
pub struct AttachSituation<'a> {
    /// The processes that match, in the order in which they are wanted.
    pub matching: &'a [AttachCandidate],
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
    /// Those that no longer match, and those that make room: to be let go.
    pub let_go: Vec<ProcessKey>,
    /// Those to attach to, in this order.
    pub attach: Vec<ProcessKey>,
    /// Those that match and are left out because there are too many.
    pub over: Vec<ProcessKey>,
}

/// Chooses. Places go to those asked for by number; then to one process of each user, to a second of
/// each, and so on: whoever starts many of a name takes no place of another. What is tracked comes
/// before others of its user, and goes only for a process of somebody who has fewer. One that
/// refused holds no place.
pub fn choose(situation: &AttachSituation<'_>) -> AttachChoice {
    let AttachSituation {
        matching,
        tracked,
        refused,
        most,
        now,
    } = *situation;
    let waits = |key: &ProcessKey| refused.get(key).is_some_and(|until| *until > now);
    let able = matching
        .iter()
        .filter(|one| tracked.contains(&one.key) || !waits(&one.key));
    let ranked = ranked(able.copied().collect(), tracked);
    let (wanted, rest) = ranked.split_at(most.min(ranked.len()));
    let places: BTreeSet<_> = wanted.iter().copied().collect();
    // Those that are let go hold their places until they are gone.
    let mut free = most.saturating_sub(tracked.len());
    let mut choice = AttachChoice {
        let_go: tracked.difference(&places).copied().collect(),
        ..AttachChoice::default()
    };
    for key in wanted.iter().filter(|key| !tracked.contains(key)) {
        if free > 0 {
            free -= 1;
            choice.attach.push(*key);
        } else {
            choice.over.push(*key);
        }
    }
    choice
        .over
        .extend(rest.iter().filter(|key| !tracked.contains(key)));
    choice
}

/// The processes by who comes first.
fn ranked(mut able: Vec<AttachCandidate>, tracked: &BTreeSet<ProcessKey>) -> Vec<ProcessKey> {
    // Stable: what is equal stays in the order in which it is wanted.
    able.sort_by_key(|one| (!one.by_pid, !tracked.contains(&one.key)));
    let mut of_user = BTreeMap::<Option<u32>, usize>::new();
    let mut ranks: Vec<_> = able
        .iter()
        .map(|one| {
            let nth = of_user.entry(one.uid).or_default();
            *nth += 1;
            let turn = if one.by_pid { 0 } else { *nth };
            // Root, services, people and containers have numbers in this order.
            let user = one.uid.unwrap_or(u32::MAX);
            ((turn, !tracked.contains(&one.key), user), one.key)
        })
        .collect();
    ranks.sort_by_key(|(rank, _)| *rank);
    ranks.into_iter().map(|(_, key)| key).collect()
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

    fn of_user(pid: u32, uid: u32) -> AttachCandidate {
        AttachCandidate {
            key: key(pid),
            uid: Some(uid),
            by_pid: false,
        }
    }

    /// What comes of processes and their users, with room for three.
    fn shared(matching: &[(u32, u32)], tracked: &[u32]) -> [Vec<u32>; 3] {
        let matching: Vec<_> = matching
            .iter()
            .map(|(pid, uid)| of_user(*pid, *uid))
            .collect();
        let choice = choose(&AttachSituation {
            matching: &matching,
            tracked: &tracked.iter().map(|pid| key(*pid)).collect(),
            refused: &BTreeMap::new(),
            most: 3,
            now: Duration::ZERO,
        });
        pids(choice)
    }

    fn pids(choice: AttachChoice) -> [Vec<u32>; 3] {
        [choice.let_go, choice.attach, choice.over]
            .map(|keys| keys.iter().map(|key| key.pid).collect())
    }

    fn chosen(matching: &[u32], tracked: &[u32], refused: &[(u32, u64)]) -> [Vec<u32>; 3] {
        let matching: Vec<_> = matching.iter().map(|pid| of_user(*pid, 0)).collect();
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
        pids(choice)
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
    fn who_starts_many_of_a_name_takes_no_place_of_another() {
        // The eight of user 1000 are older.
        let many: Vec<_> = (1..=8)
            .map(|pid| (pid, 1000))
            .chain([(20, 113), (21, 0)])
            .collect();
        let [let_go, attach, over] = shared(&many, &[]);
        assert_eq!((let_go, attach), (vec![], vec![21, 20, 1]));
        assert_eq!(over.len(), 7);
    }

    #[test]
    fn who_has_fewer_gets_a_place_of_who_has_more_and_then_all_is_quiet() {
        let many = [(1, 1000), (2, 1000), (3, 1000), (4, 113), (5, 113)];
        // A place becomes free first.
        assert_eq!(shared(&many, &[1, 2, 3])[0], [3]);
        assert_eq!(shared(&many, &[1, 2])[1], [4]);
        // One each, and a third that stays with whoever has it.
        let quiet = shared(&many, &[1, 2, 4]);
        assert_eq!(quiet, [vec![], vec![], vec![5, 3]]);
        let quiet = shared(&many, &[1, 4, 5]);
        assert_eq!(quiet, [vec![], vec![], vec![2, 3]]);
    }

    #[test]
    fn a_number_that_was_asked_for_comes_first() {
        let asked = AttachCandidate {
            by_pid: true,
            ..of_user(9, 1000)
        };
        let matching = [of_user(1, 0), of_user(2, 1000), asked];
        let choice = choose(&AttachSituation {
            matching: &matching,
            tracked: &BTreeSet::new(),
            refused: &BTreeMap::new(),
            most: 2,
            now: Duration::ZERO,
        });
        assert_eq!(pids(choice), [vec![], vec![9, 1], vec![2]]);
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
            matching: &[AttachCandidate {
                key: new,
                ..of_user(1, 0)
            }],
            tracked: &BTreeSet::from([old]),
            refused: &BTreeMap::new(),
            most: 2,
            now: Duration::ZERO,
        });
        assert_eq!((choice.let_go, choice.attach), (vec![old], vec![new]));
    }
}
