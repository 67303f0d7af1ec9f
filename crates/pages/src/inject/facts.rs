//! Who the target is, looked at before it is touched, and what stands against touching it.

use std::fs::{self, File};
use std::io::Read as _;

use uffd::{Capability, Privilege, ProcessGone, UffdError, UserNamespace};

use super::InjectError;

/// What `/proc` says about the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetFacts {
    /// The id asked for.
    pub pid: u32,
    /// Its process, if the id is a thread's.
    pub(crate) tgid: u32,
    /// Name.
    pub comm: String,
    /// State: `R`, `S`, `D`, `T`, `Z`, ...
    pub(crate) state: char,
    /// Its tracer: 0 is nobody.
    pub(crate) tracer: u32,
    /// Threads that have not ended, and a first one that has.
    pub threads: u32,
    /// A thread of the kernel's.
    pub(crate) kernel_thread: bool,
    /// It has given up its memory, on its way to its end.
    pub(crate) exiting: bool,
    /// `/proc/PID/exe`, an ELF file, is for 32 bits.
    pub bits32: Option<bool>,
    /// Start of the process after boot, in clock ticks.
    pub(crate) start_time: u64,
}

impl TargetFacts {
    /// Reads them.
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

    /// From `/proc/PID/status`.
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

    /// Why it must not be touched. `own` is this process; `name` tells the name of a process.
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

/// Whether it is a thread of the kernel's (`PF_KTHREAD` in the flags of `/proc/PID/stat`).
fn is_kernel_thread(pid: u32) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    flags(&stat).is_some_and(|flags| flags & 0x0020_0000 != 0)
}

/// Field 9 of `/proc/PID/stat`, counted from 1; the name, field 2, ends at the last parenthesis.
fn flags(stat: &[u8]) -> Option<u32> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(9 - 3)?.parse().ok()
}

/// `None` for what cannot be read or is no ELF file.
fn is_32_bits(pid: u32) -> Option<bool> {
    let mut header = [0; 5];
    let mut file = File::open(format!("/proc/{pid}/exe")).ok()?;
    file.read_exact(&mut header).ok()?;
    // EI_CLASS: 1 is for 32 bits, also for x32.
    (header[..4] == *b"\x7fELF").then_some(header[4] == 1)
}

/// The name of a process, or that it has none here.
pub(super) fn name(pid: u32) -> String {
    let comm = uffd::comm(pid).ok();
    comm.map_or_else(
        || "not visible from here".to_owned(),
        |comm| String::from_utf8_lossy(&comm).into_owned(),
    )
}

/// What decides whether one process may trace another.
#[derive(Debug)]
pub(super) struct TracePermission {
    /// Our own privilege.
    pub(crate) privilege: Privilege,
    /// `kernel.yama.ptrace_scope`, if the kernel has Yama.
    pub(crate) yama: Option<i64>,
    /// Our user and the target's.
    pub(crate) users: (Option<u32>, Option<u32>),
    /// Whether both are in one user namespace.
    pub(crate) same_user_namespace: bool,
}

impl TracePermission {
    /// Reads it for a target.
    pub(super) fn read(pid: u32) -> Self {
        let status = fs::read("/proc/self/status").unwrap_or_default();
        let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/user")).ok();
        let (ours, theirs) = (namespace("self"), namespace(&pid.to_string()));
        let link = ours.as_deref().and_then(|path| path.to_str());
        let privilege = Privilege::parse(&status, link);
        let yama = fs::read("/proc/sys/kernel/yama/ptrace_scope").ok();
        let target = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
        let user =
            field(&target, "Uid").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
        Self {
            users: (privilege.euid, user),
            privilege,
            yama: yama.and_then(|text| str::from_utf8(&text).ok()?.trim().parse().ok()),
            same_user_namespace: theirs.is_none() || ours == theirs,
        }
    }

    /// Why the kernel said EPERM, and what would help.
    pub(super) fn why(&self) -> String {
        let has = self.privilege.has(Capability::SysPtrace);
        let root = "run tracker as root, or with CAP_SYS_PTRACE";
        match (self.yama, has) {
            (Some(3), _) => "kernel.yama.ptrace_scope is 3, which forbids it to everyone until \
                             the machine is booted again"
                .to_owned(),
            (Some(2), false) => {
                format!("kernel.yama.ptrace_scope is 2, which asks for CAP_SYS_PTRACE: {root}")
            }
            (Some(1), false) => format!(
                "kernel.yama.ptrace_scope is 1, which lets a user trace descendants only: {root}"
            ),
            (_, false) if self.users.0 != self.users.1 => {
                format!("it belongs to another user: {root}")
            }
            (_, false) => format!(
                "it may not be traced by its own user (a program that changed its user, or \
                 prctl(PR_SET_DUMPABLE)): {root}"
            ),
            (_, true)
                if self.privilege.user_namespace == UserNamespace::Nested
                    && !self.same_user_namespace =>
            {
                "it is outside of this user namespace (container): run tracker on the host, or in \
                 the host's user namespace"
                    .to_owned()
            }
            (_, true) => "CAP_SYS_PTRACE is there, so a security module (SELinux, AppArmor) or \
                          another tracer that came first forbids it; see dmesg and the audit log"
                .to_owned(),
        }
    }
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

    #[test]
    fn the_reason_of_eperm() {
        let privilege = |mask: &str, namespace| {
            let status = format!("Uid:\t9\t9\t9\t9\nCapEff:\t{mask}\n");
            Privilege::parse(status.as_bytes(), Some(namespace))
        };
        const INITIAL: &str = "user:[4026531837]";
        let permission = |privilege, yama, same| TracePermission {
            privilege,
            yama,
            users: (Some(9), Some(9)),
            same_user_namespace: same,
        };
        let none = || privilege("0", INITIAL);
        let all = || privilege("80000", INITIAL);
        let says = |permission: TracePermission, text: &str| {
            let why = permission.why();
            assert!(why.contains(text), "{why}");
        };
        says(permission(all(), Some(3), true), "ptrace_scope is 3");
        says(permission(none(), Some(2), true), "CAP_SYS_PTRACE");
        says(permission(none(), Some(1), true), "descendants");
        says(permission(none(), Some(0), true), "own user");
        says(permission(all(), Some(1), true), "security module");
        let nested = privilege("80000", "user:[1]");
        says(
            permission(nested, None, false),
            "outside of this user namespace",
        );
        let mut other = permission(none(), None, true);
        other.users.1 = Some(8);
        says(other, "another user");
    }
}
