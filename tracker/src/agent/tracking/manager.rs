//! The thread that looks for processes and has them attached to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::Scope;
use std::time::Duration;

use super::choose::{Choice, Situation, choose};
use super::find::{Match, find};
use super::ledger::Work;
use super::worker::Worker;
use super::{How, Tracking, budget};
use crate::agent::pace::{children_cpu_time, rest, thread_cpu_time};
use crate::agent::stop::Stop;
use crate::model::sample::ProcessKey;

/// How often it is seen to that the agent is not to stop while a process is attached to.
const GLANCE: Duration = Duration::from_millis(50);

/// Runs until the agent stops; returns when every process is let go.
pub fn run(tracking: &Tracking, how: &How, stop: &Stop, interval: Duration) {
    std::thread::scope(|scope| {
        let mut manager = Manager {
            tracking,
            how,
            stop,
            interval,
            workers: BTreeMap::new(),
        };
        while stop.sleep(manager.turn(scope)) {}
        // All at once, then the scope waits for them.
        for worker in manager.workers.values() {
            worker.end();
        }
    });
}

struct Manager<'scope, 'env> {
    tracking: &'env Tracking,
    how: &'env How,
    stop: &'env Stop,
    interval: Duration,
    workers: BTreeMap<ProcessKey, Worker<'scope>>,
}

impl<'scope, 'env> Manager<'scope, 'env> {
    /// Looks once, and attaches to at most one process; returns for how long to rest.
    fn turn(&mut self, scope: &'scope Scope<'scope, 'env>) -> Duration {
        let now = self.tracking.now();
        let over = self.workers.extract_if(.., |_, worker| worker.is_over());
        for (key, _) in over {
            self.tracking.ledger().lost(key, now, self.interval);
        }
        let began = thread_cpu_time();
        let (next, more) = self.look();
        let selecting = thread_cpu_time().saturating_sub(began);
        self.tracking.ledger().spent(Work::Select, selecting, None);
        let attaching = next.map_or(Duration::ZERO, |next| self.attach(scope, &next));
        let cost = selecting + attaching;
        let share = self.tracking.config.budget * budget::OVERHEAD;
        let least = if more { Duration::ZERO } else { self.interval };
        let pause = rest(cost, share).max(least);
        self.tracking
            .ledger()
            .reserve(cost.as_secs_f64() / pause.as_secs_f64().max(1e-9));
        pause
    }

    /// Decides; returns the next process to attach to, and whether there are more.
    fn look(&self) -> (Option<Match>, bool) {
        let matching = match find(
            &self.tracking.config.selectors,
            &self.tracking.config.explain,
        ) {
            Ok(matching) => matching,
            Err(error) => {
                tracing::error!("cannot look for processes to track: {error}");
                return (None, false);
            }
        };
        let now = self.tracking.now();
        let mut ledger = self.tracking.ledger();
        ledger.matching(&matching);
        // Also if nobody scrapes.
        ledger.forget(now, self.tracking.config.linger);
        let refused: BTreeMap<_, _> = ledger
            .refusals()
            .iter()
            .map(|(key, refusal)| (*key, refusal.until))
            .collect();
        let keys: Vec<_> = matching.iter().map(|process| process.key).collect();
        let Choice {
            let_go,
            attach,
            over,
        } = choose(&Situation {
            matching: &keys,
            tracked: &self.workers.keys().copied().collect(),
            refused: &refused,
            most: self.tracking.config.most,
            now,
        });
        let over: BTreeSet<_> = over.into_iter().collect();
        let left_out = matching
            .iter()
            .filter(|process| over.contains(&process.key));
        ledger.leave_out(left_out.cloned().collect());
        drop(ledger);
        for worker in let_go.iter().filter_map(|key| self.workers.get(key)) {
            worker.let_go();
        }
        let next = attach.first();
        let next = matching
            .into_iter()
            .find(|process| Some(&process.key) == next);
        (next, attach.len() > 1)
    }

    /// Attaches to a process; returns what that took.
    fn attach(&mut self, scope: &'scope Scope<'scope, 'env>, process: &Match) -> Duration {
        let children = children_cpu_time();
        let (worker, begun) = match Worker::start(scope, self.tracking, self.how, process) {
            Ok(started) => started,
            Err(error) => {
                tracing::error!(
                    "cannot start a thread to track process {}: {error}",
                    process.key.pid
                );
                return Duration::ZERO;
            }
        };
        self.workers.insert(process.key, worker);
        let cost = loop {
            match begun.recv_timeout(GLANCE) {
                Ok(cost) => break cost,
                Err(RecvTimeoutError::Timeout) if !self.stop.is_stopped() => (),
                Err(_) => break Duration::ZERO,
            }
        };
        // The helper process has been waited for by now.
        let helper = children_cpu_time().saturating_sub(children);
        self.tracking
            .ledger()
            .spent(Work::Attach, cost + helper, Some(process.key));
        cost + helper
    }
}
