//! A bad machine: logs that cannot be written, limits that are too low, signals, clients that
//! flood. The agent goes on, or ends in words.
#![allow(clippy::unwrap_used, reason = "tests")]

use assert_cmd::assert::OutputAssertExt as _;
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::contains;
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process};
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use testbed::{AgentProcess, KilledChild, agent, eventually, get, has, program, sum};

/// One test at a time: a program that another one starts has, until it executes, all that is open
/// here, such as the listener that found a free port, or the file that becomes a program.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port that was free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// An agent whose log nobody reads: it cannot say where it serves. A shell prepares its start.
fn silent_agent(prepare: &str, stderr: Stdio) -> (KilledChild, String) {
    let address = free_address();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{prepare} exec \"$@\""), "sh"]);
    command.arg(program("tracker"));
    command.args(["agent", "--listen", &address, "--log.level", "debug"]);
    let mut child = KilledChild(command.stderr(stderr).spawn().unwrap());
    eventually("it is ready", || {
        let ended = child.0.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}");
        answer(&address, "/readyz").filter(|answer| answer.contains(" 200 "))
    });
    (child, address)
}

/// Head and body of an answer, if there is one: a child that another test has just forked may still
/// hold the listener that found the port, and resets who connects to it.
fn answer(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn end(child: &mut Child) -> ExitStatus {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    eventually("it ends", || child.try_wait().unwrap())
}

fn lost(address: &str, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    let metrics = get(address, "/metrics").1;
    sum(&metrics, "uffdwp_log_lines_lost_total", &[&label]).unwrap()
}

fn full_device() -> Stdio {
    OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing_and_is_counted() {
    let _alone = alone();
    let (_, closed) = rustix::pipe::pipe().unwrap();
    let file = || Stdio::from(tempfile::tempfile().unwrap());
    // The kernel sends SIGXFSZ to whoever writes more than a file may hold.
    for (prepare, stderr) in [
        ("", full_device()),
        ("", closed.into()),
        ("ulimit -f 0;", file()),
    ] {
        let (mut child, address) = silent_agent(prepare, stderr);
        assert!(lost(&address, "unwritable") > 0.0);
        let status = end(&mut child.0);
        assert!(status.success(), "{status}");
    }
}

#[test]
fn a_reader_of_the_log_that_stands_still_stops_nothing() {
    let _alone = alone();
    let (reader, writer): (OwnedFd, OwnedFd) = rustix::pipe::pipe().unwrap();
    let filled = vec![b'x'; rustix::pipe::fcntl_getpipe_size(&writer).unwrap()];
    rustix::io::write(&writer, &filled).unwrap();
    let (mut child, address) = silent_agent("", writer.into());
    assert!(lost(&address, "unwritable") > 0.0);
    let status = end(&mut child.0);
    assert!(status.success(), "{status}");
    drop(reader);
}

#[test]
fn a_result_that_cannot_be_written_is_status_1_in_words() {
    for args in [
        &["check"][..],
        &["--help"],
        &["--version"],
        &["check", "--json"],
    ] {
        let mut command = Command::new(program("tracker"));
        let output = command.args(args).stdout(full_device()).output().unwrap();
        output.assert().code(1).stderr(contains("No space left"));
    }
}

/// A file may be no longer than it is.
#[test]
fn a_file_that_may_not_grow_is_an_error_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("recording");
    let mut command = Command::new("sh");
    let run = "ulimit -f 0; exec \"$@\" -- sleep 0.3";
    command.args(["-c", run, "sh"]).arg(program("tracker"));
    command.args(["track", "-i", "50ms", "-o"]).arg(file);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{text}");
    assert!(text.contains("File too large"), "{text}");
}

/// Neither can be told: the status is all that is left.
#[test]
fn where_nothing_can_be_written_the_status_tells() {
    let _alone = alone();
    let mut command = Command::new(program("tracker"));
    command
        .arg("check")
        .stdout(full_device())
        .stderr(full_device());
    assert_eq!(command.status().unwrap().code(), Some(1));
}

#[test]
fn a_client_that_floods_does_not_fill_the_log() {
    let _alone = alone();
    let running = AgentProcess::start(&[]);
    running.wait_ready();
    let connect = || TcpStream::connect(&running.address).unwrap();
    let held: Vec<_> = (0..70).map(|_| connect()).collect();
    eventually("the first are given up", || {
        let given_up = held
            .iter()
            .take(6)
            .filter(|stream| is_closed(stream))
            .count();
        (given_up == 6).then_some(())
    });
    let more: Vec<_> = (0..300).map(|_| connect()).collect();
    let log = eventually("what was left out is told", || {
        let log = running.log();
        (left_out(&log) > 0).then_some(log)
    });
    let told = log.matches("of whoever holds most").count();
    assert!((1..300).contains(&told), "{told} lines");
    let counted = eventually("it is answered all the time", || {
        let answer = answer(&running.address, "/metrics")?;
        sum(&answer, "uffdwp_log_lines_lost_total", &["reason=\"rate\""])
    });
    drop((held, more));
    assert!(counted >= left_out(&log) as f64, "{counted}");
}

/// Whether the server has closed a connection on which nothing was sent.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    !stream.peek(&mut [0]).is_err_and(|error| is_late(&error))
}

