//! A process and its descendants, tracked as one.
//!
//! Each has a session of its own. Pages of shared memory are the same in all of them, so what all
//! report together is what was written there by any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::attach::TrackOptions;
use super::model::{ProcessRound, TrackHeader, TrackRound};
use super::session::{TrackSession, TrackStep};
use super::{SessionEvent, TrackError};
use crate::inject::{ProcessLifeline, shares_memory_with_parent};
use crate::strategy::StrategyFacts;

/// Every so many rounds, a child that could not be tracked is tried again.
const RETRY: u64 = 8;

/// Who is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackScope {
    /// One process.
    Process,
    /// It and its descendants: those there are, and those to come, each from the round after its
    /// fork on. What one did that ended before, nobody sees.
    WithChildren,
}

/// A process, with its descendants if they are to be tracked, too.
pub struct TrackTree {
    root: TrackSession,
    children: Option<TrackedChildren>,
}

/// The descendants of a process.
struct TrackedChildren {
    facts: StrategyFacts,
    /// With the strategy of the root: what all report must mean the same.
    options: TrackOptions,
    /// By pid.
    sessions: BTreeMap<u32, TrackSession>,
    /// Those that could not be tracked, with the round in which that was.
    refused: BTreeMap<ChildKey, u64>,
}

/// A process: its pid alone may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ChildKey {
    pid: u32,
    /// In clock ticks after boot.
    start: u64,
}

impl TrackTree {
    /// Attaches to a process, and to its descendants if they are to be tracked; arms everything,
    /// and returns round 0, too.
    ///
    /// # Errors
    /// Whatever stands against tracking the process itself; it goes on as before then. A child that
    /// cannot be tracked is an event.
    pub fn begin(
        pid: u32,
        facts: StrategyFacts,
        options: TrackOptions,
        scope: TrackScope,
    ) -> Result<(Self, TrackRound), TrackError> {
        let (root, mut first) = TrackSession::begin(pid, facts.clone(), options.clone())?;
        let options = TrackOptions {
            strategy: Some(root.strategy()),
            ..options
        };
        let children = (scope == TrackScope::WithChildren).then(|| TrackedChildren {
            facts,
            options,
            sessions: BTreeMap::new(),
            refused: BTreeMap::new(),
        });
        let mut tree = Self { root, children };
        tree.add_children(&mut first);
        Ok((tree, first))
    }

    /// Who is tracked, and how: the process itself.
    #[must_use]
    pub const fn header(&self) -> &TrackHeader {
        self.root.header()
    }

    /// Tells whether the process itself lives.
    #[must_use]
    pub fn lifeline(&self) -> &ProcessLifeline {
        self.root.lifeline()
    }

    /// Each is readable once a round is wanted before it is due ([`TrackSession::early`]).
    #[must_use]
    pub fn early(&self) -> Vec<BorrowedFd<'_>> {
        let children = self.children.iter().flat_map(|all| all.sessions.values());
        let sessions = std::iter::once(&self.root).chain(children);
        sessions.filter_map(TrackSession::early).collect()
    }

    /// The session of one of them.
    #[must_use]
    pub fn session(&self, pid: u32) -> Option<&TrackSession> {
        if pid == self.header().pid {
            return Some(&self.root);
        }
        self.children.as_ref()?.sessions.get(&pid)
    }

    /// Makes a round of all. It ends with the process itself, whatever becomes of its children.
    ///
    /// # Errors
    /// As of [`TrackSession::step`] for the process itself.
    pub fn step(&mut self) -> Result<TrackStep, TrackError> {
        let mut step = self.root.step()?;
        if let TrackStep::Round(round) = &mut step {
            self.add_children(round);
        }
        Ok(step)
    }

    /// Ends all sessions: everything is disarmed and nobody waits.
    ///
    /// # Errors
    /// As of [`TrackSession::end`], after all were ended.
    pub fn end(self) -> Result<(), TrackError> {
        let sessions = self.children.map(|children| children.sessions);
        let ended = sessions
            .into_iter()
            .flat_map(BTreeMap::into_values)
            .map(TrackSession::end);
        let ended = ended.fold(Ok(()), Result::and);
        self.root.end().and(ended)
    }

    fn add_children(&mut self, round: &mut TrackRound) {
        let Some(children) = &mut self.children else {
            return;
        };
        let began = Instant::now();
        children.step(round);
        children.find(self.root.header().pid, round);
        round.took += began.elapsed();
    }
}

