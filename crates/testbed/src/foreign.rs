//! Programs of others that tests track while they do what they do.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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
