//! The thread that tracks one process.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::find::SelectedProcess;
use super::ledger::IntervalNews;
use super::refusal::RefusalReason;
use super::{ProcessTracking, TrackingMeans, explained};
use crate::agent::discovery::key_of;
use crate::agent::pace::thread_cpu_time;
use crate::agent::stop::StopSignal;
use crate::explain::{ExplainOptions, ProcessExplainer, ProcessStep, ReportsAsked};
use crate::metrics::{ExplainedTotals, label};
use pages::inject::{InjectOptions, ProcessLifeline, share_memory};
use pages::track::{TrackError, TrackHeader, TrackOptions, TrackRound, TrackSession, TrackStep};

/// How often to check whether the process has ended.
const GLANCE: Duration = Duration::from_millis(500);

/// How long each of three tries to attach waits for a better moment: others wait for their turn
/// meanwhile, and who refuses is tried again later.
const PATIENCE: Duration = Duration::from_millis(700);

/// At most this many refusals are logged one by one.
const LOGGED: usize = 32;

/// A thread that tracks one process, as others see it.
pub struct TrackingWorker<'scope> {
    stop: StopSignal,
    last_round: Arc<AtomicBool>,
    thread: ScopedJoinHandle<'scope, ()>,
}

impl<'scope> TrackingWorker<'scope> {
    /// Starts a thread. The receiver gets the CPU time of attaching, once that is over.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        tracking: &'env ProcessTracking,
        means: &'env TrackingMeans,
        process: &SelectedProcess,
    ) -> io::Result<(Self, Receiver<Duration>)> {
        let (stop, last_round) = (StopSignal::default(), Arc::new(AtomicBool::new(false)));
        let (sender, receiver) = channel();
        let job = TrackingJob {
            tracking,
            process: process.clone(),
            stop: stop.clone(),
            last_round: last_round.clone(),
        };
        let thread = Builder::new()
            .name(format!("track-{}", process.key.pid))
            .spawn_scoped(scope, move || job.run(means, &sender))?;
        let worker = Self {
            stop,
            last_round,
            thread,
        };
        Ok((worker, receiver))
    }

    /// Whether it is done with its process.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it at once.
    pub fn end(&self) {
        self.stop.stop();
    }

    /// Ends it after one more round.
    pub fn let_go(&self) {
        self.last_round.store(true, Ordering::Release);
        self.stop.stop();
    }
}

/// What the thread does.
struct TrackingJob<'env> {
    tracking: &'env ProcessTracking,
    process: SelectedProcess,
    stop: StopSignal,
    last_round: Arc<AtomicBool>,
}

/// A process that is only tracked, or explained, too.
enum FollowedProcess<'env> {
    Tracked(Box<TrackSession>),
    Explained(Box<ProcessExplainer<'env>>),
}

impl<'env> FollowedProcess<'env> {
    fn begin(
        job: &TrackingJob<'env>,
        means: &TrackingMeans,
    ) -> Result<(Self, TrackRound), TrackError> {
        let (pid, config) = (job.process.key.pid, &job.tracking.config);
        let track = TrackOptions {
            strategy: Some(means.strategy),
            detailed: false,
            max_mapping: pages::track::MAX_MAPPING,
            interval: config.interval,
            tracker: crate::VERSION,
            inject: InjectOptions {
                patience: PATIENCE,
                ..InjectOptions::default()
            },
        };
        if !job.process.explained {
            let (session, first) = TrackSession::begin(pid, means.facts.clone(), track)?;
            return Ok((Self::Tracked(Box::new(session)), first));
        }
        let options = ExplainOptions {
            track,
            content_limit: config.content_limit,
            page: None,
            against: None,
            freeze: false,
            findings: None,
        };
        let hub = job.tracking.hub.as_ref();
        let facts = means.facts.clone();
        let mut explainer = ProcessExplainer::begin(pid, facts, hub, options, ReportsAsked::Both)?;
        let first = explainer.take_first();
        Ok((Self::Explained(Box::new(explainer)), first))
    }

