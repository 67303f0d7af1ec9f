//! The files that the facts come from, as bytes.

use std::path::Path;

use super::mounts::MountPoints;

/// A file's bytes, or why there are none: a sentence that names the file, without a full stop.
pub type KernelInput = Result<Vec<u8>, String>;

/// Everything [`KernelFacts`](super::KernelFacts) are made of. Where a file comes from is in
/// [`KernelInputs::gather`].
#[derive(Debug, Clone)]
pub struct KernelInputs {
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub arch: String,
    /// Raw BTF of the kernel.
    pub btf: KernelInput,
    /// Symbols of the kernel.
    pub kallsyms: KernelInput,
    /// Mounts as this process sees them.
    pub mountinfo: KernelInput,
    /// Functions that ftrace can hook.
    pub filter_functions: KernelInput,
    /// Tracepoints.
    pub events: KernelInput,
    /// Functions that refuse kprobes.
    pub kprobe_blacklist: KernelInput,
    /// The perf PMU for kprobes.
    pub kprobe_pmu: KernelInput,
    /// Kernel lockdown.
    pub lockdown: KernelInput,
    /// Credentials of this process.
    pub status: KernelInput,
    /// The text of the link `/proc/self/ns/user`.
    pub user_namespace: Option<String>,
    /// `kernel.unprivileged_bpf_disabled`
    pub unprivileged_bpf_disabled: KernelInput,
    /// `kernel.perf_event_paranoid`
    pub perf_event_paranoid: KernelInput,
    /// `kernel.kptr_restrict`
    pub kptr_restrict: KernelInput,
    /// `kernel.ftrace_enabled`
    pub ftrace_enabled: KernelInput,
    /// `net.core.bpf_jit_enable`
    pub bpf_jit_enable: KernelInput,
    /// `vm.unprivileged_userfaultfd`
    pub unprivileged_userfaultfd: KernelInput,
    /// The kernel's build configuration.
    pub config: KernelInput,
}

impl KernelInputs {
    /// Reads the live files: some 15 MB, most of it kallsyms and BTF.
    #[must_use]
    pub fn gather() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let mountinfo = read("/proc/self/mountinfo");
        let mounts = MountPoints::parse(mountinfo.as_deref().unwrap_or_default());
        let below = |mount: Option<String>, kind: &str, file: &str| match mount {
            Some(dir) => read(format!("{dir}/{file}")),
            None => Err(not_mounted(kind, file)),
        };
        let tracefs = |file| below(mounts.tracing_dir(), "tracefs", file);
        let sysctl = |name: &str| read(format!("/proc/sys/{name}"));
        let user_namespace = std::fs::read_link("/proc/self/ns/user").ok();
        Self {
            arch: uname.machine().to_string_lossy().into_owned(),
            btf: read("/sys/kernel/btf/vmlinux"),
            kallsyms: read("/proc/kallsyms"),
            filter_functions: tracefs("available_filter_functions"),
            events: tracefs("available_events"),
            kprobe_blacklist: below(mounts.debugfs.clone(), "debugfs", "kprobes/blacklist"),
            kprobe_pmu: read("/sys/bus/event_source/devices/kprobe/type"),
            lockdown: below(mounts.securityfs.clone(), "securityfs", "lockdown"),
            status: read("/proc/self/status"),
            user_namespace: user_namespace.map(|link| link.to_string_lossy().into_owned()),
            unprivileged_bpf_disabled: sysctl("kernel/unprivileged_bpf_disabled"),
            perf_event_paranoid: sysctl("kernel/perf_event_paranoid"),
            kptr_restrict: sysctl("kernel/kptr_restrict"),
            ftrace_enabled: sysctl("kernel/ftrace_enabled"),
            bpf_jit_enable: sysctl("net/core/bpf_jit_enable"),
            unprivileged_userfaultfd: sysctl("vm/unprivileged_userfaultfd"),
            config: read("/proc/config.gz").or_else(|_| read(format!("/boot/config-{release}"))),
            mountinfo,
            release,
        }
    }
}

fn not_mounted(kind: &str, file: &str) -> String {
    let point = match kind {
        "tracefs" => "/sys/kernel/tracing",
        "debugfs" => "/sys/kernel/debug",
        _ => "/sys/kernel/security",
    };
    format!("cannot read {file}: {kind} is not mounted (mount -t {kind} {kind} {point})")
}

fn read(path: impl AsRef<Path>) -> KernelInput {
    let path = path.as_ref();
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
