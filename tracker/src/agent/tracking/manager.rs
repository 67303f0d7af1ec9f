//! The thread that looks for processes and attaches to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::choose::{AttachCandidate, AttachChoice, AttachSituation, choose};
use super::find::{FoundProcesses, SelectedProcess, find};
use super::ledger::TrackingWork;
use super::refusal::RefusalReason;
use super::worker::TrackingWorker;
use super::{ProcessTracking, TrackingMeans, budget};
use crate::agent::loops::LoopClock;
use crate::agent::pace::{children_cpu_time, rest, thread_cpu_time};
use crate::agent::stop::StopSignal;
use crate::model::ProcessKey;
use uffd::UffdError;

/// How often to check for a stop while attaching.
const GLANCE: Duration = Duration::from_millis(50);

/// How long the others wait for a process to be attached to.
const LONG: Duration = Duration::from_secs(30);

/// How many of those that are left out the log names at a time.
const NAMED: usize = 8;

/// Runs until the agent stops; returns when every process has been let go.
pub fn run(
    tracking: &ProcessTracking,
    means: &TrackingMeans,
    stop: &StopSignal,
    clock: &LoopClock,
    interval: Duration,
) {
    std::thread::scope(|scope| {
        let mut manager = TrackingManager {
            tracking,
            means,
            stop,
            interval,
            workers: BTreeMap::new(),
        };
        // From now on: the first turn, too, may wait for something for ever.
        clock.promise(Duration::ZERO);
        while clock.sleep(stop, manager.turn(scope)) {}
        // All of them at once; the scope then waits for them.
        for worker in manager.workers.values() {
            worker.end();
        }
    });
}

struct TrackingManager<'scope, 'env> {
    tracking: &'env ProcessTracking,
    means: &'env TrackingMeans,
    stop: &'env StopSignal,
    interval: Duration,
    workers: BTreeMap<ProcessKey, TrackingWorker<'scope>>,
}

impl<'scope, 'env> TrackingManager<'scope, 'env> {
    /// Looks once, and attaches to at most one process; returns how long to rest.
    fn turn(&mut self, scope: &'scope Scope<'scope, 'env>) -> Duration {
        let now = self.tracking.now();
        let over = self.workers.extract_if(.., |_, worker| worker.is_over());
        for (key, _) in over {
            self.tracking.ledger().lost(key, now, self.interval);
        }
        let began = thread_cpu_time();
        let (next, more) = self.look();
        let selecting = thread_cpu_time().saturating_sub(began);
        self.tracking
            .ledger()
            .spent(TrackingWork::Select, selecting, None);
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
    fn look(&self) -> (Option<SelectedProcess>, bool) {
        let FoundProcesses {
            selected: matching,
            hidden,
        } = match find(
            &self.tracking.config.selectors,
            &self.tracking.config.explain,
        ) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!("cannot look for processes to track: {error}");
                return (None, false);
            }
        };
        let now = self.tracking.now();
        let mut ledger = self.tracking.ledger();
        ledger.matching(&matching);
        for pid in ledger.hidden(hidden) {
            let error = UffdError::Hidden { pid };
            tracing::warn!(pid, "not tracked: {error}");
        }
        // Here, too, in case nobody scrapes.
        ledger.forget(now, self.tracking.config.linger);
        let refused: BTreeMap<_, _> = ledger
            .refusals()
            .iter()
            .map(|(key, refusal)| (*key, refusal.until))
            .collect();
        let candidates: Vec<_> = matching.iter().map(AttachCandidate::from).collect();
        let AttachChoice {
            let_go,
            attach,
            over,
        } = choose(&AttachSituation {
            matching: &candidates,
            tracked: &self.workers.keys().copied().collect(),
            refused: &refused,
            most: self.tracking.config.most,
            now,
        });
        let over: BTreeSet<_> = over.into_iter().collect();
        let left_out = matching
            .iter()
            .filter(|process| over.contains(&process.key));
        let new = ledger.leave_out(left_out.cloned().collect());
        let all = ledger.over().len();
        drop(ledger);
        self.tell_left_out(&new, all);
        for worker in let_go.iter().filter_map(|key| self.workers.get(key)) {
            worker.let_go();
        }
        let next = attach.first();
        let next = matching
            .into_iter()
            .find(|process| Some(&process.key) == next);
        (next, attach.len() > 1)
    }

    /// Tells who is left out from now on, of so many that are.
    fn tell_left_out(&self, new: &[SelectedProcess], all: usize) {
        if new.is_empty() {
            return;
        }
        let names = new.iter().take(NAMED).map(SelectedProcess::named);
        let names = names.collect::<Vec<_>>().join(", ");
        let further = new.len().saturating_sub(NAMED);
        tracing::warn!(
            further,
            "{all} processes that match are not tracked, for --track-max is {}: now also {names}",
            self.tracking.config.most
        );
    }

    /// Attaches to a process; returns the CPU time that took.
    fn attach(
        &mut self,
        scope: &'scope Scope<'scope, 'env>,
        process: &SelectedProcess,
    ) -> Duration {
        let children = children_cpu_time();
        let (worker, begun) = match TrackingWorker::start(scope, self.tracking, self.means, process)
        {
            Ok(started) => started,
            Err(error) => {
                let message = format!("cannot start a thread to track it: {error}");
                tracing::error!(pid = process.key.pid, "{message}");
                let (now, first) = (self.tracking.now(), self.tracking.config.retry);
                let reason = RefusalReason::Unexpected;
                let mut ledger = self.tracking.ledger();
                ledger.refused(process, reason, message, now, first);
                return Duration::ZERO;
            }
        };
        self.workers.insert(process.key, worker);
        let began = Instant::now();
        let cost = loop {
            match begun.recv_timeout(GLANCE) {
                Ok(cost) => break cost,
                Err(RecvTimeoutError::Timeout) if began.elapsed() > LONG => {
                    let (pid, waited) = (process.key.pid, LONG.as_secs());
                    tracing::warn!(pid, "not attached after {waited} s; the others go on");
                    break Duration::ZERO;
                }
                Err(RecvTimeoutError::Timeout) if !self.stop.is_stopped() => (),
                Err(_) => break Duration::ZERO,
            }
        };
        // The helper process has been waited for by now.
        let helper = children_cpu_time().saturating_sub(children);
        self.tracking
            .ledger()
            .spent(TrackingWork::Attach, cost + helper, Some(process.key));
        cost + helper
    }
}