    fn header(&self) -> Option<&TrackHeader> {
        match self {
            Self::Tracked(session) => Some(session.header()),
            Self::Explained(explainer) => explainer.header(),
        }
    }

    fn lifeline(&self) -> &ProcessLifeline {
        match self {
            Self::Tracked(session) => session.lifeline(),
            Self::Explained(explainer) => explainer.lifeline(),
        }
    }

    /// Readable once a round is wanted before it is due.
    fn early(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tracked(session) => session.early(),
            Self::Explained(explainer) => explainer.early(),
        }
    }

    /// Makes a round; `None` if the process has ended.
    fn step(&mut self) -> Result<Option<(TrackRound, Option<ExplainedTotals>)>, TrackError> {
        match self {
            Self::Tracked(session) => Ok(match session.step()? {
                TrackStep::Round(round) => Some((round, None)),
                TrackStep::Exited => None,
            }),
            Self::Explained(explainer) => {
                let ProcessStep::Round { ours, theirs } = explainer.step()? else {
                    return Ok(None);
                };
                let sampling = explainer.sampling();
                let totals = explained::of_round(ours.as_deref(), theirs.as_deref(), sampling);
                let round = match (ours, theirs) {
                    (Some(ours), _) => ours.round,
                    // Of what is observed nothing is tracked.
                    (None, theirs) => {
                        theirs.map_or_else(TrackRound::default, |theirs| TrackRound {
                            mappings: Vec::new(),
                            ..theirs.round
                        })
                    }
                };
                Ok(Some((round, Some(totals))))
            }
        }
    }

    fn end(self) -> Result<(), TrackError> {
        match self {
            Self::Tracked(session) => session.end(),
            Self::Explained(explainer) => explainer.end().map(drop),
        }
    }
}

/// What a wait ended with.
enum WaitEnd {
    Due,
    Exit,
    Stop,
}

impl<'env> TrackingJob<'env> {
    fn run(&self, means: &TrackingMeans, begun: &Sender<Duration>) {
        let cpu = thread_cpu_time();
        let session = self.begin(means);
        // The manager may no longer wait for it.
        let _ = begun.send(thread_cpu_time().saturating_sub(cpu));
        let Some(mut session) = session else {
            return;
        };
        let result = self.rounds(&mut session);
        // What it armed stays armed until then.
        let result = result.and(session.end());
        self.tracking
            .ledger()
            .ended(self.process.key, self.tracking.now());
        match result {
            Ok(()) => tracing::info!("{}: no longer tracked", self.name()),
            Err(error) => self.refused(&error),
        }
    }

