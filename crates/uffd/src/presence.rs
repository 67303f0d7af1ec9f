//! Whether a process that `/proc` does not show is gone, and which of its threads shows its memory.
//!
//! "No such process" has four meanings: it has ended; `/proc` hides it (`hidepid=`, proc(5));
//! `/proc` shows the numbers of another pid namespace; or its main thread has ended while others
//! live, and with it what `/proc/PID` tells of its memory.

use std::fs;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

use crate::process::{ProcessStat, stat_of};
use crate::{OtherPidNamespace, ProcessGone, UffdError};

/// What became of a process that `/proc` said nothing of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessPresence {
    /// It has ended, or is about to.
    Gone,
    /// It is there, and `/proc` does not show it.
    Hidden,
    /// Its main thread has ended, others live.
    Leaderless,
}

/// Looks again, after a file of it was not there or could not be read.
pub(crate) fn presence(pid: u32) -> ProcessPresence {
    if is_shown(pid) {
        return match thread_with_memory(pid) {
            Ok(thread) if thread != pid => ProcessPresence::Leaderless,
            _ => ProcessPresence::Gone,
        };
    }
    // A new process of that number may have begun meanwhile: it would be shown by now.
    if proc_shows_our_pids() && exists(pid) && !is_shown(pid) {
        return ProcessPresence::Hidden;
    }
    ProcessPresence::Gone
}

fn is_shown(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether the kernel knows of a process: kill(2) with signal 0 sends nothing.
fn exists(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM))
}

/// The number of this process in `/proc`, which is another one than [`std::process::id`] where
/// `/proc` is that of another pid namespace.
#[must_use]
pub fn own_pid_in_proc() -> Option<u32> {
    fs::read_link("/proc/self").ok()?.to_str()?.parse().ok()
}

/// Whether the numbers in `/proc` are those that system calls of this process take: not in a
/// container that has the host's `/proc` and a pid namespace of its own (pid_namespaces(7)).
#[must_use]
pub fn proc_shows_our_pids() -> bool {
    own_pid_in_proc() == Some(std::process::id())
}

/// Whether a number means one process, in `/proc` and in system calls.
///
/// A pidfd is what system calls mean by it, and `Pid` in its fdinfo is what `/proc` calls that
/// process: the kernel counts it in the namespace of the mounted `/proc` (kernel/fork.c
/// `pidfd_show_fdinfo`, since 6.9 fs/pidfs.c).
///
/// # Errors
/// [`OtherPidNamespace`] if it means two. A process that is gone means none, which is no error here.
pub fn check_pid_namespace(pid: u32) -> Result<(), OtherPidNamespace> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = raw.and_then(|raw| pidfd_open(raw, PidfdFlags::empty()).ok());
    let in_proc = process.as_ref().and_then(number_in_proc);
    let is_same = proc_shows_our_pids() && in_proc.is_none_or(|there| there == pid);
    if is_same {
        return Ok(());
    }
    Err(OtherPidNamespace { pid, in_proc })
}

/// The number of the process of a pidfd in `/proc`. `None`: it has none there, or has ended.
pub fn number_in_proc(pidfd: impl AsFd) -> Option<u32> {
    let number = pidfd.as_fd().as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // 0: not in that namespace. -1: it has ended.
    pid.trim().parse().ok().filter(|pid| *pid != 0)
}

/// The initial pid namespace (include/uapi/linux/nsfs.h, `PID_NS_INIT_INO`).
const INITIAL: &str = "pid:[4026531836]";

/// Whether the numbers in `/proc` are those of the initial pid namespace, as the kernel's own are
/// and those that BPF programs see. `None`: it may not be asked.
#[must_use]
pub fn proc_shows_initial_pids() -> Option<bool> {
    // The first process of a namespace is in it.
    let of_first = fs::read_link("/proc/1/ns/pid");
    let link = match of_first {
        Err(_) if proc_shows_our_pids() => fs::read_link("/proc/self/ns/pid"),
        link => link,
    };
    Some(link.ok()?.to_str()? == INITIAL)
}

