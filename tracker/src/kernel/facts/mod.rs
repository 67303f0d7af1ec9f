//! All facts about a kernel and about this process's privilege in one value, which can be written
//! to JSON and read back: the input of the probe ladder, and its test fixtures.

mod assemble;

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::btf::FuncProto;
use super::capabilities::Privilege;
use super::lockdown::Lockdown;
use super::mounts::MountPoints;
use super::offsets::FieldOffsets;
use super::switches::KernelSwitches;
use super::sysctl::Sysctls;

/// What is known about a kernel, and about what this process may do on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFacts {
    /// `uname -r`.
    pub release: String,
    /// Whether tasks can be preempted while they hold what is a spinlock elsewhere
    /// (`CONFIG_PREEMPT_RT`, which `uname -v` tells).
    #[serde(default)]
    pub preempt_rt: bool,
    /// `uname -m`.
    pub arch: String,
    /// Sources that could not be read or understood, each with the reason.
    pub unavailable: BTreeMap<FactSource, String>,
    /// Where the kernel's own file systems are mounted.
    pub mounts: MountPoints,
    /// The perf PMU type that creates kprobes; `None` if this kernel has none.
    pub kprobe_pmu: Option<u32>,
    /// The lockdown level; `None` if it could not be read, as on kernels without lockdown.
    pub lockdown: Option<Lockdown>,
    /// What this process may do.
    pub privilege: Privilege,
    /// Settings that decide about tracing.
    pub sysctls: Sysctls,
    /// Options the kernel was built with, without `CONFIG_`; empty if not readable.
    pub config: BTreeMap<String, String>,
    /// Whether kallsyms shows 0 for every address.
    pub addresses_hidden: bool,
    /// Addresses that the programs compare with.
    pub addresses: KernelAddresses,
    /// What is known about each function asked for.
    pub functions: BTreeMap<String, FunctionFacts>,
    /// What is known about each tracepoint asked for.
    pub tracepoints: BTreeMap<String, TracepointFacts>,
    /// Offsets of the fields that the programs read.
    pub offsets: FieldOffsets,
    /// Flags of folios; `None` if BTF does not tell.
    pub folio_flags: Option<FolioFlags>,
    /// Whether hooks in functions are switched off now: read by who attaches.
    #[serde(default)]
    pub switches: KernelSwitches,
    /// What no file tells: filled in by who tries.
    #[serde(default)]
    pub tried: TriedFacts,
}

/// Where code and data of the kernel are, as kallsyms tells; `None` if it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelAddresses {
    /// Code of the function that `wp_huge_pmd` is inlined into.
    pub fault_text: Option<Range<u64>>,
    /// Code of `zap_huge_pmd`.
    pub zap_huge_text: Option<Range<u64>>,
    /// Code of `__split_huge_pmd`.
    pub split_text: Option<Range<u64>>,
    /// The variable `page_offset_base`.
    pub page_offset_base: Option<u64>,
}

/// Flags of a folio, each as a bit (`enum pageflags`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolioFlags {
    /// `PG_swapbacked`
    pub swapbacked: u64,
    /// `PG_head`
    pub head: u64,
}

/// What trying told about this kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriedFacts {
    /// The pte that is a uffd-wp marker, if one could be made.
    pub marker_pte: Option<u64>,
    /// Whether this kernel has `PAGEMAP_SCAN`, or that cannot be tried.
    pub pagemap_scan: bool,
    /// Whether this kernel has guard pages (`MADV_GUARD_INSTALL`).
    pub guard_pages: bool,
    /// Whether this kernel has transparent huge pages (`MADV_HUGEPAGE`).
    pub huge_pages: bool,
}

/// A file that facts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactSource {
    /// `/sys/kernel/btf/vmlinux`
    Btf,
    /// `/proc/kallsyms`
    Kallsyms,
    /// `/proc/self/mountinfo`
    Mountinfo,
    /// `available_filter_functions` of tracefs
    FilterFunctions,
    /// `available_events` of tracefs
    Events,
    /// `kprobes/blacklist` of debugfs
    KprobeBlacklist,
    /// `/sys/bus/event_source/devices/kprobe/type`
    KprobePmu,
    /// `lockdown` of securityfs
    Lockdown,
    /// `/proc/self/status`
    Status,
    /// `/proc/config.gz` or `/boot/config-RELEASE`
    Config,
}

impl FactSource {
    /// What to call it in a message.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Btf => "/sys/kernel/btf/vmlinux",
            Self::Kallsyms => "/proc/kallsyms",
            Self::Mountinfo => "/proc/self/mountinfo",
            Self::FilterFunctions => "tracefs's available_filter_functions",
            Self::Events => "tracefs's available_events",
            Self::KprobeBlacklist => "debugfs's kprobes/blacklist",
            Self::KprobePmu => "/sys/bus/event_source/devices/kprobe/type",
            Self::Lockdown => "securityfs's lockdown",
            Self::Status => "/proc/self/status",
            Self::Config => "the kernel's build configuration",
        }
    }
}

/// What is known about one kernel function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionFacts {
    /// Its signature in BTF; `None` if BTF has no such function (it was inlined, or does not exist
    /// in this kernel) or could not be read ([`FactSource::Btf`]).
    pub signature: Option<FuncProto>,
    /// Code symbols of exactly that name in the kernel itself: usually 1. 0 with a signature means
    /// that the compiler renamed it; more than 1 that its name is ambiguous. `None` if kallsyms
    /// could not be read.
    pub symbols: Option<u32>,
    /// Suffixes of its code symbols' variants, such as `.isra.0`, `.constprop.0.cold`.
    pub variants: Vec<String>,
    /// Whether ftrace can hook its entry; `None` if the list could not be read.
    pub traceable: Option<bool>,
    /// Whether kprobes on it are refused; `None` if the list could not be read.
    pub kprobe_blacklisted: Option<bool>,
}

/// What is known about one tracepoint, written `category:event`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracepointFacts {
    /// Whether BTF describes it, so that a BTF tracepoint program can attach. Those of single
    /// system calls never are.
    pub in_btf: bool,
    /// Whether tracefs lists it; `None` if the list could not be read.
    pub in_tracefs: Option<bool>,
}

impl KernelFacts {
    /// Whether a source could be read and understood.
    #[must_use]
    pub fn has(&self, source: FactSource) -> bool {
        !self.unavailable.contains_key(&source)
    }

    /// Whether this kernel has the function, inlined or not.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        let known = self.functions.get(name);
        known.is_some_and(|f| f.signature.is_some() || f.symbols.is_some_and(|n| n > 0))
    }

    /// Whether BTF describes the tracepoint.
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoints.get(name).is_some_and(|t| t.in_btf)
    }
}
