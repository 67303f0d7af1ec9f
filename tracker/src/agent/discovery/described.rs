//! What earlier discoveries asked `/proc` about processes, and who must be asked again.
//!
//! Who has not run since has neither mapped nor named anything. Others can only move it to another
//! cgroup, or give its page tables back.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::model::{ProcessFacts, ProcessKey};

/// Each process is asked for everything in one of so many discoveries, whatever it did.
const AGAIN: u64 = 24;

/// Of those that have run and have the VMAs that they had, so many are asked in one discovery, those
/// first that were not for the longest time.
const MOST: usize = 64;

/// What was asked about a process.
#[derive(Clone, Debug)]
pub struct DescribedProcess {
    /// When it was asked.
    pub now: ProcessMoment,
    /// The discovery that asked.
    pub turn: u64,
    /// The discovery that first saw it with these VMAs.
    pub since: u64,
    /// Names of its uffd-wp VMAs that have one, by start.
    pub names: HashMap<u64, Vec<u8>>,
    /// What else is known.
    pub facts: ProcessFacts,
}

/// A process as a discovery sees it before it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMoment {
    /// A digest of its uffd-wp VMAs and their kernel objects.
    pub layout: u64,
    /// Its CPU time; `None` if that is not known.
    pub ran: Option<Duration>,
}

/// What to ask about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptionNeed {
    /// Nothing: it has not changed.
    Nothing,
    /// What it uses. Names belong to VMAs, and it has the same.
    Facts,
    /// Names of VMAs, too.
    Everything,
}

/// What to ask about each process in this discovery, the `turn`th.
pub fn needs(
    processes: &HashMap<ProcessKey, ProcessMoment>,
    known: &HashMap<ProcessKey, DescribedProcess>,
    turn: u64,
) -> HashMap<ProcessKey, DescriptionNeed> {
    let need = |(process, now): (&ProcessKey, &ProcessMoment)| {
        let need = need(process.pid, *now, known.get(process), turn);
        (*process, need)
    };
    let mut needs: HashMap<_, _> = processes.iter().map(need).collect();
    let asked = needs
        .iter()
        .filter(|(_, need)| **need == DescriptionNeed::Facts);
    let mut asked: Vec<_> = asked.map(|(process, _)| *process).collect();
    asked.sort_unstable_by_key(|process| (known.get(process).map(|one| one.turn), *process));
    let late: HashSet<_> = asked.into_iter().skip(MOST).collect();
    for (process, need) in &mut needs {
        if late.contains(process) {
            *need = DescriptionNeed::Nothing;
        }
    }
    needs
}

fn need(
    pid: u32,
    now: ProcessMoment,
    known: Option<&DescribedProcess>,
    turn: u64,
) -> DescriptionNeed {
    let Some(known) = known.filter(|known| known.now.layout == now.layout) else {
        return DescriptionNeed::Everything;
    };
    // Not all at once.
    let again = turn % AGAIN == u64::from(pid) % AGAIN;
    // It may have been in the middle of it: VMAs are named after they are mapped.
    let fresh = turn <= known.since + 1;
    match (
        now.ran.is_none() || now.ran != known.now.ran,
        fresh || again,
    ) {
        (true, true) => DescriptionNeed::Everything,
        (true, false) | (false, true) => DescriptionNeed::Facts,
        (false, false) => DescriptionNeed::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(layout: u64, ran: Option<u64>) -> ProcessMoment {
        let ran = ran.map(Duration::from_nanos);
        ProcessMoment { layout, ran }
    }

    fn known(now: ProcessMoment, turn: u64, since: u64) -> DescribedProcess {
        DescribedProcess {
            now,
            turn,
            since,
            names: HashMap::new(),
            facts: ProcessFacts::default(),
        }
    }

    /// Pid 7 is asked again in turn 31.
    #[test]
    fn who_changed_or_ran_is_asked() {
        use DescriptionNeed::{Everything, Facts, Nothing};
        let before = known(now(1, Some(5)), 10, 10);
        let need = |at, turn| need(7, at, Some(&before), turn);
        assert_eq!(super::need(7, now(1, Some(5)), None, 11), Everything);
        assert_eq!(need(now(2, Some(5)), 12), Everything, "other VMAs");
        assert_eq!(
            need(now(1, Some(6)), 11),
            Everything,
            "it has just mapped them"
        );
        assert_eq!(need(now(1, Some(6)), 12), Facts, "it has run");
        assert_eq!(need(now(1, None), 12), Facts, "it may have run");
        assert_eq!(need(now(1, Some(5)), 12), Nothing);
        assert_eq!(need(now(1, Some(5)), 31), Facts, "its turn");
        assert_eq!(need(now(1, Some(6)), 31), Everything, "its turn");
        let of_each = (0..100).map(|pid| super::need(pid, now(1, Some(5)), Some(&before), 31));
        assert_eq!(of_each.filter(|need| *need == Facts).count(), 4);
    }

    #[test]
    fn where_many_run_all_have_their_turn() {
        let process = |pid| ProcessKey {
            pid: pid as u32 * AGAIN as u32,
            start_boottime_ns: 1,
        };
        let all = (1..=3 * MOST).map(process);
        let moments: HashMap<_, _> = all.clone().map(|one| (one, now(1, Some(9)))).collect();
        let of = |one| (one, known(now(1, Some(1)), 1, 0));
        let mut known: HashMap<_, _> = all.map(of).collect();
        for turn in 2..5 {
            let needs = needs(&moments, &known, turn);
            let asked = needs
                .iter()
                .filter(|(_, need)| **need != DescriptionNeed::Nothing);
            let asked: Vec<_> = asked.map(|(process, _)| *process).collect();
            assert_eq!(asked.len(), MOST);
            for process in asked {
                let one = known.get_mut(&process);
                assert_eq!(
                    one.map(|one| std::mem::replace(&mut one.turn, turn)),
                    Some(1)
                );
            }
        }
    }
}