    fn begin(&self, means: &TrackingMeans) -> Option<FollowedProcess<'env>> {
        let (session, first) = match FollowedProcess::begin(self, means) {
            Ok(begun) => begun,
            Err(error) => {
                self.refused(&error);
                return None;
            }
        };
        // The pid may be another process's by now; the next look finds that one.
        if !self.is_there() {
            return None;
        }
        let header = session.header()?;
        tracing::info!(
            strategy = header.strategy,
            "{}: tracked, as {} says; stopped for {:.2} ms to attach",
            self.name(),
            self.process.selector,
            header.stopped.unwrap_or_default().as_secs_f64() * 1e3
        );
        for note in &header.notes {
            tracing::debug!("{}: {note}", self.name());
        }
        self.tracking
            .ledger()
            .attached(&self.process, header, &first);
        Some(session)
    }

    /// Until the process ends or is to be let go.
    fn rounds(&self, session: &mut FollowedProcess<'_>) -> Result<(), TrackError> {
        let mut due = Instant::now() + self.tracking.config.interval;
        loop {
            let last = match self.wait(due, session) {
                WaitEnd::Due | WaitEnd::Exit => false,
                WaitEnd::Stop if self.last_round.load(Ordering::Acquire) => true,
                WaitEnd::Stop => return Ok(()),
            };
            let (began, cpu) = (Instant::now(), thread_cpu_time());
            let Some((round, totals)) = session.step()? else {
                return Ok(());
            };
            if let Some(totals) = totals {
                self.tracking.ledger().explained(self.process.key, &totals);
            }
            let interval = self.count(&round, thread_cpu_time().saturating_sub(cpu));
            if last {
                return Ok(());
            }
            due = began + interval;
        }
    }

    /// Counts a round; returns the time to the next.
    fn count(&self, round: &TrackRound, cost: Duration) -> Duration {
        for event in &round.events {
            tracing::info!("{}: {event}", self.name());
        }
        let wanted = self.tracking.config.interval;
        let next = self.tracking.ledger().round(self.process.key, round, cost);
        let Some(next) = next else {
            return wanted;
        };
        match next.news {
            Some(IntervalNews::Longer) => tracing::warn!(
                "{}: a round took {:.1} ms of CPU, more than its part of --track-budget {}% allows \
                 every {wanted:?}: the next comes after {:.2?}",
                self.name(),
                cost.as_secs_f64() * 1e3,
                self.tracking.config.budget * 100.0,
                next.interval
            ),
            Some(IntervalNews::AsAsked) => {
                tracing::info!("{}: rounds come every {wanted:?} again", self.name())
            }
            None => (),
        }
        next.interval
    }

    fn wait(&self, due: Instant, session: &FollowedProcess<'_>) -> WaitEnd {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if !self.stop.sleep(left.min(GLANCE)) {
                return WaitEnd::Stop;
            }
            if left <= GLANCE {
                return WaitEnd::Due;
            }
            let mut fds = vec![PollFd::new(session.lifeline().pidfd(), PollFlags::IN)];
            let early = session.early();
            fds.extend(early.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            let at_once = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // If that cannot be asked, the next round will tell.
            if !matches!(poll(&mut fds, Some(&at_once)), Ok(ready) if ready > 0) {
                continue;
            }
            let has_ended = fds.first().is_some_and(|end| !end.revents().is_empty());
            return if has_ended {
                WaitEnd::Exit
            } else {
                WaitEnd::Due
            };
        }
    }

    fn refused(&self, error: &TrackError) {
        let Some(reason) = RefusalReason::of(error) else {
            return;
        };
        // Whatever it looked like: a process that has ended refuses nothing.
        if !self.is_there() {
            return;
        }
        let mut message = error.to_string();
        if let (RefusalReason::Nothing, Some(other)) = (reason, self.with_one_memory()) {
            message += &format!("; it has the memory of process {other}, which is tracked");
        }
        let first = self.tracking.config.retry;
        let mut ledger = self.tracking.ledger();
        let new = ledger.refused(
            &self.process,
            reason,
            message.clone(),
            self.tracking.now(),
            first,
        );
        let many = ledger.refusals().len() > LOGGED;
        drop(ledger);
        let reason = reason.as_str();
        match (new, many) {
            (false, _) => tracing::debug!(reason, "{}: still not tracked: {message}", self.name()),
            (true, false) => tracing::warn!(reason, "{}: not tracked: {message}", self.name()),
            (true, true) => tracing::debug!(reason, "{}: not tracked: {message}", self.name()),
        }
    }

    /// Another process that is tracked and has the same memory, with its name.
    fn with_one_memory(&self) -> Option<String> {
        let own = self.process.key.pid;
        let tracked: Vec<_> = (self.tracking.ledger().rows())
            .filter(|row| row.is_live() && row.process.pid != own)
            .map(|row| (row.process.pid, label::text(&row.comm)))
            .collect();
        let mut tracked = tracked.into_iter();
        let (pid, comm) = tracked.find(|(other, _)| share_memory(own, *other))?;
        Some(format!("{pid} ({comm})"))
    }

    fn is_there(&self) -> bool {
        matches!(key_of(self.process.key.pid), Ok(key) if key == self.process.key)
    }

    fn name(&self) -> String {
        let comm = String::from_utf8_lossy(&self.process.comm);
        format!("process {} ({comm})", self.process.key.pid)
    }
}
