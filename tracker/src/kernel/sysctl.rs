//! Kernel settings that decide what may be traced and by whom.

use serde::{Deserialize, Serialize};

/// Values of sysctl(8) settings; `None` for those this kernel does not have or does not show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctls {
    /// `kernel.unprivileged_bpf_disabled`: 0 lets anyone load (not trace with) BPF; 1 and 2 need
    /// `CAP_BPF`.
    pub unprivileged_bpf_disabled: Option<i64>,
    /// `kernel.perf_event_paranoid`: above 1, kernel events need `CAP_PERFMON`.
    pub perf_event_paranoid: Option<i64>,
    /// `kernel.kptr_restrict`: 1 hides kernel addresses without `CAP_SYSLOG`, 2 from everyone.
    pub kptr_restrict: Option<i64>,
    /// `kernel.ftrace_enabled`: 0 switches off every ftrace hook, including fentry.
    pub ftrace_enabled: Option<i64>,
    /// `net.core.bpf_jit_enable`: fentry needs the JIT, so not 0.
    pub bpf_jit_enable: Option<i64>,
    /// `vm.unprivileged_userfaultfd`: 0 restricts users without `CAP_SYS_PTRACE` to
    /// userfaultfds that handle user-mode faults only.
    pub unprivileged_userfaultfd: Option<i64>,
}

/// The number in a file of `/proc/sys`; `None` if there is none.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_may_be_negative() {
        assert_eq!(super::parse(b"-1\n"), Some(-1));
        assert_eq!(super::parse(b"2"), Some(2));
        assert_eq!(super::parse(b"x"), None);
        assert_eq!(super::parse(b"\xff"), None);
    }
}
