//! Who a process is: start time, page table bytes, name and cgroup, as bytes.

use std::fs;

use crate::UffdError;
use crate::smaps::parse_kb;

/// What `/proc/PID/stat` tells about who a process is: a pid is used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// Name of its first thread: at most 15 bytes, any but NUL, not always UTF-8.
    pub comm: Vec<u8>,
    /// Its parent's pid.
    pub parent: u32,
    /// Faults that needed no disk, of all its threads since it was started. Faults that the kernel
    /// takes for another process (process_vm_readv(2)) count there.
    pub minor_faults: u64,
    /// When it was started, in clock ticks after boot: with another start it is another process.
    pub start_time: u64,
    /// Its state, or that of its main thread: `Z` once that has ended.
    pub state: u8,
    /// Whether it is a thread of the kernel, which has no memory of its own (`PF_KTHREAD`).
    pub is_of_kernel: bool,
}

impl ProcessStat {
    /// Whether it lives: a thread that has ended has given its memory back.
    #[must_use]
    pub const fn has_memory(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// The pages of a process that are in memory, by what they come from, in bytes (proc_pid_status(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidentMemory {
    /// Anonymous memory (`RssAnon`); the zero page does not count.
    pub anon: u64,
    /// shmem (`RssShmem`).
    pub shmem: u64,
    /// Huge pages of hugetlb (`HugetlbPages`).
    pub hugetlb: u64,
}

impl ResidentMemory {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.anon + self.shmem + self.hugetlb
    }
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)).
///
/// # Errors
/// [`UffdError::Gone`]: the process is gone. Otherwise the file cannot be read or understood.
pub fn stat(pid: u32) -> Result<ProcessStat, UffdError> {
    read_parsed(pid, "stat", parse_stat)
}

/// include/linux/sched.h
const PF_KTHREAD: u64 = 0x0020_0000;

/// The name ends at the last parenthesis: it may contain some itself.
fn parse_stat(text: &[u8]) -> Option<ProcessStat> {
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let comm = text.get(open + 1..close)?.to_vec();
    let mut fields = std::str::from_utf8(text.get(close + 1..)?)
        .ok()?
        .split_ascii_whitespace();
    // proc_pid_stat(5) counts fields from 1; the state, after the name, is field 3.
    let &[state] = fields.next()?.as_bytes() else {
        return None;
    };
    let parent = fields.next()?.parse().ok()?;
    let flags: u64 = fields.nth(9 - 5)?.parse().ok()?;
    let minor_faults = fields.next()?.parse().ok()?;
    let start_time = fields.nth(22 - 11)?.parse().ok()?;
    // A number that ends the text may be cut off.
    fields.next()?;
    Some(ProcessStat {
        comm,
        parent,
        minor_faults,
        start_time,
        state,
        is_of_kernel: flags & PF_KTHREAD != 0,
    })
}

/// Reads a file like `/proc/PID/stat`, without asking why it cannot be read.
pub(crate) fn stat_of(path: &str) -> Result<ProcessStat, std::io::Error> {
    let text = fs::read(path)?;
    parse_stat(&text).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// Bytes of its page tables of all levels (`VmPTE` of proc_pid_status(5)). `None`: a kernel thread,
/// which has none.
///
/// # Errors
/// [`UffdError::Gone`]: the process is gone. Otherwise the file cannot be read.
pub fn page_table_bytes(pid: u32) -> Result<Option<u64>, UffdError> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read(&path).map_err(UffdError::of_process(pid, "cannot read", &path))?;
    Ok(parse_status_kb(&text, b"VmPTE"))
}

/// What of a process is in memory. `None`: a kernel thread, which has none.
///
/// # Errors
/// [`UffdError::Gone`]: the process is gone. Otherwise the file cannot be read.
pub fn resident_memory(pid: u32) -> Result<Option<ResidentMemory>, UffdError> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read(&path).map_err(UffdError::of_process(pid, "cannot read", &path))?;
    let of = |key| parse_status_kb(&text, key);
    Ok(of(b"RssAnon").map(|anon| ResidentMemory {
        anon,
        shmem: of(b"RssShmem").unwrap_or(0),
        hugetlb: of(b"HugetlbPages").unwrap_or(0),
    }))
}

