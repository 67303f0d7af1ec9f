//! `cargo xtask run`: the agent and the example workload, on this host or in a guest, and what the
//! agent shows of it.

use std::{
    fs::{self, File},
    io::{IsTerminal as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use super::guest_programs;
use crate::{
    ConsentArgs,
    cargo::{self, Program},
    exposition, http, paths,
    setup::{self, Extent, kernels},
    sh,
    stop::{self, Stop},
    vm::{Running, VmRun},
};

/// The example workload's program, and how it is told to go on for ever.
const WORKLOAD: &str = "uffdwp-workload";
const WORKLOAD_ARGUMENTS: &[&str] = &["demo"];

/// How long the agent may take until it answers; an emulated guest boots first.
const READY_HOST: Duration = Duration::from_secs(60);
const READY_GUEST: Duration = Duration::from_secs(180);

/// VMAs in the table.
const ROWS: usize = 12;

/// Start the agent and an example workload, and show what the agent sees
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// In a virtual machine with this kernel (6.1, 6.12, 6.18, or a path to an image)
    #[arg(long, value_name = "KERNEL")]
    vm: Option<String>,
    /// The port on 127.0.0.1
    #[arg(long, default_value_t = 19943)]
    port: u16,
    /// End after so many seconds, instead of at Ctrl-C
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
}

/// Runs until Ctrl-C, then ends what it started.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let extent = if args.vm.is_some() {
        Extent::Vm
    } else {
        Extent::Build
    };
    setup::prepare(extent, &args.consent.consent())?;
    let kernel = args.vm.as_deref().map(kernels::find).transpose()?;
    eprintln!("     ... building tracker");
    let programs = cargo::programs()?;
    let stop = Stop::install()?;
    free_port(args.port)?;
    let mut side: Box<dyn Side> = match kernel {
        None => Box::new(Host::start(&programs, args.port)?),
        Some(kernel) => Box::new(Guest::start(&kernel, &programs, args.port)?),
    };
    let shown = side.wait_ready(args.port, &stop).and_then(|()| {
        if stop.asked() {
            return Ok(());
        }
        side.start_workload()?;
        show(side.as_mut(), args, &stop)
    });
    let ended = side.end();
    shown.and(ended).map(|()| ExitCode::SUCCESS)
}

/// Fails if somebody listens on `port` already.
fn free_port(port: u16) -> Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map(drop)
        .with_context(|| {
            format!(
                "port {port} of 127.0.0.1 cannot be used. If another agent runs, end it \
             (`ss -ltnp 'sport = :{port}'` names it), or choose another port with --port"
            )
        })
}

/// Where agent and workload run.
trait Side {
    /// How long the agent may take to answer.
    fn patience(&self) -> Duration;
    /// Fails if something that should run does not.
    fn check(&mut self) -> Result<()>;
    /// Starts the workload.
    fn start_workload(&mut self) -> Result<()>;
    /// Ends everything.
    fn end(&mut self) -> Result<()>;

    /// Waits until the agent says on /readyz that it is ready.
    fn wait_ready(&mut self, port: u16, stop: &Stop) -> Result<()> {
        let progress = sh::Progress::start("waiting for the agent");
        let until = Instant::now() + self.patience();
        let mut last = "it does not answer".to_owned();
        while !stop.asked() {
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
                    self.patience().as_secs()
                );
            }
            stop.sleep(Duration::from_millis(200));
        }
        progress.finish(false);
        Ok(())
    }
}

/// Prints level, address and table until asked to stop.
fn show(side: &mut dyn Side, args: &RunArgs, stop: &Stop) -> Result<()> {
    let (_, status) = http::get(args.port, "/status")?;
    println!("\n{}", level(&status)?);
    println!(
        "http://127.0.0.1:{0}/metrics and http://127.0.0.1:{0}/status",
        args.port
    );
    println!("Ctrl-C ends agent and workload. A dash: this level has no such number.\n");
    let until = args
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut table = Table::new();
    loop {
        let pause = table.pause();
        let left = until.map_or(pause, |at| at.saturating_duration_since(Instant::now()));
        stop.sleep(pause.min(left));
        if stop.asked() {
            return Ok(());
        }
        side.check()?;
        let (_, metrics) = http::get(args.port, "/metrics")?;
        table.print(&exposition::table(&metrics, ROWS))?;
        if until.is_some_and(|at| Instant::now() >= at) {
            return Ok(());
        }
    }
}

/// A table that is drawn over itself on a terminal, and now and then elsewhere.
struct Table {
    terminal: bool,
    height: usize,
}

impl Table {
    fn new() -> Self {
        Self {
            terminal: std::io::stdout().is_terminal(),
            height: 0,
        }
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(if self.terminal { 2 } else { 10 })
    }

