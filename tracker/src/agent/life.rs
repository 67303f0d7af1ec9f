//! From start to signal.

use super::config::AgentConfig;
use super::error::AgentError;
use super::http::{self, HostNames, HttpLimits, HttpServer, WebConfig, router};
use super::memory;
use super::panics::PanicWatch;
use super::probes::AgentProbes;
use super::room::{self, RoomNeed};
use super::running::RunningAgent;
use super::tracking::{ProcessTracking, TrackingMeans};
use crate::heap;
use crate::probes::{HookReport, HookVerdict, ProbeReport};
use axum_server::Handle;
use sd_notify::NotifyState;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use uffd::KernelBehaviour;

/// Runs until SIGTERM, SIGINT or a panic. `attach` loads the probes; it is called once the address is ours,
/// so that a second agent on the same port ends before it touches the kernel.
///
/// # Errors
/// If the address cannot be served, the probes refuse an option, a thread cannot be started, or
/// one panics.
pub fn run(
    config: AgentConfig,
    attach: impl FnOnce() -> Result<AgentProbes, AgentError>,
) -> Result<(), AgentError> {
    heap::share();
    let limits = HttpLimits::default();
    let (most, explains) = config
        .track
        .as_ref()
        .map_or((0, false), |track| (track.most, !track.explain.is_empty()));
    room::claim(RoomNeed::of(limits, most, explains))?;
    memory::tell();
    let web = WebConfig::open(config.web.as_deref()).map_err(AgentError::WebConfig)?;
    let server = HttpServer::open(&config.listen, limits)?;
    let runtime = runtime().map_err(AgentError::Runtime)?;
    // Signals are caught before anything is attached: none of them finds us half started.
    let stops = AgentStops {
        signals: runtime.block_on(async { CaughtSignals::new(web.clone()) })?,
        panics: PanicWatch::begin(),
    };
    // Both try things out that the probes would count.
    let behaviour = behaviour();
    let tracking = config.track.clone().map(|track| {
        let means = TrackingMeans::find(track.strategy);
        ProcessTracking::new(track, means)
    });
    let probes = attach()?;
    tell(&probes.report);
    let path = config.telemetry_path.clone();
    let hosts = HostNames::of_machine(&config.allowed_hosts);
    // BTF and kallsyms were tens of MiB.
    heap::give_back();
    let running = RunningAgent::start(config, behaviour, probes, tracking)?;
    let served = ServedPages { path, hosts, web };
    let result = runtime.block_on(serve(server, &running, served, stops));
    // Scrapes that are still under way hold the view, and with it the probes.
    runtime.shutdown_background();
    drop(running);
    result
}

/// Threads that scrapes run on, as many as may encode at once, and checks of passwords.
const BLOCKING: usize = http::SCRAPES_AT_ONCE + http::CHECKS_AT_ONCE;

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING)
        // For good: later there may be no room for one.
        .thread_keep_alive(Duration::from_secs(u32::MAX.into()))
        .thread_name("http")
        .enable_all()
        .build()?;
    let all = Arc::new(Barrier::new(BLOCKING));
    for _ in 0..BLOCKING {
        let all = all.clone();
        drop(runtime.spawn_blocking(move || all.wait()));
    }
    Ok(runtime)
}

/// What the kernel does. Where userfaultfd cannot be tried out (a seccomp filter, a kernel without
/// it), pages are counted the slow way that always works.
fn behaviour() -> KernelBehaviour {
    uffd::self_test().unwrap_or_else(|error| {
        tracing::warn!(%error, "no self-test: the scan reads every pagemap entry instead");
        KernelBehaviour::default()
    })
}

/// What is served, and to whom.
struct ServedPages {
    /// Of the metrics.
    path: String,
    hosts: HostNames,
    web: WebConfig,
}

async fn serve(
    server: HttpServer,
    running: &RunningAgent,
    served: ServedPages,
    mut stops: AgentStops,
) -> Result<(), AgentError> {
    let ServedPages { path, hosts, web } = served;
    let (addresses, limits) = (server.addresses.clone(), server.limits);
    let handle = Handle::new();
    let (tls, scheme) = (web.tls(), web.scheme());
    let router = router(running.view(), &path, hosts, web, limits.response);
    let mut serving = tokio::spawn(server.serve(router, tls, handle.clone()));
    for address in &addresses {
        tracing::info!("serving {scheme}://{address}{path}");
    }
    let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    let addresses = addresses.join(" and ");
    notify(&[
        NotifyState::Ready,
        NotifyState::Status(&format!("serving {addresses}")),
    ]);
    let failed = |error| AgentError::Serve {
        addresses: addresses.clone(),
        error,
    };
    let why = tokio::select! {
        name = stops.signals.next() => {
            tracing::info!("{name}: stopping");
            Ok(())
        }
        panicked = stops.panics.first() => Err(AgentError::Panicked(panicked)),
        ended = &mut serving => return Err(failed(match ended {
            Ok(Ok(())) => io::ErrorKind::NotConnected.into(),
            Ok(Err(error)) => error,
            Err(panicked) => io::Error::other(panicked),
        })),
    };
    notify(&[NotifyState::Stopping]);
    handle.graceful_shutdown(Some(limits.drain));
    let drained = serving
        .await
        .map_err(|panicked| failed(io::Error::other(panicked)))?;
    why.and(drained.map_err(failed))
}

/// Tells a service manager, if one is listening.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!(%error, "cannot tell the service manager (NOTIFY_SOCKET)");
    }
}

/// Logs what a person needs to know before looking at any number.
fn tell(report: &ProbeReport) {
    tracing::info!(level = report.level.as_str(), "{}", report.reason);
    for HookReport { plan, .. } in &report.hooks {
        if let HookVerdict::Absent(obstacle) = &plan.verdict {
            let (hook, without) = (plan.hook.name(), plan.hook.without);
            tracing::info!(hook, without, "absent: {obstacle}");
        }
    }
    for missing in &report.missing_capabilities {
        tracing::warn!(
            "{} is missing; it is needed to {}",
            missing.name,
            missing.needed_to
        );
    }
    for advice in &report.advice {
        tracing::warn!("to see more: {advice}");
    }
}

/// From one look at the files of the web configuration to the next.
const LOOKED_AT: Duration = Duration::from_secs(5);

/// What ends the agent.
struct AgentStops {
    signals: CaughtSignals,
    panics: PanicWatch,
}

/// Signals that end the agent, and what has the web configuration read again: SIGHUP and a change.
struct CaughtSignals {
    web: WebConfig,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl CaughtSignals {
    fn new(web: WebConfig) -> Result<Self, AgentError> {
        let catch = |kind| signal(kind).map_err(AgentError::Signals);
        Ok(Self {
            web,
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// The name of the next signal that ends the agent.
    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => self.hung_up(),
                () = tokio::time::sleep(LOOKED_AT), if self.web.path().is_some() => {
                    if self.web.has_changed() {
                        self.reload();
                    }
                }
            }
        }
    }

    /// A terminal that closes, or somebody who wants things to be read again.
    fn hung_up(&self) {
        if self.web.path().is_some() {
            self.reload();
        } else {
            tracing::info!(
                "SIGHUP: goes on; there is no --web.config.file to read, and flags are read at start"
            );
        }
    }

    fn reload(&self) {
        let path = self.web.path().unwrap_or_else(|| Path::new("")).display();
        match self.web.reload() {
            Ok(()) => tracing::info!(%path, "read the web configuration again"),
            Err(error) => tracing::error!(
                %path, "the web configuration is wrong, so the one before stays in force: {error}"
            ),
        }
    }
}
