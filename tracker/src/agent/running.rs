//! The agent at work: its threads, and what they share.

use super::addresses::{hide_addresses, without_addresses};
use super::config::{AgentConfig, AgentPace};
use super::discover_loop::{DiscoveryLoop, DiscoveryState};
use super::engine::AgentEngine;
use super::error::AgentError;
use super::http::{AgentReadiness, AgentView};
use super::landing;
use super::looks::LookWatch;
use super::loops::{AgentLoop, LoopClocks};
use super::probes::{self, AgentProbes, MakeRoute};
use super::processes;
use super::ready::{self, readiness};
use super::redact;
use super::scan::{BackgroundScan, ScanReach, ScanState};
use super::status::{self, StatusParts};
use super::stop::StopSignal;
use super::tracking::ProcessTracking;
use crate::heap;
use crate::logging::{self, LogLoss};
use crate::metrics::{EncodeError, TrackingRows, encode};
use crate::model::VmaLabel;
use crate::probes::program_log::ProgramLog;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use uffd::KernelBehaviour;

/// How long a thread may take to end. One that waits for a file of a process that the kernel does
/// not let go, or for a file system that does not answer, may take for ever.
const STUCK: Duration = Duration::from_secs(5);

/// How often to look whether a thread has ended.
const GLANCE: Duration = Duration::from_millis(5);

/// How often to give back memory that is free.
const GIVE_BACK: Duration = Duration::from_secs(60);

/// How often to look whether a thread is stuck.
const WATCH: Duration = Duration::from_secs(1);

/// How often the programs' own lines are read; their buffer holds some thousand.
const DIAGNOSTICS: Duration = Duration::from_millis(100);

/// What the threads and the handlers share.
struct AgentShared {
    config: AgentConfig,
    engine: AgentEngine,
    discovery: Mutex<DiscoveryState>,
    scan: Mutex<ScanState>,
    tracking: Option<ProcessTracking>,
    behaviour: KernelBehaviour,
    make_route: Mutex<MakeRoute>,
    clocks: LoopClocks,
    looks: AgentLooks,
    stop: StopSignal,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The looks of the loops that look at processes.
struct AgentLooks {
    discovery: LookWatch,
    scan: LookWatch,
}

/// The running agent. Dropping it ends its threads; the probes go with the last scrape under way.
pub struct RunningAgent {
    shared: Arc<AgentShared>,
}

impl RunningAgent {
    /// Starts discovery, collection and the scan, which counts by what the kernel was seen to do.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        config: AgentConfig,
        behaviour: KernelBehaviour,
        mut probes: AgentProbes,
        tracking: Option<ProcessTracking>,
    ) -> Result<Self, AgentError> {
        let (discover, diagnostics) = (probes.discover.take(), probes.diagnostics.take());
        let clocks = LoopClocks::default();
        let watch = |which| LookWatch::new(clocks.of(which).clone());
        let shared = Arc::new(AgentShared {
            behaviour,
            make_route: Mutex::new(discover.unwrap_or_else(probes::by_smaps)),
            looks: AgentLooks {
                discovery: watch(AgentLoop::Discover),
                scan: watch(AgentLoop::Scan),
            },
            clocks,
            engine: AgentEngine::new(config.limits, probes),
            config,
            discovery: Mutex::default(),
            scan: Mutex::default(),
            tracking,
            stop: StopSignal::default(),
            threads: Mutex::default(),
        });
        let running = Self { shared };
        running
            .shared
            .spawn(AgentLoop::Discover.as_str(), AgentShared::discover)?;
        running.spawn_collection()?;
        running.spawn_tracking()?;
        running.spawn_scan()?;
        running.shared.spawn("watch", AgentShared::watch)?;
        running.spawn_self_test()?;
        running.spawn_diagnostics(diagnostics)?;
        Ok(running)
    }

    fn spawn_collection(&self) -> Result<(), AgentError> {
        self.shared.spawn(AgentLoop::Collect.as_str(), |shared| {
            let clock = shared.clocks.of(AgentLoop::Collect);
            let mut given_back = Instant::now();
            while clock.sleep(&shared.stop, shared.config.pace.collect) {
                shared.engine.read_missed();
                shared.engine.collect();
                logging::tell_left_out();
                if given_back.elapsed() >= GIVE_BACK {
                    heap::give_back();
                    given_back = Instant::now();
                }
            }
        })
    }

