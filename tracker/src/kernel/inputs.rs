//! The files that the facts come from, as bytes.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::mounts::MountPoints;
use super::{kallsyms, tracefs};

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
    /// Symbols of the kernel: all of them, or an excerpt.
    pub kallsyms: KernelInput,
    /// Mounts as this process sees them.
    pub mountinfo: KernelInput,
    /// Functions that ftrace can hook: all of them, or an excerpt.
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
    /// Reads the live files. BTF is some 6 MB. Of the lists of symbols and functions, which are
    /// larger still, what these names need is kept.
    #[must_use]
    pub fn gather(names: &HashSet<&str>) -> Self {
        use TracingMount::{Debugfs, Securityfs, Tracefs};
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy().into_owned();
        let mountinfo = read("/proc/self/mountinfo");
        let mounts = MountPoints::parse(mountinfo.as_deref().unwrap_or_default());
        let in_tracefs = |file| below(mounts.tracing_dir(), Tracefs, file);
        let sysctl = |name: &str| read(format!("/proc/sys/{name}"));
        let user_namespace = std::fs::read_link("/proc/self/ns/user").ok();
        Self {
            version: uname.version().to_string_lossy().into_owned(),
            arch: uname.machine().to_string_lossy().into_owned(),
            btf: read("/sys/kernel/btf/vmlinux"),
            kallsyms: read_by("/proc/kallsyms", |file| kallsyms::excerpt(file, names)),
            filter_functions: in_tracefs("available_filter_functions")
                .and_then(|path| read_by(path, |file| tracefs::excerpt(file, names))),
            events: in_tracefs("available_events").and_then(read),
            kprobe_blacklist: below(mounts.debugfs.clone(), Debugfs, "kprobes/blacklist")
                .and_then(read),
            kprobe_pmu: read("/sys/bus/event_source/devices/kprobe/type"),
            lockdown: below(mounts.securityfs.clone(), Securityfs, "lockdown").and_then(read),
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

/// The path of a file of a file system, if that is mounted.
fn below(
    mounted: Option<String>,
    system: TracingMount,
    file: &'static str,
) -> Result<String, InputError> {
    let dir = mounted.ok_or(InputError::NotMounted { system, file })?;
    Ok(format!("{dir}/{file}"))
}

fn read(path: impl AsRef<Path>) -> KernelInput {
    let path = path.as_ref();
    std::fs::read(path).map_err(unreadable(path))
}

/// What `keep` keeps of a file that is never there as a whole.
fn read_by(
    path: impl AsRef<Path>,
    keep: impl FnOnce(BufReader<File>) -> io::Result<Vec<u8>>,
) -> KernelInput {
    let path = path.as_ref();
    let file = File::open(path).map(BufReader::new);
    file.and_then(keep).map_err(unreadable(path))
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> InputError {
    |error| InputError::Unreadable {
        path: path.to_owned(),
        error: Arc::new(error),
    }
}
