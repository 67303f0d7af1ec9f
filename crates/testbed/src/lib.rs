//! For tests of running programs: they start the agent or a target as a process, and ask it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

pub mod calls;
pub mod cgroup;
pub mod client;
pub mod foreign;
pub mod guest;
pub mod inject;
pub mod judge;
pub mod privileges;
pub mod script;
pub mod session;
pub mod smaps;
pub mod tracer;
pub mod workload;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine; an emulated one is even slower.
pub fn patience() -> Duration {
    let in_guest = std::env::var_os("TRACKER_VM").is_some();
    Duration::from_secs(if in_guest { 400 } else { 60 })
}

/// A running agent, which is killed when dropped.
pub struct AgentProcess {
    child: Child,
    /// Where it serves: `ADDR:PORT`.
    pub address: String,
    log: Arc<Mutex<String>>,
}

/// The path of a program of this workspace: cargo puts it beside the directory of the test; in a
/// guest it is in PATH.
pub fn program(name: &str) -> String {
    if std::env::var_os("TRACKER_VM").is_some() {
        return name.to_owned();
    }
    let own = std::env::current_exe().unwrap();
    let built = own.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        built.exists(),
        "{} is not built: run `cargo build --workspace --bins`, or test the whole workspace",
        built.display()
    );
    built.to_str().unwrap().to_owned()
}

/// A command that starts the agent on a free port. Tests know VMAs by their addresses.
pub fn agent(args: &[&str]) -> Command {
    let mut command = Command::new(program("tracker"));
    command
        .args(["agent", "--listen", "127.0.0.1:0"])
        .env("TRACKER_VMA_LABEL", "address")
        .env("TRACKER_DISCOVER_BUDGET", "2%")
        .args(args);
    command
}

impl AgentProcess {
    /// Starts an agent with these flags too, and waits until it serves.
    pub fn start(args: &[&str]) -> Self {
        Self::spawn(agent(args))
    }

    /// Starts a command that becomes an agent, and waits until it serves.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let copy = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                copy.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        let mut agent = Self {
            child,
            address: String::new(),
            log,
        };
        agent.address = eventually("the agent serves", || {
            let log = agent.log();
            let ended = agent.child.try_wait().unwrap();
            assert!(ended.is_none(), "the agent ended ({ended:?}):\n{log}");
            let (_, rest) = log.split_once("serving http")?.1.split_once("://")?;
            Some(rest.split_once('/')?.0.to_owned())
        });
        agent
    }

    /// What the agent has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Pid of the agent.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Status code and body of `path`.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(&self.address, path)
    }

    /// What `/metrics` shows.
    pub fn metrics(&self) -> String {
        let (code, body) = self.get("/metrics");
        assert_eq!(code, 200, "{body}");
        body
    }

    /// What `/status` shows.
    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    /// Waits until `/readyz` says that the agent is ready.
    pub fn wait_ready(&self) {
        eventually("the agent is ready", || {
            (self.get("/readyz").0 == 200).then_some(())
        });
    }

    /// Sends a signal, and waits until the agent has ended.
    pub fn end(&mut self, signal: rustix::process::Signal) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
        eventually("the agent ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the agent:\n{}", self.log());
        }
    }
}

/// A child that is killed when dropped.
pub struct KilledChild(pub Child);

impl Drop for KilledChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes that map and write uffd-wp VMAs, and then sleep or work, as `uffdwp-workload crowd`
/// is told by these flags. All of them are there.
pub fn crowd(flags: &[&str]) -> KilledChild {
    let mut command = Command::new(program("uffdwp-workload"));
    command.arg("crowd").args(flags);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    KilledChild(child)
}

/// Status code and body of `http://{address}{path}`.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

/// Asks until there is an answer; fails if that takes too long.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    let answer = asked_for(patience(), ask);
    answer.unwrap_or_else(|| panic!("not within {:?}: {what}", patience()))
}

/// Asks until there is an answer, a quarter as long as [`eventually`] does.
pub fn soon<T>(ask: impl FnMut() -> Option<T>) -> Option<T> {
    asked_for(patience() / 4, ask)
}

fn asked_for<T>(longest: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        match ask() {
            None if begin.elapsed() < longest => std::thread::sleep(Duration::from_millis(20)),
            answer => return answer,
        }
    }
}

/// The sum of all samples of a family whose lines contain all of `labels`; `None` if there is none.
pub fn sum(exposition: &str, family: &str, labels: &[&str]) -> Option<f64> {
    let matches = |line: &&str| {
        let rest = line.strip_prefix(family);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    let mut values = exposition.lines().filter(matches).peekable();
    values.peek()?;
    Some(
        values
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum(),
    )
}

/// Whether a program is installed; prints that the test is skipped otherwise.
pub fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Fails unless `promtool check metrics` has nothing to say; skipped where there is no promtool.
pub fn check_metrics(exposition: &str) {
    if !has("promtool") {
        return;
    }
    let mut command = Command::new("promtool");
    command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(exposition.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.is_empty(),
        "{said}\n{exposition}"
    );
}
