//! The one place where counters, discovery and scans meet the books, and where rows come from.

use super::discovery::{DiscoveryOutcome, rounded};
use super::orphans::OrphanRecords;
use super::probes::{AgentProbes, ProofResult, ProveHooks, ReadMissed};
use super::usage;
use crate::logging::LogLoss;
use crate::metrics::{
    AgentFacts, AgentUsage, BuildInfo, CollectorRun, HookRow, ProcessSight, ScrapeRows,
    TrackingRows,
};
use crate::model::{
    CollectionInput, CounterSnapshot, CounterSource, ScanResult, SeriesBooks, SeriesLimits,
    SeriesView, VmaDiscovery, VmaLabel,
};
use crate::probes::{CountAvailability, HookReport, HookState, ProbeReport};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What gathers numbers, as `uffdwp_scrape_collector_*` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgentCollector {
    /// The counters of the probes.
    Counters,
    /// The search for uffd-wp VMAs.
    Discovery,
    /// The background scan.
    Scan,
    /// The self-test of the hooks.
    SelfTest,
    /// What the agent itself uses.
    Process,
}

impl AgentCollector {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counters => "counters",
            Self::Discovery => "discovery",
            Self::Scan => "scan",
            Self::SelfTest => "self_test",
            Self::Process => "process",
        }
    }
}

/// Owns the books and the facts of the agent; shared by the threads that feed it and by http.
///
/// Locks are held to count or to copy rows, never while text is written.
pub struct AgentEngine {
    counting: Mutex<CountingState>,
    books: Mutex<SeriesBooks>,
    discovery: Mutex<Option<Arc<VmaDiscovery>>>,
    scans: Mutex<Vec<ScanResult>>,
    collectors: Mutex<BTreeMap<AgentCollector, CollectorRun>>,
    missed: Mutex<ReadMissed>,
    report: Mutex<ProbeReport>,
    availability: Mutex<CountAvailability>,
    prove: Mutex<ProveHooks>,
    proved_unix_seconds: Mutex<Option<f64>>,
    build: BuildInfo,
    started: Instant,
    start_unix_seconds: Option<f64>,
    /// Whether what the agent itself uses can be read; its failure is told once.
    usage_known: AtomicBool,
    complete: AtomicBool,
}

/// What only a collection touches.
struct CountingState {
    source: Box<dyn CounterSource>,
    orphans: OrphanRecords,
}

impl AgentEngine {
    /// An engine that has collected nothing yet.
    pub fn new(limits: SeriesLimits, probes: AgentProbes) -> Self {
        let AgentProbes {
            source,
            report,
            availability,
            missed,
            prove,
            ..
        } = probes;
        Self {
            counting: Mutex::new(CountingState {
                source,
                orphans: OrphanRecords::default(),
            }),
            books: Mutex::new(SeriesBooks::new(limits)),
            discovery: Mutex::default(),
            scans: Mutex::default(),
            collectors: Mutex::default(),
            missed: Mutex::new(missed),
            report: Mutex::new(report),
            availability: Mutex::new(availability),
            prove: Mutex::new(prove),
            proved_unix_seconds: Mutex::new(Some(unix_seconds())),
            build: build_info(),
            started: Instant::now(),
            start_unix_seconds: usage::started().ok(),
            usage_known: AtomicBool::new(true),
            complete: AtomicBool::new(false),
        }
    }

    /// The agent's clock: time since it started.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Reads all counters and adds what they gained to the books. Does not wait for the kernel.
    pub fn collect(&self) {
        // Held to the end: readings must reach the books in their order.
        let mut counting = lock(&self.counting);
        let CountingState { source, orphans } = &mut *counting;
        let begin = Instant::now();
        let snapshot = joinable(source.snapshot());
        let discovery = self.discovery();
        let scans = std::mem::take(&mut *lock(&self.scans));
        let releases = lock(&self.books).collect(&CollectionInput {
            snapshot: &snapshot,
            discovery: discovery.as_deref(),
            scans: &scans,
            now: self.now(),
        });
        source.release(&releases.vmas, &releases.mms);
        let orphans = discovery
            .as_ref()
            .and_then(|discovery| orphans.after(discovery, &snapshot));
        if let Some(orphans) = orphans {
            source.end(&orphans);
        }
        self.ran(AgentCollector::Counters, begin.elapsed(), true);
        if discovery.is_some() {
            self.complete.store(true, Ordering::Release);
        }
    }

    /// Reads what each hook missed: one file per program, so not in a scrape.
    pub fn read_missed(&self) {
        let missed = (lock(&self.missed))();
        lock(&self.report).note_missed(&missed);
    }

    /// Has every hook prove that it fires; what does not, counts as absent until it does.
    pub fn prove(&self) {
        let begin = Instant::now();
        let Some(ProofResult {
            report: mut new,
            availability,
            failure,
        }) = (lock(&self.prove))()
        else {
            return;
        };
        if let Some(why) = failure {
            tracing::warn!("the self-test failed, and what is known of the hooks is older: {why}");
            return self.ran(AgentCollector::SelfTest, begin.elapsed(), false);
        }
        let mut report = lock(&self.report);
        for (new, old) in new.hooks.iter_mut().zip(&report.hooks) {
            new.missed = old.missed;
        }
        tell_changes(&report, &new);
        let silent = new
            .hooks
            .iter()
            .any(|hook| hook.state == Some(HookState::Silent));
        *lock(&self.availability) = availability;
        *lock(&self.proved_unix_seconds) = Some(unix_seconds());
        *report = new;
        drop(report);
        self.ran(AgentCollector::SelfTest, begin.elapsed(), !silent);
    }