/// Clears the soft-dirty bits of all pages of a process (`/proc/PID/clear_refs`; fs/proc/task_mmu.c
/// `clear_refs_write`). On a kernel without `CONFIG_MEM_SOFT_DIRTY` it succeeds and does nothing:
/// see [`KernelBehaviour::soft_dirty`](crate::KernelBehaviour::soft_dirty).
///
/// # Errors
/// [`UffdError::Gone`]: the process is gone. EACCES or EPERM: it may not be traced.
pub fn clear_soft_dirty(pid: u32) -> Result<(), UffdError> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "4").map_err(UffdError::of_process(pid, "cannot write", &path))
}

/// A field of `/proc/PID/status` that is in kB, in bytes.
fn parse_status_kb(text: &[u8], key: &[u8]) -> Option<u64> {
    let mut lines = text.split(|&byte| byte == b'\n');
    lines.find_map(|line| parse_kb(line.strip_prefix(key)?.strip_prefix(b":")?))
}

/// Name of its first thread (`/proc/PID/comm`): any bytes but NUL.
///
/// # Errors
/// [`UffdError::Gone`]: the process is gone. Otherwise the file cannot be read.
pub fn comm(pid: u32) -> Result<Vec<u8>, UffdError> {
    read_parsed(pid, "comm", |text| Some(text.strip_suffix(b"\n")?.to_vec()))
}

/// The user who started it: the first number of `Uid` in `/proc/PID/status` (proc_pid_status(5)),
/// which a program that sets user ids does not change. `None`: there is no such field.
///
/// # Errors
/// [`UffdError::Gone`]: the process is gone. Otherwise the file cannot be read.
pub fn real_uid(pid: u32) -> Result<Option<u32>, UffdError> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read(&path).map_err(UffdError::of_process(pid, "cannot read", &path))?;
    Ok(parse_real_uid(&text))
}

fn parse_real_uid(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|&byte| byte == b'\n');
    let ids = lines.find_map(|line| line.strip_prefix(b"Uid:"))?;
    let mut ids = std::str::from_utf8(ids).ok()?.split_ascii_whitespace();
    ids.next()?.parse().ok()
}

/// The processes of a name, in order of their pids.
///
/// # Errors
/// If `/proc` cannot be listed.
pub fn pids_of(name: &[u8]) -> Result<Vec<u32>, UffdError> {
    let entries =
        fs::read_dir("/proc").map_err(|e| UffdError::system("cannot list", "/proc", e))?;
    let pid = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let mut pids: Vec<u32> = entries.filter_map(pid).collect();
    // One that ends meanwhile, or that may not be looked at, has no name.
    pids.retain(|pid| matches!(comm(*pid), Ok(comm) if comm == name));
    pids.sort_unstable();
    Ok(pids)
}

/// The arguments that it was started with, unless it has overwritten them (`/proc/PID/cmdline`).
///
/// # Errors
/// [`UffdError::Gone`]: the process is gone, or has no arguments. Otherwise the file cannot be
/// read.
pub fn arguments(pid: u32) -> Result<Vec<Vec<u8>>, UffdError> {
    read_parsed(pid, "cmdline", |text| {
        let text = text.strip_suffix(b"\0").unwrap_or(text);
        Some(text.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect())
    })
}

/// Path of its cgroup (cgroups(7)): that of version 2, or the memory controller's where version 2
/// is not in use.
///
/// # Errors
/// [`UffdError::Gone`]: the process is gone. Otherwise the file cannot be read.
pub fn cgroup_path(pid: u32) -> Result<Vec<u8>, UffdError> {
    read_parsed(pid, "cgroup", |text| Some(parse_cgroup(text).to_vec()))
}

/// Parses `/proc/PID/cgroup`; empty where there is none.
fn parse_cgroup(text: &[u8]) -> &[u8] {
    let path = |wanted: fn(&[u8]) -> bool| {
        text.split(|&byte| byte == b'\n').find_map(|line| {
            // hierarchy:controllers:path, and only the path may contain colons.
            let mut parts = line.splitn(3, |&byte| byte == b':').skip(1);
            let controllers = parts.next()?;
            wanted(controllers).then_some(parts.next()?)
        })
    };
    let unified = path(<[u8]>::is_empty);
    let memory = path(|names| {
        names
            .split(|&byte| byte == b',')
            .any(|name| name == b"memory")
    });
    match (unified, memory) {
        (None | Some(b"/"), Some(memory)) => memory,
        (unified, _) => unified.unwrap_or_default(),
    }
}

