//! The demo on this host: agent and workload as child processes.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{DemoSite, WORKLOAD_ARGUMENTS};
use crate::{
    cargo::{self, BuiltProgram, OwnProgram},
    paths, stop,
};

/// Agent and workload on this host.
pub struct HostDemo {
    agent: LoggedChild,
    workload: Option<LoggedChild>,
    workload_program: PathBuf,
}

impl HostDemo {
    /// Starts the agent, which listens on `port` of the loopback.
    pub fn start(programs: &[BuiltProgram], port: u16) -> Result<Self> {
        let workload_program = cargo::find(programs, OwnProgram::Workload)?.to_owned();
        let listen = format!("127.0.0.1:{port}");
        let arguments = ["agent", "--web.listen-address", &listen];
        let tracker = cargo::find(programs, OwnProgram::Tracker)?;
        let agent = LoggedChild::start("agent", tracker, &arguments)?;
        Ok(Self {
            agent,
            workload: None,
            workload_program,
        })
    }
}

impl DemoSite for HostDemo {
    fn ready_timeout(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn check(&mut self) -> Result<()> {
        self.agent.check()?;
        self.workload.as_mut().map_or(Ok(()), LoggedChild::check)
    }

    fn start_workload(&mut self) -> Result<()> {
        let child = LoggedChild::start("workload", &self.workload_program, WORKLOAD_ARGUMENTS)?;
        self.workload = Some(child);
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

/// A child process that writes to a log file.
struct LoggedChild {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl LoggedChild {
    fn start(name: &'static str, program: &Path, arguments: &[&str]) -> Result<Self> {
        let log = paths::create(paths::target().join("run"))?.join(format!("{name}.log"));
        let stdout =
            File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let stderr = stdout.try_clone().context("cannot share a log file")?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            // In its own group Ctrl-C does not reach it, so that we can end both in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name, child, log })
    }

    /// Fails with the end of the log if the process is gone.
    fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait().context("cannot wait for a process")? else {
            return Ok(());
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(20)..].join("\n");
        bail!(
            "the {} ended ({status}); the last lines of {}:\n{tail}",
            self.name,
            self.log.display()
        );
    }

    /// Ends the process and reports how. The agent must exit successfully; the workload need not
    /// handle SIGTERM.
    fn end(&mut self, must_succeed: bool) -> Result<()> {
        let (status, obeyed) = stop::end(&mut self.child, Duration::from_secs(10))?;
        if !obeyed || must_succeed && !status.success() {
            let how = if obeyed {
                ""
            } else {
                "ignored SIGTERM and was killed; it "
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

impl Drop for LoggedChild {
    fn drop(&mut self) {
        // For errors on the way to `end`; both calls fail if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
