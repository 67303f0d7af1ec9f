//! One process, tracked round by round.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use uffd::{ProcessGone, unless_unseen};

use super::attach::{self, AttachTries, AttachedProcess, TrackOptions};
use super::model::{MappingRound, TrackHeader, TrackRound};
use super::space::TrackedSpace;
use super::{SessionEvent, TrackError, TrackNote, UntrackedMapping};
use crate::inject::{ProcessLife, ProcessLifeline};
use crate::strategy::{StrategyFacts, StrategyName};

/// What a step came to.
#[derive(Debug)]
pub enum TrackStep {
    /// A complete round.
    Round(TrackRound),
    /// The process has ended.
    Exited,
}

/// A tracked process. Dropping it disarms everything; so does the kernel if this process is killed.
pub struct TrackSession {
    pid: u32,
    options: TrackOptions,
    facts: StrategyFacts,
    header: TrackHeader,
    space: TrackedSpace,
    began: Instant,
    last: Instant,
    number: u64,
    /// How many programs the process has executed since it began.
    executed: u64,
    /// What the next round tells.
    events: Vec<SessionEvent>,
    /// In which round the better strategy is tried again that the present one stands in for.
    better_in: Option<u64>,
    /// It was told that the program executed last cannot be attached to.
    waits: bool,
}

/// What became of attaching after an exec.
enum AttachOutcome {
    /// Attached.
    Attached,
    /// The process has ended meanwhile.
    Ended,
    /// The next round tries again.
    Later,
}

/// How long the memory of a process that lives may be unreadable.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one of many attempts to attach may wait for a better moment.
const SHORT_PATIENCE: Duration = Duration::from_millis(100);
/// Every so many rounds, a better strategy is tried.
const RETRY: u64 = 8;

impl TrackSession {
    /// Attaches to a process, arms everything, and returns the session with round 0.
    ///
    /// # Errors
    /// Whatever stands against it; the process goes on as before then.
    pub fn begin(
        pid: u32,
        facts: StrategyFacts,
        options: TrackOptions,
    ) -> Result<(Self, TrackRound), TrackError> {
        let kernel = TrackError::kernel(pid);
        let attached = attach::attach(pid, &facts, &options, AttachTries::Several)?;
        let comm = uffd::comm(pid).map_err(kernel)?;
        let command = unless_unseen(uffd::arguments(pid)).map_err(kernel)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let header = TrackHeader {
            pid,
            comm: text(comm),
            command: command.unwrap_or_default().into_iter().map(text).collect(),
            strategy: attached.strategy.name().to_string(),
            reason: attached.reason.clone(),
            interval: options.interval,
            began: SystemTime::now(),
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            tracker: options.tracker.to_owned(),
            stopped: attached.stopped,
            notes: attached.notes.clone(),
        };
        let now = Instant::now();
        let better_in = attached.stands_in.then_some(RETRY);
        let space =
            TrackedSpace::open(pid, &facts, attached, options.max_mapping).map_err(kernel)?;
        let mut session = Self {
            pid,
            options,
            facts,
            header,
            space,
            began: now,
            last: now,
            number: 0,
            executed: 0,
            events: Vec::new(),
            better_in,
            waits: false,
        };
        let TrackStep::Round(mut first) = session.step()? else {
            return Err(ProcessGone { pid }.into());
        };
        if first.mappings.iter().all(|row| row.pages.tracked == 0) {
            let untracked = session.space.untracked().to_vec();
            return Err(TrackError::Nothing { pid, untracked });
        }
        session.header.notes.extend(session.space.notes());
        let shared = first.shared();
        if shared != 0 && !session.strategy().reads_content() {
            let note = TrackNote::SharedMemory { pages: shared };
            session.header.notes.push(note);
        }
        // The notes have them already.
        first
            .events
            .retain(|event| !matches!(event, SessionEvent::PassedOver(_) | SessionEvent::More(_)));
        Ok((session, first))
    }

    /// The strategy that tracks it.
    #[must_use]
    pub fn strategy(&self) -> StrategyName {
        self.space.strategy.name()
    }

    /// Who is tracked, and how.
    #[must_use]
    pub const fn header(&self) -> &TrackHeader {
        &self.header
    }