/// Reads `/proc/PID/NAME` and parses it. The file of a process that is ending can be empty.
fn read_parsed<T>(
    pid: u32,
    name: &str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<T, UffdError> {
    let path = format!("/proc/{pid}/{name}");
    let text = fs::read(&path).map_err(UffdError::of_process(pid, "cannot read", &path))?;
    if text.is_empty() {
        return Err(UffdError::of_nothing(pid));
    }
    parse(&text).ok_or_else(|| UffdError::format(path, &text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const STAT: &[u8] =
        b"1234 (a) (b\n\xff) S 7 1234 1 0 -1 4194560 101 0 0 0 0 0 0 0 20 0 1 0 4242 \
        3133440 430 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n";

    #[test]
    fn a_name_with_parentheses_newline_and_invalid_utf8() {
        let stat = parse_stat(STAT).unwrap();
        assert_eq!(
            stat,
            ProcessStat {
                comm: b"a) (b\n\xff".to_vec(),
                parent: 7,
                minor_faults: 101,
                start_time: 4242,
                state: b'S',
                is_of_kernel: false,
            }
        );
    }

    #[test]
    fn cut_off_anywhere_is_refused_or_right() {
        for length in 0..STAT.len() {
            if let Some(stat) = parse_stat(&STAT[..length]) {
                assert_eq!(stat.start_time, 4242, "{length} bytes");
            }
        }
    }

    #[test]
    fn the_real_user_is_the_first_of_four() {
        let status = b"Name:\tUid:\nUid:\t1000\t0\t0\t0\nGid:\t1\n";
        assert_eq!(parse_real_uid(status), Some(1000));
        assert_eq!(parse_real_uid(b"Name:\ta\n"), None);
    }

    #[test]
    fn status_fields_in_bytes() {
        let text = b"Name:\tVmPTE: 9 kB\nVmPTEX:\t1 kB\nVmPTE:\t      48 kB\n";
        assert_eq!(parse_status_kb(text, b"VmPTE"), Some(48 << 10));
        assert_eq!(parse_status_kb(b"Name:\tkthreadd\n", b"VmPTE"), None);
    }

    #[test]
    fn cgroups_of_both_versions() {
        assert_eq!(
            parse_cgroup(b"0::/system.slice/a:b.service\n"),
            b"/system.slice/a:b.service"
        );
        assert_eq!(parse_cgroup(b"4:cpu,memory:/job/1\n0::/\n"), b"/job/1");
        assert_eq!(parse_cgroup(b"4:memory:/job/1\n0::/unified\n"), b"/unified");
        assert_eq!(parse_cgroup(b"0::/\n"), b"/");
        assert_eq!(parse_cgroup(b""), b"");
    }

    #[test]
    fn our_own() {
        let pid = std::process::id();
        let stat = stat(pid).unwrap();
        assert_eq!(stat.comm, comm(pid).unwrap());
        assert!(stat.start_time > 0);
        assert!(page_table_bytes(pid).unwrap().unwrap() >= 4096);
        assert!(resident_memory(pid).unwrap().unwrap().total() >= 4096);
        assert!(stat.minor_faults > 0);
        assert!(cgroup_path(pid).is_ok());
        let own = rustix::process::getuid().as_raw();
        assert_eq!(real_uid(pid).unwrap(), Some(own));
    }

    #[test]
    fn a_process_that_never_was() {
        assert!(stat(u32::MAX).unwrap_err().is_gone());
        assert!(page_table_bytes(u32::MAX).unwrap_err().is_gone());
        assert!(comm(u32::MAX).unwrap_err().is_gone());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_not(text: Vec<u8>) {
            let _ = parse_stat(&text);
            let _ = parse_cgroup(&text);
            let _ = parse_status_kb(&text, b"VmPTE");
        }
    }
}
