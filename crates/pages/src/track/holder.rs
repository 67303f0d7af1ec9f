//! Who holds a userfaultfd that memory of a process belongs to.
//!
//! The kernel does not tell. The process itself may hold one; otherwise somebody took it, as we do,
//! and looks after the process by a pidfd.

use std::fmt;
use std::fs;

/// A process that holds a userfaultfd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UffdHolder {
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// It is the process whose memory it is.
    pub itself: bool,
}

impl fmt::Display for UffdHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.itself {
            f.write_str("which the process itself holds")
        } else {
            write!(f, "which process {} ({}) holds", self.pid, self.comm)
        }
    }
}

impl UffdHolder {
    /// Who holds one for the memory of a process, as far as that can be seen. It looks at the
    /// descriptors of all processes.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        find(pid)
    }
}

pub(super) fn find(pid: u32) -> Option<UffdHolder> {
    if holds_userfaultfd(pid) {
        return Some(holder(pid, true));
    }
    let ours = std::process::id();
    let others = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let other: u32 = entry.file_name().to_str()?.parse().ok()?;
        (other != pid && other != ours).then_some(other)
    });
    let mut others = others.filter(|other| watches(*other, pid) && holds_userfaultfd(*other));
    others.next().map(|other| holder(other, false))
}

fn holder(pid: u32, itself: bool) -> UffdHolder {
    let comm = uffd::comm(pid).unwrap_or_default();
    UffdHolder {
        pid,
        comm: String::from_utf8_lossy(&comm).into_owned(),
        itself,
    }
}

/// A process that may not be looked at, or is gone, holds none as far as that can be seen.
fn holds_userfaultfd(pid: u32) -> bool {
    descriptors(pid, "anon_inode:[userfaultfd]")
        .next()
        .is_some()
}

/// Whether a process holds a pidfd of another one.
fn watches(pid: u32, other: u32) -> bool {
    descriptors(pid, "anon_inode:[pidfd]").any(|number| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"));
        let mut lines = info.as_deref().unwrap_or_default().lines();
        lines.any(|line| {
            let number = line.strip_prefix("Pid:").map(str::trim);
            number.and_then(|number| number.parse().ok()) == Some(other)
        })
    })
}

/// The numbers of a process's descriptors of one kind. Since 6.9 a pidfd is a file of a file
/// system of its own.
fn descriptors(pid: u32, kind: &'static str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    entries.flatten().filter_map(move |entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let target = target.to_str()?;
        let pidfs = kind.contains("pidfd") && target.starts_with("pidfd:");
        if target != kind && !pidfs {
            return None;
        }
        entry.file_name().to_str()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_process_that_holds_one_itself() {
        let _uffd = uffd::Userfaultfd::open_user_mode_only().unwrap();
        let pid = std::process::id();
        let holder = find(pid).unwrap();
        assert!(holder.itself && holder.pid == pid);
        assert_eq!(holder.to_string(), "which the process itself holds");
    }

    #[test]
    fn who_watches_whom_is_seen() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let ours = std::process::id();
        let before = watches(ours, child.id());
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let during = watches(ours, child.id());
        drop(pidfd);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((before, during), (false, true));
    }
}
