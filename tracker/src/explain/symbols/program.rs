//! The code of one program that a process executes.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::code::{CodeTable, HeldFile, root};

/// Where a program keeps its code, and who it is.
#[derive(Debug)]
pub(super) struct ProgramCode {
    pid: u32,
    pub table: CodeTable,
    /// Its root directory, and whose the process is.
    home: Option<(OwnedFd, u32)>,
    /// Its pid as it knows it.
    own_pid: u32,
}

impl ProgramCode {
    /// What a process has mapped now.
    pub(super) fn of(pid: u32) -> Self {
        let mut table = CodeTable::default();
        table.look(pid);
        let owner = fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid());
        Self {
            pid,
            table,
            home: root(pid).zip(owner.ok()),
            own_pid: own_pid(pid).unwrap_or(pid),
        }
    }

    /// Reads again what is mapped, if one of these addresses is not known.
    pub(super) fn see(&mut self, addresses: impl IntoIterator<Item = u64>) {
        if addresses.into_iter().any(|at| self.table.at(at).is_none()) {
            self.table.look(self.pid);
        }
    }

    /// What it tells of code made at run time, if it left that in the usual place. What somebody
    /// else left there is not its word.
    pub(super) fn perf_map(&self) -> Option<HeldFile> {
        let (root, owner) = self.home.as_ref()?;
        let path = format!("tmp/perf-{}.map", self.own_pid);
        let map = HeldFile::below(root, Path::new(&path))?;
        [Some(*owner), Some(0)]
            .contains(&map.owner())
            .then_some(map)
    }
}

/// The pid of a process in its own namespace (proc_pid_status(5)).
fn own_pid(pid: u32) -> Option<u32> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let own = status.lines().find_map(|line| line.strip_prefix("NStgid:"));
    own?.split_whitespace().last()?.parse().ok()
}
