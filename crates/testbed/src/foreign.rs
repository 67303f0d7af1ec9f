//! Programs of others that tests track while they do what they do.

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::{KilledChild, eventually};

/// A redis-server that is empty and never saves.
pub struct RedisServer {
    server: KilledChild,
    port: u16,
}

impl RedisServer {
    /// Starts a server on a free port of the loopback, with its files in `dir`.
    pub fn start(dir: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut command = Command::new("redis-server");
        let text = port.to_string();
        command.args(["--port", &text, "--save", "", "--appendonly", "no"]);
        command
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = KilledChild(command.spawn().unwrap());
        let redis = Self { server, port };
        eventually("redis answers", || {
            TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
        });
        redis
    }

    /// Pid of the server.
    pub fn pid(&self) -> u32 {
        self.server.0.id()
    }

    /// Starts redis-benchmark, which puts load on the server until it is killed.
    pub fn benchmark(&self) -> KilledChild {
        let mut command = Command::new("redis-benchmark");
        let port = self.port.to_string();
        command.args([
            "-p", &port, "-l", "-n", "100000", "-r", "50000", "-d", "100", "-c", "8",
        ]);
        command.args(["-t", "set,get,incr,lpush"]);
        KilledChild(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// Sends a command and returns its answer, which must be one line.
    pub fn say(&self, line: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut answer = [0; 256];
        let read = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..read])
            .trim_end()
            .to_owned()
    }
}

/// The addresses of its own memory that [`machine`] writes again and again.
pub const GUEST_WRITES: std::ops::Range<u64> = 0x1_0000..0x9_0000;
/// The size of that machine's memory.
pub const GUEST_MEMORY: u64 = 64 << 20;

/// A machine in QEMU without a kernel, whose boot sector writes a word to each page of
/// [`GUEST_WRITES`] and a byte to the serial port, again and again with interrupts off.
pub fn machine(dir: &Path, further: &[&str]) -> Command {
    /// In real mode:
    /// `cli; mov dx,0x3f8; 1: mov bx,0x1000; 2: mov es,bx; inc word [es:0]; add bx,0x100;`
    /// `cmp bx,0x9000; jne 2b; mov al,'.'; out dx,al; jmp 1b`.
    const CODE: [u8; 29] = [
        0xfa, 0xba, 0xf8, 0x03, 0xbb, 0x00, 0x10, 0x8e, 0xc3, 0x26, 0xff, 0x06, 0x00, 0x00, 0x81,
        0xc3, 0x00, 0x01, 0x81, 0xfb, 0x00, 0x90, 0x75, 0xef, 0xb0, 0x2e, 0xee, 0xeb, 0xe7,
    ];
    let mut sector = [0; 512];
    sector[..CODE.len()].copy_from_slice(&CODE);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let disk: PathBuf = dir.join("disk");
    std::fs::write(&disk, sector).unwrap();
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-accel",
        "tcg",
        "-m",
        "64",
        "-nodefaults",
        "-display",
        "none",
    ]);
    command
        .arg("-drive")
        .arg(format!("file={},format=raw,if=ide", disk.display()));
    command.args(further);
    command
}

/// Waits until the boot sector has written to the serial port, which QEMU writes to a file.
pub fn booted(serial: &Path) {
    eventually("the machine boots", || {
        let written = std::fs::metadata(serial).ok()?.len();
        (written > 1000).then_some(())
    });
}

/// A postgres whose children stay the same: no worker comes and goes.
pub struct PostgresServer {
    server: KilledChild,
    dir: PathBuf,
}

impl PostgresServer {
    const SETTINGS: [&str; 8] = [
        "listen_addresses=",
        "autovacuum=off",
        "max_parallel_workers=0",
        "max_logical_replication_workers=0",
        "jit=off",
        "shared_buffers=16MB",
        "fsync=off",
        "max_wal_size=64MB",
    ];

