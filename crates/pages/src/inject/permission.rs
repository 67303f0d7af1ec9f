//! Why the kernel forbids tracing a process, and what would help.
#![forbid(unsafe_code)]

use std::fs;

use uffd::{Capability, Privilege, UserNamespace};

use super::facts::field;

/// What decides whether one process may trace another.
#[derive(Debug)]
pub(super) struct TracePermission {
    /// Our privilege.
    privilege: Privilege,
    /// `kernel.yama.ptrace_scope`, if the kernel has Yama.
    yama: Option<i64>,
    /// Our effective user, and the target's.
    users: (Option<u32>, Option<u32>),
    /// Whether both are in one user namespace.
    same_user_namespace: bool,
}

impl TracePermission {
    /// Reads what decides about a target.
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

    /// Why the kernel says EPERM, and what would help.
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
    use super::*;

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