    fn spawn_tracking(&self) -> Result<(), AgentError> {
        if self.shared.tracking.is_none() {
            return Ok(());
        }
        self.shared.spawn(AgentLoop::Track.as_str(), |shared| {
            if let Some(tracking) = &shared.tracking {
                let clock = shared.clocks.of(AgentLoop::Track);
                tracking.run(&shared.stop, clock, shared.config.pace.discover);
            }
        })
    }

    fn spawn_scan(&self) -> Result<(), AgentError> {
        if self.shared.config.pace.budget <= 0.0 {
            return Ok(());
        }
        self.shared
            .spawn(AgentLoop::Scan.as_str(), AgentShared::scan)
    }

    fn spawn_self_test(&self) -> Result<(), AgentError> {
        self.shared.spawn(AgentLoop::SelfTest.as_str(), |shared| {
            let clock = shared.clocks.of(AgentLoop::SelfTest);
            while clock.sleep(&shared.stop, shared.config.pace.self_test) {
                shared.engine.prove();
            }
        })
    }

    fn spawn_diagnostics(&self, diagnostics: Option<ProgramLog>) -> Result<(), AgentError> {
        let Some(mut diagnostics) = diagnostics else {
            return Ok(());
        };
        self.shared.spawn("diagnostics", move |shared| {
            while shared.stop.sleep(DIAGNOSTICS) {
                diagnostics.flush();
            }
        })
    }

    /// What the handlers ask.
    pub fn view(&self) -> Arc<dyn AgentView> {
        self.shared.clone()
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.shared.stop.stop();
        let given_up = Instant::now() + STUCK;
        for thread in std::mem::take(&mut *lock(&self.shared.threads)) {
            while !thread.is_finished() && Instant::now() < given_up {
                std::thread::sleep(GLANCE);
            }
            if thread.is_finished() {
                // A panic was logged when it happened.
                let _ = thread.join();
            } else {
                let name = thread.thread().name().unwrap_or_default();
                tracing::warn!("thread {name} is stuck in the kernel; the agent ends without it");
            }
        }
        logging::tell_left_out();
    }
}

impl AgentShared {
    fn spawn(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> Result<(), AgentError> {
        let shared = self.clone();
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&shared));
        let cannot = |error| AgentError::Thread {
            name: name.to_owned(),
            error,
        };
        lock(&self.threads).push(thread.map_err(cannot)?);
        Ok(())
    }

    fn discover(self: &Arc<Self>) {
        let mut route = (lock(&self.make_route))();
        DiscoveryLoop {
            engine: &self.engine,
            stop: &self.stop,
            state: &self.discovery,
            watch: &self.looks.discovery,
            clock: self.clocks.of(AgentLoop::Discover),
            interval: self.config.pace.discover,
            budget: self.config.pace.discover_budget,
        }
        .run(route.as_mut());
    }

    fn scan(self: &Arc<Self>) {
        let reach = ScanReach {
            engine: &self.engine,
            stop: &self.stop,
            state: &self.scan,
            watch: &self.looks.scan,
            clock: self.clocks.of(AgentLoop::Scan),
        };
        let AgentPace { budget, scan, .. } = self.config.pace;
        BackgroundScan::new(reach, self.behaviour, budget).run(scan);
    }

    /// Replaces threads that are stuck in the kernel, until the agent stops.
    fn watch(self: &Arc<Self>) {
        while self.stop.sleep(WATCH) {
            let AgentLooks { discovery, scan } = &self.looks;
            if discovery.give_up() {
                self.replace(AgentLoop::Discover, Self::discover);
            }
            if scan.give_up() {
                self.replace(AgentLoop::Scan, Self::scan);
            }
        }
    }

    /// Lets another thread go on with a loop. The one that is stuck ends when the kernel lets it.
    fn replace(self: &Arc<Self>, which: AgentLoop, work: fn(&Arc<Self>)) {
        let name = which.as_str();
        tracing::warn!("thread {name} is stuck in the kernel; another one goes on");
        lock(&self.threads).retain(|thread| thread.thread().name() != Some(name));
        if let Err(error) = self.spawn(name, work) {
            tracing::error!("the loop {name} stands still: {error}");
        }
    }

    fn dead_thread(&self) -> Option<String> {
        let threads = lock(&self.threads);
        let dead = threads.iter().find(|thread| thread.is_finished())?;
        Some(dead.thread().name().unwrap_or_default().to_owned())
    }
}

