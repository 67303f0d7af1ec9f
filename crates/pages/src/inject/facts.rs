//! Who the target is, seen before it is touched, and what stands against touching it.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Read as _;

use uffd::{ProcessGone, UffdError};

use super::InjectError;

/// What `/proc` says about the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetFacts {
    /// The id asked for.
    pub(super) pid: u32,
    /// Its process: another id if that one is a thread's.
    pub(super) tgid: u32,
    /// Its command name.
    pub(super) comm: String,
    /// Its state: `R`, `S`, `D`, `T`, `Z`, ...
    pub(super) state: char,
    /// Its tracer; 0: nobody.
    pub(super) tracer: u32,
    /// Its threads that live, and the first one even if it has ended.
    pub(super) threads: u32,
    /// Whether it is a thread of the kernel.
    pub(super) kernel_thread: bool,
    /// Whether it has given up its memory, on its way to its end.
    pub(super) exiting: bool,
    /// Whether `/proc/PID/exe` is an ELF file for 32 bits. `None`: unreadable, or no ELF file.
    pub(super) bits32: Option<bool>,
    /// When it started, in clock ticks since boot.
    pub(super) start_time: u64,
}

impl TargetFacts {
    /// Reads what `/proc` says about a process.
    pub(super) fn read(pid: u32) -> Result<Self, UffdError> {
        let stat = uffd::stat(pid)?;
        let status = fs::read(format!("/proc/{pid}/status")).map_err(|_| ProcessGone { pid })?;
        let facts = Self {
            pid,
            start_time: stat.start_time,
            comm: String::from_utf8_lossy(&stat.comm).into_owned(),
            bits32: is_32_bits(pid),
            ..Self::parse(&status, is_kernel_thread(pid))
        };
        if facts.exiting {
            return Err(ProcessGone { pid }.into());
        }
        Ok(facts)
    }

    /// What `/proc/PID/status` says.
    fn parse(status: &[u8], kernel_thread: bool) -> Self {
        let number = |key| field(status, key)?.parse().ok();
        let no_memory = field(status, "VmSize").is_none();
        let state = field(status, "State").and_then(|text| text.chars().next());
        let state = state.unwrap_or('?');
        Self {
            tgid: number("Tgid").unwrap_or(0),
            state,
            tracer: number("TracerPid").unwrap_or(0),
            threads: number("Threads").unwrap_or(0),
            kernel_thread,
            exiting: no_memory && !kernel_thread && !is_dead(state),
            ..Self::default()
        }
    }

    /// Why it must not be touched, if so. `own` is this process; `name` names a process.
    pub(super) fn refusal(&self, own: u32, name: impl Fn(u32) -> String) -> Option<InjectError> {
        let (pid, comm) = (self.pid, self.comm.clone());
        if self.tgid != pid && self.tgid != 0 {
            let (tid, pid) = (pid, self.tgid);
            return Some(InjectError::Thread { tid, pid });
        }
        if pid == own {
            return Some(InjectError::Ourselves { pid });
        }
        if is_dead(self.state) && self.threads > 1 {
            return Some(InjectError::NoLeader { pid, comm });
        }
        if is_dead(self.state) {
            return Some(InjectError::Zombie { pid, comm });
        }
        if self.kernel_thread {
            return Some(InjectError::KernelThread { pid, comm });
        }
        if self.tracer != 0 {
            let (tracer, comm) = (self.tracer, name(self.tracer));
            return Some(InjectError::Traced { pid, tracer, comm });
        }
        let what = "its executable is a 32-bit ELF file".to_owned();
        (self.bits32 == Some(true)).then_some(InjectError::Bits32 { pid, what })
    }
}

fn is_dead(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

/// The value of `key` in a status file.
pub(super) fn field<'a>(status: &'a [u8], key: &str) -> Option<&'a str> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b":"))?;
    Some(std::str::from_utf8(value).ok()?.trim())
}

/// Whether it is a thread of the kernel (`PF_KTHREAD` in the flags of `/proc/PID/stat`).
fn is_kernel_thread(pid: u32) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    flags(&stat).is_some_and(|flags| flags & 0x0020_0000 != 0)
}

/// Field 9 of `/proc/PID/stat`, counted from 1. The name, field 2, ends at the last parenthesis.
fn flags(stat: &[u8]) -> Option<u32> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(9 - 3)?.parse().ok()
}

/// `None`: it cannot be read, or is no ELF file.
fn is_32_bits(pid: u32) -> Option<bool> {
    let mut header = [0; 5];
    let mut file = File::open(format!("/proc/{pid}/exe")).ok()?;
    file.read_exact(&mut header).ok()?;
    // EI_CLASS is 1 for 32 bits, and for x32.
    (header[..4] == *b"\x7fELF").then_some(header[4] == 1)
}

/// The name of a process, if it can be seen from here.
pub(super) fn name(pid: u32) -> String {
    let comm = uffd::comm(pid).ok();
    comm.map_or_else(
        || "not visible from here".to_owned(),
        |comm| String::from_utf8_lossy(&comm).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const STATUS: &[u8] =
        b"Name:\tPid: 9\nState:\tS (sleeping)\nTgid:\t7\nPid:\t7\nTracerPid:\t0\n\
        VmSize:\t  100 kB\nSeccomp:\t2\n";

    fn facts() -> TargetFacts {
        TargetFacts {
            pid: 7,
            ..TargetFacts::parse(STATUS, false)
        }
    }

    fn refusal(facts: &TargetFacts) -> Option<InjectError> {
        facts.refusal(1, |tracer| format!("name of {tracer}"))
    }

    #[test]
    fn an_ordinary_process_is_not_refused() {
        assert_eq!(refusal(&facts()), None);
        assert_eq!(field(STATUS, "Pid"), Some("7"), "not part of a name");
        assert_eq!(field(STATUS, "Threads"), None);
    }

    #[test]
    fn each_reason() {
        let mut odd = facts();
        odd.tracer = 12;
        let text = refusal(&odd).unwrap().to_string();
        assert!(text.contains("process 12 (name of 12)"), "{text}");
        odd.state = 'Z';
        assert!(matches!(refusal(&odd), Some(InjectError::Zombie { .. })));
        odd.threads = 2;
        assert!(matches!(refusal(&odd), Some(InjectError::NoLeader { .. })));
        odd.tgid = 6;
        let thread = InjectError::Thread { tid: 7, pid: 6 };
        assert_eq!(refusal(&odd), Some(thread));
        let mut odd = facts();
        odd.bits32 = Some(true);
        assert!(refusal(&odd).unwrap().is_inability());
        let status = b"State:\tI (idle)\nTgid:\t2\n";
        assert!(!TargetFacts::parse(status, true).exiting);
        assert!(
            TargetFacts::parse(status, false).exiting,
            "no memory, and no kernel thread"
        );
        let own = InjectError::Ourselves { pid: 7 };
        assert_eq!(facts().refusal(7, |_| String::new()), Some(own));
    }

    #[test]
    fn flags_follow_a_name_with_parentheses() {
        let stat = b"2 (a) S (b) S 0 0 0 0 -1 2129984 0 0";
        assert_eq!(flags(stat), Some(0x20_8040));
        assert_eq!(flags(b"2 (a"), None);
    }

    #[test]
    fn our_own() {
        let facts = TargetFacts::read(std::process::id()).unwrap();
        assert_eq!(facts.bits32, Some(false));
        assert!(!facts.kernel_thread && facts.tgid == facts.pid && facts.start_time > 0);
        assert!(TargetFacts::read(u32::MAX).unwrap_err().is_gone());
    }
}
