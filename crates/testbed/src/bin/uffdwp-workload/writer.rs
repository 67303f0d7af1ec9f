//! Another process that writes into ours, as debuggers and migration tools do.
//!
//! It runs this program anew, because after a fork our own pages would be copied at any time.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::area::MappedArea;
use crate::child::WordPipe;

/// How the other process writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMeans {
    /// By process_vm_writev(2).
    VmWritev,
    /// Through `/proc/PID/mem`.
    ProcMem,
}

/// The other process, which is told through a pipe where to write a byte.
#[derive(Debug)]
pub struct RemoteWriter {
    line: WordPipe,
    /// It ends when its standard input closes, at the latest when this process ends.
    _process: Child,
}

impl RemoteWriter {
    /// Starts it, and tells Yama that it may write into this process.
    pub fn start() -> Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .args(["write-into", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the writer process")?;
        let from = process
            .stdout
            .take()
            .context("the writer process has no output")?;
        let to = process
            .stdin
            .take()
            .context("the writer process has no input")?;
        // SAFETY: PR_SET_PTRACER takes a pid and no pointer. It fails where there is no Yama, which
        // then forbids nothing.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::from(process.id())) };
        Ok(Self {
            line: WordPipe::new(OwnedFd::from(from), OwnedFd::from(to)),
            _process: process,
        })
    }

    /// Makes it write one byte to each unit of `area`.
    pub fn write(&mut self, area: &MappedArea, means: WriteMeans) -> Result<()> {
        for unit in 0..area.units() {
            let address = area.address(unit).addr() as u64;
            self.line
                .send(address | u64::from(means == WriteMeans::ProcMem))?;
        }
        self.line.send(0)?;
        let failed = self.line.receive()?;
        ensure!(
            failed == 0,
            "{failed} of {} remote writes failed ({means:?})",
            area.units()
        );
        Ok(())
    }
}

/// The other process. An order is an address, whose lowest bit is the means; 0 asks how many writes
/// have failed. Fails when the pipe closes.
pub fn serve(parent: u32) -> Result<()> {
    let (from, to) = (
        std::io::stdin().as_fd().try_clone_to_owned()?,
        std::io::stdout().as_fd().try_clone_to_owned()?,
    );
    let mut line = WordPipe::new(from, to);
    let memory = File::options()
        .write(true)
        .open(format!("/proc/{parent}/mem"));
    let mut failed = 0;
    loop {
        let order = line.receive()?;
        let result = match order {
            0 => {
                line.send(std::mem::take(&mut failed))?;
                continue;
            }
            order if order & 1 == 0 => vm_writev(parent, order),
            order => match &memory {
                Ok(file) => file.write_all_at(&[2], order & !1).context("cannot write"),
                Err(error) => bail!("cannot open /proc/{parent}/mem: {error}"),
            },
        };
        failed += u64::from(result.is_err());
    }
}

fn vm_writev(pid: u32, address: u64) -> Result<()> {
    let byte = [2u8];
    let local = libc::iovec {
        iov_base: byte.as_ptr().cast_mut().cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address as usize),
        iov_len: 1,
    };
    // SAFETY: one byte of ours is read; the memory written is another process'.
    let written = unsafe { libc::process_vm_writev(pid as i32, &local, 1, &remote, 1, 0) };
    ensure!(
        written == 1,
        "process_vm_writev: {}",
        std::io::Error::last_os_error()
    );
    Ok(())
}
