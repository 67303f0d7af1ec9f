//! One run of a program, or one look at a process, with one strategy or none.

use std::io;
use std::os::fd::AsFd;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pages::inject::{InjectOptions, LaunchedProgram, ProcessLifeline};
use pages::strategy::{StrategyFacts, StrategyName};
use pages::track::{MAX_MAPPING, TrackError, TrackOptions, TrackRound, TrackSession, TrackStep};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;
use uffd::UffdError;

use crate::probes::fault_time::FaultTimeProbes;

/// Why there are no numbers of a run.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnError {
    #[error("cannot start it: {0}")]
    Start(#[from] pages::inject::LaunchError),
    #[error(transparent)]
    Track(#[from] TrackError),
    #[error(transparent)]
    Kernel(#[from] UffdError),
    #[error("cannot wait for it: {0}")]
    Wait(#[from] io::Error),
    /// Only of a process that was there before.
    #[error("it has ended")]
    Ended,
}

/// The numbers of one run. Times are in nanoseconds, sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct OwnRun {
    /// From its first instruction to its end, or how long it was looked at.
    pub lasted: u64,
    /// Attaching and arming; 0 untracked.
    pub arm: u64,
    /// Page tables of all levels (`VmPTE`) that arming took.
    pub tables_armed: u64,
    /// The most page tables that were seen, round by round.
    pub tables_most: u64,
    /// Minor faults.
    pub faults: u64,
    /// How long each round took; none untracked.
    pub rounds: Vec<u64>,
    /// Pages of 4 KiB reported, summed up over all rounds.
    pub reported: u64,
    /// Pages of 4 KiB of those that were reported because an event was lost: nobody knows whether
    /// they were written.
    pub in_doubt: u64,
    /// Pages of 4 KiB tracked in the last round.
    pub tracked: u64,
    /// Pages of 4 KiB that were mapped in the last round and not looked at.
    pub not_looked_at: u64,
    /// How a program ended that was started: its status, or 128 and a signal.
    pub status: Option<i32>,
}

/// How runs are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnPace {
    /// Time from one round to the next.
    pub interval: Duration,
    /// How long a process is looked at that was there before.
    pub window: Duration,
}

/// Starts the program and follows it to its end.
pub(super) fn run_program(
    command: &[String],
    strategy: Option<StrategyName>,
    facts: &StrategyFacts,
    pace: OwnPace,
) -> Result<OwnRun, OwnError> {
    let mut words = command.iter();
    let mut program = Command::new(words.next().map_or("", String::as_str));
    program
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut launched = LaunchedProgram::start(program)?;
    let process = launched.pidfd()?;
    let mut followed = OwnProcess::begin(launched.pid(), strategy, facts, pace)?;
    let began = Instant::now();
    launched.go();
    let followed_to_the_end = followed.until_end(&process);
    if followed_to_the_end.is_err() {
        // Whatever it was: a program of ours is not left behind.
        launched.terminate();
    }
    followed_to_the_end?;
    followed.run.lasted = nanoseconds(began.elapsed());
    // It is a zombie until it is waited for, and keeps its counts.
    followed.count_faults(0)?;
    followed.run.status = Some(status(launched.wait()?));
    Ok(followed.run)
}

/// Looks at a process for a while.
pub(super) fn look_at(
    pid: u32,
    strategy: Option<StrategyName>,
    facts: &StrategyFacts,
    pace: OwnPace,
) -> Result<OwnRun, OwnError> {
    let process = ProcessLifeline::open(pid)?;
    let mut followed = OwnProcess::begin(pid, strategy, facts, pace)?;
    let before = uffd::stat(pid)?.minor_faults;
    let began = Instant::now();
    while began.elapsed() < pace.window {
        if followed.wait(process.pidfd())? || !followed.round()? {
            return Err(OwnError::Ended);
        }
    }
    followed.run.lasted = nanoseconds(began.elapsed());
    followed.count_faults(before)?;
    followed.end()
}

/// A process with its session, if it has one.
struct OwnProcess {
    pid: u32,
    session: Option<TrackSession>,
    interval: Duration,
    run: OwnRun,
}

impl OwnProcess {
    fn begin(
        pid: u32,
        strategy: Option<StrategyName>,
        facts: &StrategyFacts,
        pace: OwnPace,
    ) -> Result<Self, OwnError> {
        let mut followed = Self {
            pid,
            session: None,
            interval: pace.interval,
            run: OwnRun::default(),
        };
        let tables = uffd::page_table_bytes(pid)?.unwrap_or(0);
        let began = Instant::now();
        if strategy.is_some() {
            let options = TrackOptions {
                strategy,
                detailed: false,
                max_mapping: MAX_MAPPING,
                interval: pace.interval,
                tracker: crate::VERSION,
                inject: InjectOptions::default(),
            };
            let mut facts = facts.clone();
            // What is attached for one must not cost the next.
            let observed = facts.observer.is_some();
            facts.observer = observed.then(FaultTimeProbes::shared);
            let (session, _) = TrackSession::begin(pid, facts, options)?;
            followed.session = Some(session);
            followed.run.arm = nanoseconds(began.elapsed());
        }
        followed.look()?;
        followed.run.tables_armed = followed.run.tables_most.saturating_sub(tables);
        Ok(followed)
    }

    /// Makes rounds until the process has ended.
    fn until_end(&mut self, process: impl AsFd) -> Result<(), OwnError> {
        loop {
            let ended = self.wait(&process)?;
            if !self.round()? || ended {
                return Ok(());
            }
        }
    }

    /// Waits for the next round; returns whether the process has ended meanwhile.
    fn wait(&self, process: impl AsFd) -> io::Result<bool> {
        let until = Instant::now() + self.interval;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // What is too long for the kernel is as long as can be.
            let timeout = Timespec::try_from(left).ok();
            match poll(
                &mut [PollFd::new(&process, PollFlags::IN)],
                timeout.as_ref(),
            ) {
                Ok(ready) => return Ok(ready != 0),
                Err(Errno::INTR) => (),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes a round; returns false once the process has ended.
    fn round(&mut self) -> Result<bool, OwnError> {
        if let Some(session) = &mut self.session {
            match session.step()? {
                TrackStep::Round(round) => self.run.add(&round),
                TrackStep::Exited => return Ok(false),
            }
        }
        match self.look() {
            Err(error) if error.is_unseen() => Ok(false),
            seen => Ok(seen.map(|()| true)?),
        }
    }

    fn look(&mut self) -> Result<(), UffdError> {
        // A zombie has no page tables.
        let tables = uffd::page_table_bytes(self.pid)?.unwrap_or(0);
        self.run.tables_most = self.run.tables_most.max(tables);
        Ok(())
    }

    fn count_faults(&mut self, before: u64) -> Result<(), UffdError> {
        self.run.faults = uffd::stat(self.pid)?.minor_faults.saturating_sub(before);
        Ok(())
    }

    fn end(self) -> Result<OwnRun, OwnError> {
        self.session.map_or(Ok(()), TrackSession::end)?;
        Ok(self.run)
    }
}

impl OwnRun {
    fn add(&mut self, round: &TrackRound) {
        self.rounds.push(nanoseconds(round.took));
        let written = round.all_mappings().map(|row| row.pages.written);
        self.reported += written.sum::<u64>();
        self.in_doubt += round.in_doubt();
        self.tracked = round.tracked();
        self.not_looked_at = round.not_looked_at.total();
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn status(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).unwrap_or(-1)
}