    /// Starts a server with the tables of pgbench, with its files and its socket in `dir`, which
    /// is empty.
    pub fn start(dir: &Path) -> Self {
        std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
        let data = dir.join("data");
        let mut init = as_nobody("initdb");
        init.args(["--auth=trust", "--no-sync", "--username=postgres"]);
        let made = init.arg("--pgdata").arg(&data).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut command = as_nobody("postgres");
        command.arg("-D").arg(&data).arg("-k").arg(dir);
        for setting in Self::SETTINGS {
            command.args(["-c", setting]);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let server = KilledChild(command.spawn().unwrap());
        let dir = dir.to_owned();
        let postgres = Self { server, dir };
        eventually("postgres answers", || {
            let mut made = postgres.pgbench(&["--initialize", "--quiet", "--scale=2"]);
            let made = made.stdout(Stdio::null()).stderr(Stdio::null()).status();
            made.unwrap().success().then_some(())
        });
        postgres
    }

    /// Pid of the server's first process.
    pub fn pid(&self) -> u32 {
        self.server.0.id()
    }

    /// Starts pgbench, whose connections last until it is killed.
    pub fn load(&self) -> KilledChild {
        let mut load = self.pgbench(&["--client=4", "--jobs=1", "--time=3600", "--no-vacuum"]);
        let load = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let load = KilledChild(load.unwrap());
        // All connections are there by then.
        std::thread::sleep(std::time::Duration::from_millis(500));
        load
    }

    fn pgbench(&self, arguments: &[&str]) -> Command {
        let mut command = as_nobody("pgbench");
        command.arg("--host").arg(&self.dir);
        command.args(["--username=postgres"]).args(arguments);
        command.arg("postgres");
        command
    }
}

/// The user that has nothing, and its group: postgres refuses to be root.
const NOBODY: u32 = 65534;

fn as_nobody(program: &str) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

/// Keeps a process stopped until it is dropped.
pub struct SigstopGuard(i32);

impl SigstopGuard {
    /// Stops a process with SIGSTOP, and waits until all its threads stand still.
    pub fn of(pid: u32) -> Self {
        let pid = pid as i32;
        // SAFETY: a process that the test started.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
        eventually("it stands still", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let state = stat.rsplit_once(") ").unwrap().1.as_bytes()[0];
            // Of every thread: the state of the process is only that of the first.
            let still = |tid: &str| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat"));
                stat.map_or(true, |stat| {
                    stat.rsplit_once(") ").unwrap().1.starts_with('T')
                })
            };
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            let all = tasks
                .flatten()
                .all(|task| still(&task.file_name().to_string_lossy()));
            (state == b'T' && all).then_some(())
        });
        Self(pid)
    }
}

impl Drop for SigstopGuard {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

/// Starts a QEMU with a monitor on standard input and output.
pub fn with_monitor(mut command: Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.spawn().unwrap()
}

/// QEMU's monitor for programs (QMP), on its standard input and output.
pub struct QemuMonitor {
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What became of a background snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// It was written, and the machine went on meanwhile.
    Completed,
    /// What QEMU says.
    Failed(String),
}

impl QemuMonitor {
    /// The monitor of a machine that was started [with one](with_monitor).
    pub fn of(qemu: &mut KilledChild) -> Self {
        let mut monitor = Self {
            input: qemu.0.stdin.take().unwrap(),
            lines: BufReader::new(qemu.0.stdout.take().unwrap()).lines(),
        };
        monitor.say("qmp_capabilities", &json!({})).unwrap();
        monitor
    }

    /// Says a command; its answer, or what is wrong.
    ///
    /// # Errors
    /// What QEMU says.
    pub fn say(&mut self, command: &str, arguments: &Value) -> Result<Value, String> {
        let line = json!({"execute": command, "arguments": arguments});
        writeln!(self.input, "{line}").unwrap();
        loop {
            let line = self.lines.next().unwrap().unwrap();
            let answer: Value = serde_json::from_str(&line).unwrap();
            // Events and the greeting come in between.
            if let Some(error) = answer.get("error") {
                return Err(error.to_string());
            }
            if let Some(answer) = answer.get("return") {
                return Ok(answer.clone());
            }
        }
    }

    /// Takes a background snapshot, for which QEMU registers the memory of its machine with a
    /// userfaultfd; a machine that a failure leaves paused goes on.
    pub fn snapshot(&mut self, file: &Path) -> SnapshotOutcome {
        let background = json!([{"capability": "background-snapshot", "state": true}]);
        let uri = format!("exec:cat > {}", file.display());
        let begun = self
            .say(
                "migrate-set-capabilities",
                &json!({"capabilities": background}),
            )
            .and_then(|_| self.say("migrate", &json!({"uri": uri})));
        if let Err(error) = begun {
            return SnapshotOutcome::Failed(error);
        }
        let outcome = eventually("the snapshot ends", || {
            let state = self.say("query-migrate", &json!({})).unwrap();
            match state["status"].as_str() {
                Some("completed") => Some(SnapshotOutcome::Completed),
                Some("failed") => Some(SnapshotOutcome::Failed(state.to_string())),
                _ => None,
            }
        });
        if outcome != SnapshotOutcome::Completed {
            // It may run already.
            let _ = self.say("cont", &json!({}));
        }
        outcome
    }
}
