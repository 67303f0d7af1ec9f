//! `cargo xtask run`: the agent and an example workload, on this host or in a guest, and a table of
//! what the agent sees.

mod guest;
mod host;
mod table;

use std::{
    net::{Ipv4Addr, TcpListener},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use self::{guest::GuestDemo, host::HostDemo, table::RedrawnTable};
use crate::{
    ConsentArgs, cargo, exposition, http,
    setup::{self, SetupExtent, kernels::KernelChoice},
    sh,
    stop::StopFlag,
};

/// The arguments that keep the workload going for ever.
const WORKLOAD_ARGUMENTS: &[&str] = &["demo"];

/// The most VMAs that the table shows.
const ROWS: usize = 12;

/// Start the agent and an example workload, and show what the agent sees
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// Run in a virtual machine with this kernel: a series such as 6.12, or an image's path
    #[arg(long, value_name = "KERNEL", value_parser = KernelChoice::parse)]
    vm: Option<KernelChoice>,
    /// The agent's port on 127.0.0.1
    #[arg(long, default_value_t = 19943)]
    port: u16,
    /// Stop after this many seconds instead of at Ctrl-C
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Runs until Ctrl-C or `--for`, then ends what it started.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let extent = if args.vm.is_some() {
        SetupExtent::Vm
    } else {
        SetupExtent::Build
    };
    setup::prepare(extent, &args.consent.consent())?;
    let kernel = args.vm.as_ref().map(KernelChoice::prepare).transpose()?;
    eprintln!("     ... building tracker");
    let programs = cargo::programs()?;
    let stop = StopFlag::install()?;
    check_port(args.port)?;
    let mut site: Box<dyn DemoSite> = match kernel {
        None => Box::new(HostDemo::start(&programs, args.port)?),
        Some(kernel) => Box::new(GuestDemo::start(&kernel, &programs, args.port)?),
    };
    let shown = site.wait_ready(args.port, &stop).and_then(|()| {
        if stop.is_set() {
            return Ok(());
        }
        site.start_workload()?;
        show(site.as_mut(), args, &stop)
    });
    let ended = site.end();
    shown.and(ended).map(|()| ExitCode::SUCCESS)
}

/// Fails if `port` is in use.
fn check_port(port: u16) -> Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map(drop)
        .with_context(|| {
            format!(
                "port {port} of 127.0.0.1 cannot be used. If another agent is running, end it \
                 (`ss -ltnp 'sport = :{port}'` names it), or choose another port with --port"
            )
        })
}

/// Where agent and workload run.
trait DemoSite {
    /// How long the agent may take to become ready.
    fn ready_timeout(&self) -> Duration;
    /// Fails if something that should be running is not.
    fn check(&mut self) -> Result<()>;
    /// Starts the workload.
    fn start_workload(&mut self) -> Result<()>;
    /// Ends everything.
    fn end(&mut self) -> Result<()>;

    /// Waits until /readyz says that the agent is ready.
    fn wait_ready(&mut self, port: u16, stop: &StopFlag) -> Result<()> {
        let progress = sh::ProgressLine::start("waiting for the agent");
        let until = Instant::now() + self.ready_timeout();
        let mut last = "it does not answer".to_owned();
        while !stop.is_set() {
            if let Err(error) = self.check() {
                progress.finish(false);
                return Err(error);
            }
            match http::get(port, "/readyz") {
                Ok((200, _)) => {
                    progress.finish(true);
                    return Ok(());
                }
                Ok((status, body)) => last = format!("{status} {}", body.trim()),
                Err(error) => progress.detail(&format!("{error:#}")),
            }
            if Instant::now() > until {
                progress.finish(false);
                bail!(
                    "the agent is not ready after {} s: {last}",
                    self.ready_timeout().as_secs()
                );
            }
            stop.sleep(Duration::from_millis(200));
        }
        progress.finish(false);
        Ok(())
    }
}

/// Prints level, addresses and the table until told to stop.
fn show(site: &mut dyn DemoSite, args: &RunArgs, stop: &StopFlag) -> Result<()> {
    let (_, status) = http::get(args.port, "/status")?;
    println!("\n{}", level(&status)?);
    println!(
        "http://127.0.0.1:{0}/metrics and http://127.0.0.1:{0}/status",
        args.port
    );
    println!("Ctrl-C ends the agent and the workload. A dash: not available at this level.\n");
    let until = args
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut table = RedrawnTable::new();
    loop {
        let pause = table.pause();
        let left = until.map_or(pause, |at| at.saturating_duration_since(Instant::now()));
        stop.sleep(pause.min(left));
        if stop.is_set() {
            return Ok(());
        }
        site.check()?;
        let (_, metrics) = http::get(args.port, "/metrics")?;
        table.print(&exposition::table(&metrics, ROWS))?;
        if until.is_some_and(|at| Instant::now() >= at) {
            return Ok(());
        }
    }
}

/// The agent's level with its reason, from the JSON of /status.
fn level(status: &str) -> Result<String> {
    let status: Value = serde_json::from_str(status).context("/status is not JSON")?;
    let text = |path: &str| status.pointer(path).and_then(Value::as_str);
    let level = text("/level/level").context("/status has no level")?;
    let reason = text("/level/reason").unwrap_or("no reason given");
    let kernel = text("/kernel")
        .map(|kernel| format!(" on kernel {kernel}"))
        .unwrap_or_default();
    Ok(format!("level {level}{kernel}: {reason}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_level_comes_with_its_reason() {
        let status =
            r#"{"kernel":"6.12.1","level":{"level":"partial","reason":"pmd_install is absent"}}"#;
        assert_eq!(
            level(status).unwrap(),
            "level partial on kernel 6.12.1: pmd_install is absent"
        );
        assert!(level("{}").is_err());
        assert!(level("<html>").is_err());
    }

    #[test]
    fn a_port_in_use_is_an_error_with_advice() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = format!("{:#}", check_port(port).unwrap_err());
        assert!(
            error.contains(&port.to_string()) && error.contains("--port"),
            "{error}"
        );
        drop(listener);
        check_port(port).unwrap();
    }
}
