//! Cases of calls that move all they are asked to, unless they are interrupted.

use std::io::{Result, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::PipeFlags;

use super::report::CaseReport;
use super::{sys, until_asked};

const MIB: usize = 1 << 20;

/// Calls of one kind, and those that moved less than they were to.
pub struct TransferCount {
    name: &'static str,
    whole: AtomicU64,
    short: AtomicU64,
}

impl TransferCount {
    fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            whole: AtomicU64::new(0),
            short: AtomicU64::new(0),
        })
    }

    fn add(&self, moved: rustix::io::Result<usize>, asked: usize) {
        let count = if moved == Ok(asked) {
            &self.whole
        } else {
            &self.short
        };
        count.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits for the ends of the next two: whatever was done to one before shows then.
    pub fn wait_for_two(&self) {
        let all = || self.whole.load(Ordering::SeqCst) + self.short.load(Ordering::SeqCst);
        let before = all();
        while all() < before + 2 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reports them.
    pub fn put(&self, report: &mut CaseReport) {
        let (name, short) = (self.name, self.short.load(Ordering::SeqCst));
        report.put(&format!("{name}: short"), short);
        report.put(
            &format!("{name}: any"),
            self.whole.load(Ordering::SeqCst) > 0,
        );
    }
}

/// Has a thread make a call of so many bytes again and again.
fn transfers(
    name: &'static str,
    length: usize,
    mut call: impl FnMut(&mut [u8]) -> rustix::io::Result<usize> + Send + 'static,
) -> Arc<TransferCount> {
    let count = TransferCount::new(name);
    let own = count.clone();
    std::thread::spawn(move || {
        let mut bytes = vec![0; length];
        loop {
            own.add(call(&mut bytes), length);
        }
    });
    count
}

/// Takes a little now and then, so that whoever writes waits most of the time.
fn drain(from: impl AsFd) {
    let mut bytes = [0; 64 << 10];
    while rustix::io::read(&from, &mut bytes).is_ok_and(|read| read > 0) {
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn drained(from: impl AsFd + Send + 'static) {
    std::thread::spawn(move || drain(from));
}

/// The end of a connection that gets a little now and then.
fn fed() -> Result<UnixStream> {
    let (here, mut there) = UnixStream::pair()?;
    std::thread::spawn(move || {
        let bytes = [0; 16 << 10];
        while there.write_all(&bytes).is_ok() {
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    Ok(here)
}

fn tcp() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let here = TcpStream::connect(listener.local_addr()?)?;
    Ok((here, listener.accept()?.0))
}

/// Begins threads in the middle of transfers of each kind, and those at the other ends.
pub fn begin_all() -> Result<[Arc<TransferCount>; 5]> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    drained(reader);
    let (near, far) = UnixStream::pair()?;
    drained(far);
    let (here, there) = tcp()?;
    drained(there);
    let incoming = fed()?;
    Ok([
        transfers("write to a pipe", MIB, move |bytes| {
            rustix::io::write(&writer, bytes)
        }),
        transfers("write to a socket", 4 * MIB, move |bytes| {
            rustix::io::write(&near, bytes)
        }),
        transfers("send", 8 * MIB, move |bytes| {
            rustix::net::send(&here, bytes, SendFlags::NOSIGNAL)
        }),
        transfers("receive all", MIB, move |bytes| {
            let received = rustix::net::recv(&incoming, bytes, RecvFlags::WAITALL)?;
            Ok(received.1)
        }),
        transfers("getrandom", 16 * MIB, |bytes| {
            std::thread::sleep(Duration::from_millis(20));
            sys::random(bytes)
        }),
    ])
}

/// Such threads, until standard input ends.
pub fn all(report: &mut CaseReport) -> Result<()> {
    let counts = begin_all()?;
    report.ready();
    until_asked::wait();
    for count in counts {
        count.put(report);
    }
    Ok(())
}

/// One thread, which does nothing but write to a child that reads slowly.
pub fn alone(report: &mut CaseReport) -> Result<()> {
    let (reader, writer): (OwnedFd, OwnedFd) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let count = TransferCount::new("write to a pipe");
    let mut child = std::process::Command::new("/proc/self/exe")
        .arg("drain")
        .stdin(std::process::Stdio::from(reader))
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let bytes = vec![0; MIB];
    report.ready();
    while !until_asked::is_over_within(Duration::ZERO) {
        count.add(rustix::io::write(&writer, &bytes), MIB);
    }
    count.put(report);
    drop(writer);
    child.wait()?;
    Ok(())
}

/// The child of [`alone`].
pub fn drain_input(report: &mut CaseReport) -> Result<()> {
    report.ready();
    drain(std::io::stdin());
    Ok(())
}