fn is_late(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::WouldBlock
}

/// How many lines a log says were left out.
fn left_out(log: &str) -> u64 {
    let counts = log.split("left_out=").skip(1);
    let number = |rest: &str| rest.split_whitespace().next()?.parse::<u64>().ok();
    counts.filter_map(number).sum()
}

#[test]
fn a_hang_up_ends_nothing() {
    let _alone = alone();
    let mut running = AgentProcess::start(&[]);
    let pid = Pid::from_raw(running.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    eventually("it is told", || {
        running.log().contains("SIGHUP").then_some(())
    });
    running.wait_ready();
    assert!(running.end(Signal::TERM).success());
}

/// Which signals a process catches (SigCgt of `/proc/PID/status`); it has not exited.
fn caught(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

#[test]
fn a_hang_up_ends_nothing_at_the_very_start_either() {
    let _alone = alone();
    let bit = |signal: Signal| 1_u64 << (signal.as_raw() - 1);
    let child = agent(&[]).stderr(Stdio::null()).spawn().unwrap();
    let child = KilledChild(child);
    // What it catches before it does anything else.
    let mask = eventually("it has begun", || {
        let mask = caught(child.0.id());
        (mask & bit(Signal::XFSZ) != 0).then_some(mask)
    });
    assert_ne!(mask & bit(Signal::HUP), 0, "{mask:x}");
}

#[test]
fn a_blank_variable_is_as_one_that_is_not_set() {
    let _alone = alone();
    let mut command = agent(&[]);
    for name in [
        "SCAN_INTERVAL",
        "REQUIRE_LEVEL",
        "TRACK",
        "LOG_LEVEL",
        "MAX_VMAS",
        "NO_HOOK",
    ] {
        command.env(
            format!("TRACKER_{name}"),
            if name == "TRACK" { "" } else { " " },
        );
    }
    AgentProcess::spawn(command).wait_ready();
}

#[test]
fn all_addresses_are_those_of_both_families() {
    let _alone = alone();
    let port = free_address().rsplit_once(':').unwrap().1.to_owned();
    let mut command = Command::new(program("tracker"));
    command.args(["agent", "--listen", &format!(":{port}")]);
    let running = AgentProcess::spawn(command);
    assert!(running.log().contains("serving"));
    assert_eq!(get(&format!("127.0.0.1:{port}"), "/healthz").0, 200);
    let v6 = TcpListener::bind("[::1]:0").is_ok();
    if v6 {
        assert_eq!(get(&format!("[::1]:{port}"), "/healthz").0, 200);
    }
}

/// An agent that may have so many descriptors open, from its first instruction on.
fn with_files(soft: u64, hard: u64, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\"");
    command.args(["-c", &limits, "sh"]);
    command.arg(program("tracker")).args(args);
    command
}

#[test]
fn too_few_descriptors_are_refused_in_words_before_anything_is_attached() {
    let _alone = alone();
    for hard in [8, 40, 64] {
        for args in [&["agent", "--listen", "127.0.0.1:0"][..], &["check"]] {
            let output = with_files(hard, hard, args).output().unwrap();
            let said = contains("file descriptors may be needed").and(contains("LimitNOFILE="));
            output
                .assert()
                .code(3)
                .stderr(said.and(contains("serving").not()));
        }
    }
}

/// At 100 it is refused, where hooks take more, or serves.
#[test]
fn with_a_hundred_descriptors_it_is_refused_or_it_serves() {
    let _alone = alone();
    let mut command = with_files(100, 100, &["agent", "--listen", "127.0.0.1:0"]);
    let mut child = KilledChild(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = std::io::BufReader::new(child.0.stderr.take().unwrap());
    let address = loop {
        let mut line = String::new();
        if std::io::BufRead::read_line(&mut log, &mut line).unwrap() == 0 {
            break None;
        }
        if let Some((_, rest)) = line.split_once("serving http://") {
            break Some(rest.split_once('/').unwrap().0.to_owned());
        }
    };
    match address {
        None => assert_eq!(child.0.wait().unwrap().code(), Some(3)),
        Some(address) => eventually("it is ready", || {
            (get(&address, "/readyz").0 == 200).then_some(())
        }),
    }
}

#[test]
fn a_low_soft_limit_is_raised() {
    let _alone = alone();
    let running = AgentProcess::spawn({
        let hard = getrlimit(Resource::Nofile).maximum;
        with_files(
            8,
            hard.unwrap_or(4096),
            &["agent", "--listen", "127.0.0.1:0"],
        )
    });
    running.wait_ready();
    let limit = sum(&running.metrics(), "process_max_fds", &[]);
    assert!(limit.is_none_or(|limit| limit > 100.0), "{limit:?}");
}

#[test]
fn too_few_threads_are_refused_in_words() {
    let _alone = alone();
    if !rustix::process::geteuid().is_root() || !has("setpriv") || !has("prlimit") {
        return;
    }
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let binary = directory.path().join("tracker");
    std::fs::copy(program("tracker"), &binary).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), mode).unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=64321",
        "--regid=64321",
        "--clear-groups",
        "--bounding-set=-all",
    ]);
    command
        .args(["--inh-caps=-all", "prlimit", "--nproc=6:6"])
        .arg(&binary);
    let output = command
        .args(["agent", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    let said = contains("threads are needed").and(contains("TasksMax="));
    output
        .assert()
        .code(1)
        .stderr(said.and(contains("panicked").not()));
}

/// A control group below our own, of either version; `None` where nobody may make one.
struct SmallGroup(std::path::PathBuf);

impl SmallGroup {
    fn with_limit(bytes: u64) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let memory = own.lines().find_map(|line| line.split_once(":memory:"));
        let (top, path, file) = match memory {
            Some((_, path)) => ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"),
            None => (
                "/sys/fs/cgroup",
                own.trim().strip_prefix("0::")?,
                "memory.max",
            ),
        };
        let name = format!("tracker-test-{}", std::process::id());
        let directory = std::path::Path::new(&format!("{top}{path}")).join(name);
        std::fs::create_dir(&directory).ok()?;
        let group = Self(directory);
        std::fs::write(group.0.join(file), bytes.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for SmallGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn too_little_memory_is_told_before_the_kernel_kills() {
    let _alone = alone();
    let Some(group) = SmallGroup::with_limit(20 << 20) else {
        eprintln!("skipped: no control group can be made");
        return;
    };
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]);
    command
        .arg(group.0.join("cgroup.procs"))
        .arg(program("tracker"));
    command.args(["agent", "--listen", "127.0.0.1:0"]);
    let mut child = KilledChild(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut said = child.0.stderr.take().unwrap();
    let (mut log, mut bytes) = (String::new(), [0; 4096]);
    while !log.contains("allows 20 MiB of memory") {
        let read = said.read(&mut bytes).unwrap();
        assert_ne!(read, 0, "{log}");
        log.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(log.contains("MemoryMax="), "{log}");
    drop(child);
    drop(group);
}