/// Whether this process is in the initial pid namespace. From any other, BPF iterators visit only
/// the processes of that one (kernel/bpf/task_iter.c `init_seq_pidns`).
#[must_use]
pub fn is_in_initial_pid_namespace() -> bool {
    let link = fs::read_link("/proc/self/ns/pid");
    link.is_ok_and(|link| link.to_str() == Some(INITIAL))
}

/// How far the boot time that this process sees in `/proc` is ahead of the kernel's own, in
/// nanoseconds (time_namespaces(7); `/proc/self/timens_offsets`).
#[must_use]
pub fn boot_time_offset_ns() -> i64 {
    let text = fs::read("/proc/self/timens_offsets").unwrap_or_default();
    parse_offset(&text).unwrap_or_default()
}

fn parse_offset(text: &[u8]) -> Option<i64> {
    let mut lines = std::str::from_utf8(text).ok()?.lines();
    let line = lines.find_map(|line| line.strip_prefix("boottime"))?;
    let mut fields = line.split_ascii_whitespace();
    let mut next = || fields.next()?.parse::<i64>().ok();
    let (seconds, nanoseconds) = (next()?, next()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// The thread of a process that shows its memory in `/proc`: the main one, or any other once that
/// has ended. What `/proc/PID` tells of memory and descriptors is told by `/proc/TID`, too.
///
/// # Errors
/// [`UffdError::Gone`]: the process is gone, or none of its threads lives. [`UffdError::Hidden`]: it
/// lives, and `/proc` does not show it. Otherwise its threads cannot be listed.
pub fn thread_with_memory(pid: u32) -> Result<u32, UffdError> {
    let directory = format!("/proc/{pid}/task");
    let main = stat_of(&format!("/proc/{pid}/stat"));
    if main.as_ref().is_ok_and(ProcessStat::has_memory) {
        return Ok(pid);
    }
    let gone = || ProcessGone { pid }.into();
    let entries = match fs::read_dir(&directory) {
        Err(error) if crate::error::is_gone(&error) && is_shown(pid) => return Err(gone()),
        Err(error) if crate::error::is_gone(&error) => return Err(UffdError::of_nothing(pid)),
        entries => entries.map_err(|e| UffdError::system("cannot list", &directory, e))?,
    };
    let threads = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let lives = |thread: &u32| {
        let stat = stat_of(&format!("{directory}/{thread}/stat"));
        stat.is_ok_and(|stat| stat.has_memory())
    };
    threads.into_iter().find(lives).ok_or_else(gone)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_that_ended_is_gone_and_not_hidden() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(presence(pid), ProcessPresence::Gone);
        assert_eq!(presence(u32::MAX), ProcessPresence::Gone);
        assert!(thread_with_memory(pid).unwrap_err().is_gone());
    }

    #[test]
    fn a_process_that_nobody_has_waited_for_is_gone() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        while stat_of(&format!("/proc/{pid}/stat")).unwrap().has_memory() {
            std::thread::yield_now();
        }
        assert_eq!(presence(pid), ProcessPresence::Gone);
        child.wait().unwrap();
    }

    #[test]
    fn our_memory_is_shown_by_our_main_thread() {
        let pid = std::process::id();
        assert_eq!(thread_with_memory(pid).unwrap(), pid);
        assert!(proc_shows_our_pids());
    }

    #[test]
    fn a_pidfd_has_the_number_of_its_process() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let there = number_in_proc(&pidfd);
        let checked = check_pid_namespace(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((there, checked), (Some(pid), Ok(())));
        assert_eq!(number_in_proc(&pidfd), None, "it has ended");
        assert_eq!(check_pid_namespace(pid), Ok(()), "it means none");
    }

    #[test]
    fn the_offset_of_a_time_namespace() {
        let text = b"monotonic           0         0\nboottime       -5 500000000\n";
        assert_eq!(parse_offset(text), Some(-4_500_000_000));
        assert_eq!(parse_offset(b""), None);
        assert_eq!(parse_offset(b"boottime 9223372036854775807 0"), None);
    }
}
