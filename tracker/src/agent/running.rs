//! The agent at work: its threads, and what they share.

use super::config::AgentConfig;
use super::discover_loop::{self, DiscoveryState};
use super::discovery::{DiscoveryRoute, SmapsRoute};
use super::engine::AgentEngine;
use super::error::AgentError;
use super::http::{AgentReadiness, AgentView};
use super::probes::AgentProbes;
use super::ready::{self, readiness};
use super::scan::{BackgroundScan, ScanState};
use super::status::{self, StatusParts};
use super::stop::StopSignal;
use super::tracking::ProcessTracking;
use crate::logging;
use crate::metrics::{EncodeError, encode};
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

/// How often the programs' own lines are read; their buffer holds some thousand.
const DIAGNOSTICS: Duration = Duration::from_millis(100);

/// What the threads and the handlers share.
struct AgentShared {
    config: AgentConfig,
    engine: AgentEngine,
    discovery: Mutex<DiscoveryState>,
    scan: Mutex<ScanState>,
    tracking: Option<ProcessTracking>,
    stop: StopSignal,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
        let shared = Arc::new(AgentShared {
            engine: AgentEngine::new(config.limits, probes),
            config,
            discovery: Mutex::default(),
            scan: Mutex::default(),
            tracking,
            stop: StopSignal::default(),
            threads: Mutex::default(),
        });
        let running = Self { shared };
        running.spawn_discovery(discover)?;
        running.spawn_collection()?;
        running.spawn_tracking()?;
        running.spawn_scan(behaviour)?;
        running.spawn_diagnostics(diagnostics)?;
        Ok(running)
    }

    fn spawn_discovery(&self, route: Option<Box<dyn DiscoveryRoute>>) -> Result<(), AgentError> {
        let mut route = route.unwrap_or_else(|| Box::new(SmapsRoute::default()));
        self.spawn("discover", move |shared| {
            let interval = shared.config.pace.discover;
            let AgentShared {
                engine,
                stop,
                discovery,
                ..
            } = shared;
            discover_loop::run(route.as_mut(), engine, stop, discovery, interval);
        })
    }

    fn spawn_collection(&self) -> Result<(), AgentError> {
        self.spawn("collect", |shared| {
            while shared.stop.sleep(shared.config.pace.collect) {
                shared.engine.read_missed();
                shared.engine.collect();
                logging::tell_left_out();
            }
        })
    }

    fn spawn_tracking(&self) -> Result<(), AgentError> {
        if self.shared.tracking.is_none() {
            return Ok(());
        }
        self.spawn("track", |shared| {
            if let Some(tracking) = &shared.tracking {
                tracking.run(&shared.stop, shared.config.pace.discover);
            }
        })
    }

    fn spawn_scan(&self, behaviour: KernelBehaviour) -> Result<(), AgentError> {
        if self.shared.config.pace.budget <= 0.0 {
            return Ok(());
        }
        self.spawn("scan", move |shared| {
            let AgentShared {
                engine,
                stop,
                scan,
                config,
                ..
            } = shared;
            BackgroundScan::new(engine, stop, scan, behaviour, config.pace.budget)
                .run(config.pace.scan);
        })
    }

    fn spawn_diagnostics(&self, diagnostics: Option<ProgramLog>) -> Result<(), AgentError> {
        let Some(mut diagnostics) = diagnostics else {
            return Ok(());
        };
        self.spawn("diagnostics", move |shared| {
            while shared.stop.sleep(DIAGNOSTICS) {
                diagnostics.flush();
            }
        })
    }

    fn spawn(
        &self,
        name: &str,
        work: impl FnOnce(&AgentShared) + Send + 'static,
    ) -> Result<(), AgentError> {
        let shared = self.shared.clone();
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&shared));
        let cannot = |error| AgentError::Thread {
            name: name.to_owned(),
            error,
        };
        lock(&self.shared.threads).push(thread.map_err(cannot)?);
        Ok(())
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
    fn dead_thread(&self) -> Option<String> {
        let threads = lock(&self.threads);
        let dead = threads.iter().find(|thread| thread.is_finished())?;
        Some(dead.thread().name().unwrap_or_default().to_owned())
    }
}

impl AgentView for AgentShared {
    fn metrics(&self) -> Result<String, EncodeError> {
        let tracking = self.tracking.as_ref().map(ProcessTracking::rows);
        encode(&self.engine.scrape(tracking))
    }

    fn readiness(&self) -> AgentReadiness {
        let report = self.engine.report();
        readiness(&ready::ReadinessFacts {
            level: report.level,
            level_reason: report.reason,
            required: self.config.require_level,
            complete: self.engine.is_complete(),
            dead_thread: self.dead_thread(),
            discovery_failure: lock(&self.discovery).failure.clone(),
        })
    }

    fn status(&self) -> Value {
        // Before the parts: it takes a lock that they hold.
        let ready = self.readiness();
        status::status(&StatusParts {
            config: &self.config,
            uptime: self.engine.now(),
            build: self.engine.build(),
            report: &self.engine.report(),
            availability: self.engine.availability(),
            view: &self.engine.view(),
            discovery: &lock(&self.discovery).clone(),
            scan: &lock(&self.scan).clone(),
            ready: &ready,
            tracking: self.tracking.as_ref().map(ProcessTracking::status),
        })
    }
}

/// A poisoned lock is taken: everything here is replaced as a whole.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