impl TrackedChildren {
    /// Makes a round of those that are tracked.
    fn step(&mut self, round: &mut TrackRound) {
        self.sessions.retain(|pid, session| match session.step() {
            Ok(TrackStep::Round(own)) => {
                add(round, session.header(), own);
                true
            }
            Ok(TrackStep::Exited) => {
                round.events.push(SessionEvent::ChildEnded { pid: *pid });
                false
            }
            Err(error) => {
                let (pid, reason) = (*pid, error.to_string());
                round.events.push(SessionEvent::ChildLost { pid, reason });
                false
            }
        });
    }

    /// Attaches to those that are new.
    fn find(&mut self, root: u32, round: &mut TrackRound) {
        let known: BTreeSet<u32> = self.sessions.keys().copied().chain([root]).collect();
        let found = descendants(&known, &processes());
        self.refused.retain(|key, _| found.contains(key));
        for key in found {
            let again = self
                .refused
                .get(&key)
                .is_none_or(|refused| round.number >= refused + RETRY);
            // One that shares all memory is tracked as its parent; so is a child of vfork(2) until
            // it executes its program.
            if !again || shares_memory_with_parent(key.pid) {
                continue;
            }
            self.attach(key, round);
        }
    }

    fn attach(&mut self, key: ChildKey, round: &mut TrackRound) {
        let pid = key.pid;
        match TrackSession::begin(pid, self.facts.clone(), self.options.clone()) {
            Ok((session, first)) => {
                let comm = session.header().comm.clone();
                round.events.push(SessionEvent::ChildFollowed { pid, comm });
                add(round, session.header(), first);
                self.refused.remove(&key);
                self.sessions.insert(pid, session);
            }
            Err(error) if error.is_the_end() => (),
            Err(error) => {
                if self.refused.insert(key, round.number).is_none() {
                    let reason = error.to_string();
                    round.events.push(SessionEvent::ChildLost { pid, reason });
                }
            }
        }
    }
}

/// Adds what a child's round tells.
fn add(round: &mut TrackRound, header: &TrackHeader, own: TrackRound) {
    for (reason, pages) in own.not_looked_at.iter() {
        round.not_looked_at.add(reason, pages);
    }
    let pid = header.pid;
    let events = own.events.into_iter();
    round
        .events
        .extend(events.map(|event| SessionEvent::OfChild {
            pid,
            event: Box::new(event),
        }));
    round.children.push(ProcessRound {
        pid,
        comm: header.comm.clone(),
        mappings: own.mappings,
    });
}

/// All processes with their parents. One that ends meanwhile is none.
fn processes() -> Vec<(ChildKey, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let process = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = uffd::stat(pid).ok()?;
        let start = stat.start_time;
        Some((ChildKey { pid, start }, stat.parent))
    };
    entries.filter_map(process).collect()
}

/// Those that descend from `known` and are not among them, by pid.
fn descendants(known: &BTreeSet<u32>, processes: &[(ChildKey, u32)]) -> BTreeSet<ChildKey> {
    let mut family = known.clone();
    loop {
        let before = family.len();
        let born = processes
            .iter()
            .filter(|(_, parent)| family.contains(parent));
        let born: Vec<u32> = born.map(|(key, _)| key.pid).collect();
        family.extend(born);
        if family.len() == before {
            break;
        }
    }
    let keys = processes.iter().map(|(key, _)| *key);
    keys.filter(|key| family.contains(&key.pid) && !known.contains(&key.pid))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_children_descend_and_strangers_do_not() {
        let process = |pid, parent| (ChildKey { pid, start: 9 }, parent);
        let all = [
            process(1, 0),
            process(50, 7),
            process(7, 5),
            process(5, 1),
            process(8, 5),
            process(9, 1),
        ];
        let found = descendants(&BTreeSet::from([5]), &all);
        let pids: Vec<_> = found.iter().map(|key| key.pid).collect();
        assert_eq!(pids, [7, 8, 50]);
        let found = descendants(&BTreeSet::from([5, 7]), &all);
        let pids: Vec<_> = found.iter().map(|key| key.pid).collect();
        assert_eq!(pids, [8, 50]);
    }
}