impl AgentView for AgentShared {
    fn metrics(&self) -> Result<String, EncodeError> {
        let tracking = self.tracking_rows();
        let sight = lock(&self.discovery).sight();
        let label = self.config.vma_label;
        let mut rows = self.engine.scrape(tracking, sight, label);
        rows.agent.ready = Some(self.told_readiness().ready);
        let scans = self.config.pace.budget > 0.0;
        rows.agent.late_vmas = scans.then(|| lock(&self.scan).late as u64);
        if self.config.redact {
            redact::series(&mut rows.counted);
        }
        encode(&rows)
    }

    fn readiness(&self) -> AgentReadiness {
        let AgentReadiness { ready, reason } = self.told_readiness();
        let reason = match self.config.vma_label {
            VmaLabel::Number => without_addresses(&reason),
            VmaLabel::Address => reason,
        };
        AgentReadiness { ready, reason }
    }

    fn status(&self) -> Value {
        let tracking = self.tracking.as_ref().map(ProcessTracking::status);
        let mut status = self.with_parts(|parts| status::status(parts, tracking));
        if self.config.redact {
            redact::status(&mut status);
        }
        if self.config.vma_label == VmaLabel::Number {
            hide_addresses(&mut status);
        }
        status
    }

    fn processes(&self) -> serde_json::Result<String> {
        // As a scrape does: rates are of what is counted until now.
        self.engine.collect();
        let rows = self.tracking_rows();
        let rows = rows.map_or_else(Vec::new, |rows| rows.processes);
        let usage = self.with_parts(|parts| processes::processes(parts, &rows));
        let mut json = serde_json::to_value(usage)?;
        if self.config.vma_label == VmaLabel::Number {
            hide_addresses(&mut json);
        }
        Ok(format!("{json:#}\n"))
    }

    fn landing(&self) -> askama::Result<String> {
        let tracking = self.tracking.as_ref();
        let rows = self.tracking_rows();
        let mut refused = tracking.map_or_else(Vec::new, ProcessTracking::refused);
        if self.config.redact {
            redact::refused(&mut refused);
        }
        let page = self.with_parts(|parts| landing::page(parts, rows.as_ref(), refused))?;
        Ok(match self.config.vma_label {
            VmaLabel::Number => without_addresses(&page),
            VmaLabel::Address => page,
        })
    }
}

/// What is told, addresses included.
impl AgentShared {
    fn told_readiness(&self) -> AgentReadiness {
        let report = self.engine.report();
        let discovery = lock(&self.discovery).clone();
        readiness(&ready::ReadinessFacts {
            level: report.level,
            level_reason: report.reason,
            required: self.config.require_level,
            complete: self.engine.is_complete(),
            dead_thread: self.dead_thread(),
            discovery_failure: discovery.blindness(),
            scan_failure: lock(&self.scan).blind.clone(),
            latest_loop: self.clocks.latest(),
        })
    }

    fn tracking_rows(&self) -> Option<TrackingRows> {
        let mut rows = self.tracking.as_ref().map(ProcessTracking::rows)?;
        if self.config.redact {
            redact::tracking(&mut rows);
        }
        Some(rows)
    }

    fn with_parts<T>(&self, show: impl FnOnce(&StatusParts<'_>) -> T) -> T {
        // Before the parts: it takes a lock that they hold.
        let ready = self.told_readiness();
        let mut view = self.engine.view();
        if self.config.redact {
            redact::series(&mut view);
        }
        show(&StatusParts {
            config: &self.config,
            uptime: self.engine.now(),
            build: self.engine.build(),
            report: &self.engine.report(),
            availability: &self.engine.availability(),
            view: &view,
            discovery: &lock(&self.discovery).clone(),
            scan: &lock(&self.scan).clone(),
            latest_loop: self.clocks.latest(),
            ready: &ready,
            log_lines_lost: &LogLoss::told(),
        })
    }
}

/// A poisoned lock is taken: everything here is replaced as a whole.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
