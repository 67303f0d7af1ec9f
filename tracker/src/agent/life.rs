//! From start to signal.

use super::config::AgentConfig;
use super::error::AgentError;
use super::http::{HttpLimits, HttpServer, router};
use super::probes::AgentProbes;
use super::running::RunningAgent;
use super::tracking::{ProcessTracking, TrackingMeans};
use crate::probes::{HookReport, HookVerdict, ProbeReport};
use axum_server::Handle;
use sd_notify::NotifyState;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use uffd::KernelBehaviour;

/// Runs until SIGTERM or SIGINT. `attach` loads the probes; it is called once the address is ours,
/// so that a second agent on the same port ends before it touches the kernel.
///
/// # Errors
/// If the address cannot be served, the probes refuse an option, or a thread cannot be started.
pub fn run(
    config: AgentConfig,
    attach: impl FnOnce() -> Result<AgentProbes, AgentError>,
) -> Result<(), AgentError> {
    let limits = HttpLimits::default();
    let server = HttpServer::bind(&config.listen, limits)?;
    let runtime = runtime().map_err(AgentError::Runtime)?;
    // Signals are caught before anything is attached: none of them finds us half started.
    let signals = runtime.block_on(async { StopSignals::new() })?;
    // Both try things out that the probes would count.
    let behaviour = behaviour();
    let tracking = config.track.clone().map(|track| {
        let means = TrackingMeans::find(track.strategy);
        ProcessTracking::new(track, means)
    });
    let probes = attach()?;
    tell(&probes.report);
    let path = config.telemetry_path.clone();
    let running = RunningAgent::start(config, behaviour, probes, tracking)?;
    let result = runtime.block_on(serve(server, &running, &path, signals, limits));
    // Scrapes that are still under way hold the view, and with it the probes.
    runtime.shutdown_background();
    drop(running);
    result
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_name("http")
        .enable_all()
        .build()
}

/// What the kernel does. Where userfaultfd cannot be tried out (a seccomp filter, a kernel without
/// it), pages are counted the slow way that always works.
fn behaviour() -> KernelBehaviour {
    uffd::self_test().unwrap_or_else(|error| {
        tracing::warn!(%error, "no self-test: the scan reads every pagemap entry instead");
        KernelBehaviour::default()
    })
}

async fn serve(
    server: HttpServer,
    running: &RunningAgent,
    path: &str,
    mut signals: StopSignals,
    limits: HttpLimits,
) -> Result<(), AgentError> {
    let address = server.address;
    let handle = Handle::new();
    let router = router(running.view(), path, limits.response);
    let mut serving = tokio::spawn(server.serve(router, handle.clone()));
    tracing::info!("serving http://{address}{path}");
    notify(&[
        NotifyState::Ready,
        NotifyState::Status(&format!("serving {address}")),
    ]);
    let ended = tokio::select! {
        name = signals.next() => {
            tracing::info!("{name}: stopping");
            notify(&[NotifyState::Stopping]);
            handle.graceful_shutdown(Some(limits.drain));
            (&mut serving).await
        }
        ended = &mut serving => ended,
    };
    let failed = |error| AgentError::Serve { address, error };
    ended
        .map_err(|panicked| failed(io::Error::other(panicked)))?
        .map_err(failed)
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

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> Result<Self, AgentError> {
        let catch = |kind| signal(kind).map_err(AgentError::Signals);
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