    fn print(&mut self, lines: &[String]) -> Result<()> {
        let mut text = String::new();
        if self.terminal && self.height > 0 {
            // Up to the old table's first line, and erase from there.
            text.push_str(&format!("\x1b[{}A\x1b[J", self.height));
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        if !self.terminal {
            text.push('\n');
        }
        self.height = lines.len();
        std::io::stdout()
            .write_all(text.as_bytes())
            .context("cannot write the table")
    }
}

/// The agent's level and its reason, from /status.
fn level(status: &str) -> Result<String> {
    let status: Value = serde_json::from_str(status).context("/status is no JSON")?;
    let text = |path: &str| status.pointer(path).and_then(Value::as_str);
    let level = text("/level/level").context("/status tells no level")?;
    let reason = text("/level/reason").unwrap_or("no reason given");
    let kernel = text("/kernel")
        .map(|kernel| format!(" on kernel {kernel}"))
        .unwrap_or_default();
    Ok(format!("level {level}{kernel}: {reason}"))
}

/// The program `name` among `programs`.
fn program<'a>(programs: &'a [Program], name: &str) -> Result<&'a Path> {
    let found = programs.iter().find(|program| program.name == name);
    Ok(&found
        .with_context(|| format!("the package tracker has no program {name}"))?
        .path)
}

/// Both on this host.
struct Host {
    agent: Started,
    workload: Option<Started>,
    workload_program: PathBuf,
}

/// A process of ours, and where it writes.
struct Started {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Started {
    fn start(name: &'static str, program: &Path, arguments: &[&str]) -> Result<Self> {
        let log = paths::create(paths::target().join("run"))?.join(format!("{name}.log"));
        let file =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let also = file.try_clone().context("cannot share a log file")?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(also)
            // A group of its own: Ctrl-C reaches us alone, and we end it in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name, child, log })
    }

    fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait().context("lost a process")? else {
            return Ok(());
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!(
            "the {} ended ({status}); {} says:\n{tail}",
            self.name,
            self.log.display()
        );
    }

    /// Ends it and tells how it went. The workload need not care for SIGTERM; the agent must.
    fn end(&mut self, must_succeed: bool) -> Result<()> {
        let (status, obeyed) = stop::end(&mut self.child, Duration::from_secs(10))?;
        if !obeyed || must_succeed && !status.success() {
            let how = if obeyed {
                ""
            } else {
                "did not end when asked and was killed; "
            };
            bail!(
                "the {} {how}ended with {status}; see {}",
                self.name,
                self.log.display()
            );
        }
        eprintln!("{:>8} the {} ended", "done", self.name);
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Only for what `end` did not reach; fails when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    fn start(programs: &[Program], port: u16) -> Result<Self> {
        let workload_program = program(programs, WORKLOAD)?.to_owned();
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["agent", "--web.listen-address", &listen];
        let agent = Started::start("agent", program(programs, "tracker")?, &arguments)?;
        Ok(Self {
            agent,
            workload: None,
            workload_program,
        })
    }
}

impl Side for Host {
    fn patience(&self) -> Duration {
        READY_HOST
    }

    fn check(&mut self) -> Result<()> {
        self.agent.check()?;
        self.workload.as_mut().map_or(Ok(()), Started::check)
    }

    fn start_workload(&mut self) -> Result<()> {
        let started = Started::start("workload", &self.workload_program, WORKLOAD_ARGUMENTS)?;
        self.workload = Some(started);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let workload = self
            .workload
            .as_mut()
            .map_or(Ok(()), |workload| workload.end(false));
        self.agent.end(true).and(workload)
    }
}

/// Both in a virtual machine; the port leads into it.
struct Guest {
    running: Running,
    said: Vec<String>,
}

impl Guest {
    fn start(kernel: &kernels::Kernel, programs: &[Program], port: u16) -> Result<Self> {
        program(programs, WORKLOAD)?;
        let mut vm = VmRun::new(&format!("run-{}", kernel.label), kernel);
        vm.files = guest_programs(programs, "/bin")?;
        vm.forward = Some(port);
        // The workload starts once the agent is ready, as on the host.
        vm.command = Some(format!(
            "tracker agent --web.listen-address 0.0.0.0:{port} &\n\
             until wget -q -O /dev/null http://127.0.0.1:{port}/readyz; do sleep 0.2; done\n\
             {WORKLOAD} {} &\nwait\n",
            WORKLOAD_ARGUMENTS.join(" ")
        ));
        eprintln!("{:>8} {} in QEMU", "boot", kernel.release);
        Ok(Self {
            running: vm.spawn()?,
            said: Vec::new(),
        })
    }
}

impl Side for Guest {
    fn patience(&self) -> Duration {
        READY_GUEST
    }

    fn check(&mut self) -> Result<()> {
        self.said.extend(self.running.said());
        if self.running.is_running() {
            return Ok(());
        }
        bail!(
            "{}",
            self.running
                .explain("the virtual machine ended", &self.said)
        );
    }

    /// The guest's own script does.
    fn start_workload(&mut self) -> Result<()> {
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.said.extend(self.running.said());
        self.running.kill(&self.said)?;
        eprintln!("{:>8} the virtual machine ended", "done");
        Ok(())
    }
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
    fn a_taken_port_is_told() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = format!("{:#}", free_port(port).unwrap_err());
        assert!(
            error.contains(&port.to_string()) && error.contains("--port"),
            "{error}"
        );
        drop(listener);
        free_port(port).unwrap();
    }
}