    /// Collects; returns everything that a scrape shows.
    pub fn scrape(
        &self,
        tracking: Option<TrackingRows>,
        sight: ProcessSight,
        vma_label: VmaLabel,
    ) -> ScrapeRows {
        self.collect();
        let usage = self.own_usage();
        ScrapeRows {
            counted: self.view(),
            vma_label,
            agent: self.facts(sight),
            usage,
            tracking,
        }
    }

    /// What was counted, as of the last collection.
    pub fn view(&self) -> SeriesView {
        lock(&self.books).view()
    }

    /// What can be seen here, and what each hook missed.
    pub fn report(&self) -> ProbeReport {
        lock(&self.report).clone()
    }

    /// What can be counted here, and how well by what was missed until now.
    pub fn availability(&self) -> CountAvailability {
        self.availability_of(&lock(&self.report))
    }

    fn availability_of(&self, report: &ProbeReport) -> CountAvailability {
        let missed = |hook| report.missed(hook);
        lock(&self.availability).clone().less_missed(missed)
    }

    /// What was built, and the kernel it runs on.
    pub const fn build(&self) -> &BuildInfo {
        &self.build
    }

    fn facts(&self, sight: ProcessSight) -> AgentFacts {
        let report = lock(&self.report);
        AgentFacts {
            build: self.build.clone(),
            level: report.level,
            ready: None,
            hooks: report.hooks.iter().map(hook_row).collect(),
            collectors: lock(&self.collectors).values().copied().collect(),
            availability: self.availability_of(&report),
            proved_unix_seconds: *lock(&self.proved_unix_seconds),
            late_vmas: None,
            sight,
            log_lines_lost: LogLoss::told().to_vec(),
        }
    }

    /// Without it, the families `process_*` are left out and the collector counts as failed.
    fn own_usage(&self) -> AgentUsage {
        let begin = Instant::now();
        let usage = usage::read();
        self.ran(AgentCollector::Process, begin.elapsed(), usage.is_ok());
        let was_known = self.usage_known.swap(usage.is_ok(), Ordering::Relaxed);
        if let (Err(error), true) = (&usage, was_known) {
            tracing::warn!("{error}");
        }
        AgentUsage {
            start_unix_seconds: self.start_unix_seconds,
            ..usage.unwrap_or_default()
        }
    }

    /// Takes over what a discovery found.
    pub fn discovered(&self, outcome: DiscoveryOutcome) {
        *lock(&self.discovery) = Some(Arc::new(outcome.discovery));
    }

    /// The last discovery.
    pub fn discovery(&self) -> Option<Arc<VmaDiscovery>> {
        lock(&self.discovery).clone()
    }

    /// Takes over the scan of one VMA.
    pub fn scanned(&self, result: ScanResult) {
        lock(&self.scans).push(result);
    }

    /// Notes the run of a collector.
    pub fn ran(&self, collector: AgentCollector, duration: Duration, success: bool) {
        let run = CollectorRun {
            collector: collector.as_str(),
            duration,
            success,
            completed_unix_seconds: unix_seconds(),
        };
        lock(&self.collectors).insert(collector, run);
    }

    /// Whether a collection has counted with a discovery done.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }
}

/// The time now. A clock before 1970 is wrong; what it stamps looks as old as it says.
pub(super) fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Rounds the starts of processes to what `/proc` shows, so that both mean the same process.
fn joinable(mut snapshot: CounterSnapshot) -> CounterSnapshot {
    for mm in &mut snapshot.mms {
        mm.process = rounded(mm.process);
    }
    snapshot
}

fn hook_row(hook: &HookReport) -> HookRow {
    HookRow {
        hook: hook.plan.hook.name(),
        mechanism: hook.plan.attached().map(|program| program.mechanism),
        missed: hook.missed,
        firing: hook.state.as_ref().and_then(HookState::fires),
    }
}

/// Logs which hooks fell silent, and which fire again.
fn tell_changes(old: &ProbeReport, new: &ProbeReport) {
    let silent = |report: &HookReport| report.state == Some(HookState::Silent);
    for (old, new) in old.hooks.iter().zip(&new.hooks) {
        let (hook, without) = (new.plan.hook.name(), new.plan.hook.without);
        if silent(new) && !silent(old) {
            tracing::warn!(hook, without, "{}", new.plan.verdict);
        } else if silent(old) && !silent(new) {
            tracing::info!(hook, "it fires again");
        }
    }
    if old.level != new.level {
        tracing::warn!(level = new.level.as_str(), "{}", new.reason);
    }
}

fn build_info() -> BuildInfo {
    BuildInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        revision: env!("TRACKER_REVISION").into(),
        rustc: env!("TRACKER_RUSTC").into(),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
    }
}

/// A poisoned lock is taken: everything here is replaced as a whole, and counters are whole
/// numbers.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
