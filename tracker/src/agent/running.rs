//! The agent at work: its threads, and what they share.

use super::config::Config;
use super::discover_loop::{self, DiscoveryState};
use super::discovery::{Discover, SmapsRoute};
use super::engine::Engine;
use super::error::AgentError;
use super::http::{Readiness, View};
use super::probes::{Missed, Probes};
use super::ready::{self, readiness};
use super::scan::{ScanState, Scanner};
use super::status::{self, Parts};
use super::stop::Stop;
use super::tracking::Tracking;
use crate::metrics::{AgentFacts, BuildInfo, Exporter, HookFacts};
use crate::probes::{HookReport, ProbeReport};
use serde_json::Value;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use uffd::KernelBehaviour;

/// How often the programs' own lines are read; their buffer holds some thousand.
const DIAGNOSTICS: Duration = Duration::from_millis(100);

/// What the threads and the handlers share.
struct Shared {
    config: Config,
    engine: Engine,
    report: ProbeReport,
    missed: Mutex<Missed>,
    discovery: Mutex<DiscoveryState>,
    scan: Mutex<ScanState>,
    tracking: Option<Tracking>,
    stop: Stop,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The running agent. Dropping it ends its threads; the probes go with the last scrape under way.
pub struct Running {
    shared: Arc<Shared>,
}

impl Running {
    /// Starts discovery, collection and the scan, which counts by what the kernel was seen to do.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        config: Config,
        behaviour: KernelBehaviour,
        probes: Probes,
        tracking: Option<Tracking>,
    ) -> Result<Self, AgentError> {
        let Probes {
            source,
            discover,
            report,
            availability,
            diagnostics,
            missed,
        } = probes;
        let exporter = Exporter::new(config.limits);
        exporter.update_facts(|facts| {
            facts.build = build_info();
            facts.level = report.level.as_str().to_owned();
            facts.hooks = report.hooks.iter().map(hook_facts).collect();
            facts.availability = availability;
        });
        let shared = Arc::new(Shared {
            engine: Engine::new(exporter, source),
            config,
            report,
            missed: Mutex::new(missed),
            discovery: Mutex::default(),
            scan: Mutex::default(),
            tracking,
            stop: Stop::default(),
            threads: Mutex::default(),
        });
        let running = Self { shared };
        running.spawn_all(behaviour, discover)?;
        if let Some(mut diagnostics) = diagnostics {
            running.spawn("diagnostics", move |shared| {
                while shared.stop.sleep(DIAGNOSTICS) {
                    diagnostics.flush();
                }
            })?;
        }
        Ok(running)
    }

    fn spawn_all(
        &self,
        behaviour: KernelBehaviour,
        discover: Option<Box<dyn Discover>>,
    ) -> Result<(), AgentError> {
        let mut route = discover.unwrap_or_else(|| Box::new(SmapsRoute::default()));
        self.spawn("discover", move |shared| {
            let interval = shared.config.pace.discover;
            let Shared {
                engine,
                stop,
                discovery,
                ..
            } = shared;
            discover_loop::run(route.as_mut(), engine, stop, discovery, interval);
        })?;
        self.spawn("collect", |shared| {
            while shared.stop.sleep(shared.config.pace.collect) {
                shared.collect();
            }
        })?;
        if self.shared.tracking.is_some() {
            self.spawn("track", |shared| {
                if let Some(tracking) = &shared.tracking {
                    tracking.run(&shared.stop, shared.config.pace.discover);
                }
            })?;
        }
        if self.shared.config.pace.budget > 0.0 {
            self.spawn("scan", move |shared| {
                let Shared {
                    engine,
                    stop,
                    scan,
                    config,
                    ..
                } = shared;
                Scanner::new(engine, stop, scan, behaviour, config.pace.budget)
                    .run(config.pace.scan);
            })?;
        }
        Ok(())
    }

    fn spawn(
        &self,
        name: &str,
        work: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<(), AgentError> {
        let shared = self.shared.clone();
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&shared));
        let cannot = |e: io::Error| AgentError::Failed(format!("cannot start thread {name}: {e}"));
        lock(&self.shared.threads).push(thread.map_err(cannot)?);
        Ok(())
    }

    /// What the handlers ask.
    pub fn view(&self) -> Arc<dyn View> {
        self.shared.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.stop();
        for thread in std::mem::take(&mut *lock(&self.shared.threads)) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!("thread {name} had ended by a panic");
            }
        }
    }
}

impl Shared {
    fn collect(&self) {
        let missed = (lock(&self.missed))();
        self.engine
            .exporter
            .update_facts(|facts| note_missed(facts, &missed));
        self.engine.collect();
    }

    fn note_tracking(&self) {
        let track = self.tracking.as_ref().map(Tracking::facts);
        self.engine
            .exporter
            .update_facts(|facts| facts.track = track);
    }

    fn dead_thread(&self) -> Option<String> {
        let threads = lock(&self.threads);
        let dead = threads.iter().find(|thread| thread.is_finished())?;
        Some(dead.thread().name().unwrap_or_default().to_owned())
    }
}

impl View for Shared {
    fn metrics(&self) -> Result<Vec<u8>, String> {
        self.note_tracking();
        let text = self.engine.scrape().map_err(|e| e.to_string())?;
        Ok(text.body.into_bytes())
    }

    fn readiness(&self) -> Readiness {
        readiness(&ready::Facts {
            level: self.report.level,
            level_reason: self.report.reason.clone(),
            required: self.config.require_level,
            complete: self.engine.is_complete(),
            dead_thread: self.dead_thread(),
            discovery_failure: lock(&self.discovery).failure.clone(),
        })
    }

    fn status(&self) -> Value {
        let (ready, facts) = (self.readiness(), self.engine.exporter.facts());
        let mut report = self.report.clone();
        for hook in &mut report.hooks {
            let known = facts
                .hooks
                .iter()
                .find(|known| known.hook == hook.plan.hook.name());
            hook.missed = known.and_then(|known| known.missed);
        }
        status::status(&Parts {
            config: &self.config,
            uptime: self.engine.now(),
            report: &report,
            facts: &facts,
            view: &self.engine.exporter.view(),
            discovery: &lock(&self.discovery).clone(),
            scan: &lock(&self.scan).clone(),
            ready: &ready,
            tracking: self.tracking.as_ref().map(Tracking::status),
        })
    }
}

fn note_missed(facts: &mut AgentFacts, missed: &[(String, u64)]) {
    for hook in &mut facts.hooks {
        if let Some((_, count)) = missed.iter().find(|(name, _)| *name == hook.hook) {
            hook.missed = Some(*count);
        }
    }
}

fn hook_facts(hook: &HookReport) -> HookFacts {
    HookFacts {
        hook: hook.plan.hook.name().to_owned(),
        mechanism: hook
            .plan
            .mechanism()
            .map_or("none", |one| one.as_str())
            .to_owned(),
        attached: hook.plan.mechanism().is_some(),
        missed: hook.missed,
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

/// A poisoned lock is taken: everything here is replaced as a whole.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