    /// Makes a round: reads what was written since the last one, and arms it again.
    ///
    /// # Errors
    /// If the kernel refuses something, unless that is because the process ended.
    pub fn step(&mut self) -> Result<TrackStep, TrackError> {
        let pid = self.pid;
        let kernel = TrackError::kernel(pid);
        let begin = Instant::now();
        self.guard()?;
        self.take_better()?;
        loop {
            let began = Instant::now();
            let refused = match self.space.round() {
                Ok(mappings) => return Ok(TrackStep::Round(self.complete(began, mappings))),
                Err(error) => error,
            };
            match self.space.lifeline.life().map_err(kernel)? {
                ProcessLife::Ended => return Ok(TrackStep::Exited),
                ProcessLife::Replaced => match self.attach_again()? {
                    AttachOutcome::Attached => (),
                    AttachOutcome::Ended => return Ok(TrackStep::Exited),
                    AttachOutcome::Later => {
                        self.space.abandon().map_err(kernel)?;
                        return Ok(TrackStep::Round(self.complete(began, Vec::new())));
                    }
                },
                ProcessLife::Same => {
                    if !refused.is_unseen() {
                        return Err(kernel(refused));
                    }
                    if begin.elapsed() > PATIENCE {
                        return Err(TrackError::Unreadable(pid));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// Makes sure that the process is guarded, unless it is gone, as the round will tell.
    fn guard(&mut self) -> Result<(), TrackError> {
        match self.space.renew_guard() {
            Err(error) if !error.is_gone() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn complete(&mut self, began: Instant, mappings: Vec<MappingRound>) -> TrackRound {
        self.events.append(&mut self.space.take_events());
        let round = TrackRound {
            number: self.number,
            at: began - self.began,
            lasted: began - self.last,
            took: began.elapsed(),
            mappings,
            children: Vec::new(),
            not_looked_at: self.space.untracked_pages(),
            events: std::mem::take(&mut self.events),
            mapping_count: self.space.mapping_count(),
        };
        self.last = began;
        self.number += 1;
        round
    }

    /// Ends the session: everything is disarmed and nobody waits.
    ///
    /// # Errors
    /// If the kernel refuses to disarm something that is still there; closing the descriptor, which
    /// follows, disarms it.
    pub fn end(self) -> Result<(), TrackError> {
        let pid = self.pid;
        self.space
            .strategy
            .release()
            .map_err(TrackError::kernel(pid))
    }

    /// From now on leaves memory to the userfaultfd of another tracker, once it was seen to belong
    /// to one: it is not tried again, whether or not it is given up for a while.
    pub const fn leave_others(&mut self) {
        self.space.leaves_others = true;
    }

    /// What was tracked before the last round and is no longer mapped as it was: unmapped, or
    /// another mapping by now.
    #[must_use]
    pub fn gone(&self) -> &[std::ops::Range<u64>] {
        self.space.gone()
    }

    /// What was not looked at in the last round, mapping by mapping.
    #[must_use]
    pub fn untracked(&self) -> &[UntrackedMapping] {
        self.space.untracked()
    }

    /// What was armed for the first time in the last round; nobody knows what was written there
    /// before.
    #[must_use]
    pub fn fresh(&self) -> &[std::ops::Range<u64>] {
        self.space.fresh()
    }

    /// Whether all memory was given back at the end of the last round, for a userfaultfd of the
    /// process's own. A later round arms it anew.
    #[must_use]
    pub const fn gave_back(&self) -> bool {
        self.space.gave_back()
    }

    /// Readable once a round is wanted before it is due: the process has created a userfaultfd, and
    /// registers in vain until its memory is given back.
    #[must_use]
    pub fn early(&self) -> Option<BorrowedFd<'_>> {
        self.space.early()
    }

    /// How many programs the process has executed since it began; each has another address space.
    #[must_use]
    pub const fn executed(&self) -> u64 {
        self.executed
    }

    /// Tells whether the process lives; its pidfd is readable once the process has ended.
    #[must_use]
    pub fn lifeline(&self) -> &ProcessLifeline {
        &self.space.lifeline
    }

    /// Takes the better strategy that the present one stands in for, if the process can be stopped
    /// by now.
    fn take_better(&mut self) -> Result<(), TrackError> {
        if self.better_in.is_none_or(|round| self.number < round) {
            return Ok(());
        }
        self.better_in = Some(self.number + RETRY);
        let mut options = self.options.clone();
        options.inject.patience = SHORT_PATIENCE;
        // What stands against it, the round that follows meets, too.
        let Ok(attached) = attach::attach(self.pid, &self.facts, &options, AttachTries::Once)
        else {
            return Ok(());
        };
        if attached.stands_in {
            return Ok(());
        }
        self.better_in = None;
        let (strategy, stopped) = (attached.strategy.name(), attached.stopped);
        if !self.open_space(attached)? {
            return Ok(());
        }
        self.events.push(SessionEvent::BetterStrategy {
            strategy,
            stopped: stopped.unwrap_or_default(),
        });
        Ok(())
    }

    /// Goes on in the address space that the process has now; false: it has none any more.
    fn open_space(&mut self, attached: AttachedProcess) -> Result<bool, TrackError> {
        let space = TrackedSpace::open(self.pid, &self.facts, attached, self.options.max_mapping);
        let space = unless_unseen(space).map_err(TrackError::kernel(self.pid))?;
        let Some(mut space) = space else {
            return Ok(false);
        };
        space.leaves_others = self.space.leaves_others;
        self.space = space;
        Ok(true)
    }

    /// Attaches after an exec.
    fn attach_again(&mut self) -> Result<AttachOutcome, TrackError> {
        let pid = self.pid;
        let kernel = TrackError::kernel(pid);
        let mut options = self.options.clone();
        // The rounds before and after must mean the same.
        options.strategy = Some(self.strategy());
        if self.waits {
            options.inject.patience = SHORT_PATIENCE;
        }
        let attached = match attach::attach(pid, &self.facts, &options, AttachTries::Once) {
            Ok(attached) => attached,
            // It has neither its old memory nor a new one: it is on its way out.
            Err(error) if error.is_the_end() => return Ok(AttachOutcome::Ended),
            Err(_) if matches!(self.space.lifeline.life(), Ok(ProcessLife::Ended)) => {
                return Ok(AttachOutcome::Ended);
            }
            Err(error) if error.may_pass() => {
                if !std::mem::replace(&mut self.waits, true) {
                    let reason = error.to_string();
                    self.events.push(SessionEvent::NotAttached { reason });
                }
                return Ok(AttachOutcome::Later);
            }
            Err(error) => return Err(error),
        };
        self.waits = false;
        let stopped = attached.stopped.unwrap_or_default();
        if !self.open_space(attached)? {
            return Ok(AttachOutcome::Ended);
        }
        self.executed += 1;
        let comm = unless_unseen(uffd::comm(pid)).map_err(kernel)?;
        self.events.push(SessionEvent::Executed {
            comm: String::from_utf8_lossy(&comm.unwrap_or_default()).into_owned(),
            stopped,
        });
        Ok(AttachOutcome::Attached)
    }
}
