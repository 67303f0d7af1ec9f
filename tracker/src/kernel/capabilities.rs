//! What the capabilities are good for here.

pub use uffd::{Capability, Privilege, UserNamespace};

/// What needs a capability, to be read after "needed to".
#[must_use]
pub const fn needed_to(capability: Capability) -> &'static str {
    match capability {
        Capability::Bpf => "load BPF programs and create their maps",
        Capability::Perfmon => "attach BPF programs to kernel functions and tracepoints",
        Capability::SysAdmin => {
            "see in pagemap which swap entry is a pte marker, and to attach kprobes where \
             kernel.perf_event_paranoid is 3 (Debian's default)"
        }
        Capability::SysPtrace => {
            "read pages, mappings and page tables' state of other users' processes"
        }
        Capability::Syslog => "read addresses in /proc/kallsyms",
        Capability::SysResource => "lift the memory lock limit for BPF maps on kernels before 5.11",
        Capability::DacReadSearch => {
            "read tracefs and other users' /proc/PID/pagemap and /proc/PID/fd without being root"
        }
    }
}
