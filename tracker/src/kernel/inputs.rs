//! The files that the facts come from, as bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::mounts::MountPoints;

/// A file's bytes, or why there are none.
pub type KernelInput = Result<Vec<u8>, InputError>;

/// Why a file has no bytes.
#[derive(Debug, Clone, Error)]
pub enum InputError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: Arc<io::Error>,
    },
    /// Its file system is not mounted.
    #[error(
        "cannot read {file}: {name} is not mounted (mount -t {name} {name} {point})",
        name = .system.name(),
        point = .system.mount_point()
    )]
    NotMounted {
        /// The file system.
        system: TracingMount,
        /// The file in it.
        file: &'static str,
    },
}

/// A file system of the kernel's that may have to be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracingMount {
    /// tracefs(5)
    Tracefs,
    /// debugfs
    Debugfs,
    /// securityfs
    Securityfs,
}

impl TracingMount {
    /// Its type, as mount(8) takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tracefs => "tracefs",
            Self::Debugfs => "debugfs",
            Self::Securityfs => "securityfs",
        }
    }

    /// Where it usually is.
    #[must_use]
    pub const fn mount_point(self) -> &'static str {
        match self {
            Self::Tracefs => "/sys/kernel/tracing",
            Self::Debugfs => "/sys/kernel/debug",
            Self::Securityfs => "/sys/kernel/security",
        }
    }
}

/// Everything that [`KernelFacts`](super::KernelFacts) are made of. [`KernelInputs::gather`] has
/// the paths.
#[derive(Debug, Clone)]
pub struct KernelInputs {
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    pub version: String,
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
        use TracingMount::{Debugfs, Securityfs, Tracefs};
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let mountinfo = read("/proc/self/mountinfo");
        let mounts = MountPoints::parse(mountinfo.as_deref().unwrap_or_default());
        let tracefs = |file| below(mounts.tracing_dir(), Tracefs, file);
        let sysctl = |name: &str| read(format!("/proc/sys/{name}"));
        let user_namespace = std::fs::read_link("/proc/self/ns/user").ok();
        Self {
            version: uname.version().to_string_lossy().into_owned(),
            arch: uname.machine().to_string_lossy().into_owned(),
            btf: read("/sys/kernel/btf/vmlinux"),
            kallsyms: read("/proc/kallsyms"),
            filter_functions: tracefs("available_filter_functions"),
            events: tracefs("available_events"),
            kprobe_blacklist: below(mounts.debugfs.clone(), Debugfs, "kprobes/blacklist"),
            kprobe_pmu: read("/sys/bus/event_source/devices/kprobe/type"),
            lockdown: below(mounts.securityfs.clone(), Securityfs, "lockdown"),
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

/// Reads a file of a file system that is mounted there, if it is.
fn below(mounted: Option<String>, system: TracingMount, file: &'static str) -> KernelInput {
    let dir = mounted.ok_or(InputError::NotMounted { system, file })?;
    read(format!("{dir}/{file}"))
}

fn read(path: impl AsRef<Path>) -> KernelInput {
    let path = path.as_ref();
    std::fs::read(path).map_err(|error| InputError::Unreadable {
        path: path.to_owned(),
        error: Arc::new(error),
    })
}
