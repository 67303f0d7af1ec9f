//! The hooks: places in the kernel we want to see, and the mechanisms that can see them.
//!
//! What each does there is in docs/hooks.md and at its body in `tracker-ebpf`.

mod events;
mod table;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use events::EVENT_HOOKS;
pub use table::HOOKS;

/// How a program gets to see a place in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookMechanism {
    /// A BPF trampoline at a function's entry.
    Fentry,
    /// A BPF trampoline around a function, run at its return.
    Fexit,
    /// A probe at a function's entry.
    Kprobe,
    /// A probe at a function's return.
    Kretprobe,
    /// A BPF iterator, run when it is read.
    Iterator,
    /// A tracepoint that BTF describes.
    Tracepoint,
}

impl HookMechanism {
    /// Its name, as in messages, metrics and `--force-mechanism`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Kretprobe => "kretprobe",
            Self::Iterator => "iterator",
            Self::Tracepoint => "tracepoint",
        }
    }

    /// Whether it needs the function in BTF and a BPF trampoline.
    #[must_use]
    pub const fn is_trampoline(self) -> bool {
        matches!(self, Self::Fentry | Self::Fexit)
    }

    /// The mechanism of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Fentry,
            Self::Fexit,
            Self::Kprobe,
            Self::Kretprobe,
            Self::Iterator,
            Self::Tracepoint,
        ]
        .into_iter()
        .find(|m| m.as_str() == name)
    }
}

impl fmt::Display for HookMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a hook is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookSubject {
    /// Write-protect faults.
    Faults,
    /// Pte markers.
    Markers,
    /// Page tables.
    Tables,
    /// What a task is doing while it allocates a table.
    Scopes,
    /// When VMAs and processes begin and end.
    Life,
    /// Finding what is there.
    Discovery,
    /// What takes the uffd-wp bit off pages.
    Causes,
    /// What tells of that where no function can be hooked.
    Observed,
}

/// What a hook needs besides its function and offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookNeed {
    /// The bits of a marker, found by calibration on the agent's own memory.
    MarkerPte,
    /// The addresses of `__handle_mm_fault`'s code.
    FaultText,
    /// The addresses of `zap_huge_pmd`'s code.
    ZapHugeText,
    /// The addresses of `__split_huge_pmd`'s code.
    SplitText,
    /// `PAGEMAP_SCAN` in this kernel; without it the hook has nothing to see.
    PagemapScan,
    /// This function, which not all kernels have: another hook sees the same on those.
    Function(&'static str),
    /// This tracepoint, likewise.
    Tracepoint(&'static str),
    /// Guard pages in this kernel; without them the hook has nothing to see.
    GuardPages,
    /// KSM in this kernel, likewise.
    Ksm,
    /// The bits of folio flags, from BTF.
    FolioFlags,
}

/// How a hook depends on another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPartner {
    /// Both or none, such as an entry and an exit.
    Both(&'static str),
    /// As a kretprobe, which sees no arguments, this one needs that entry.
    Entry(&'static str),
    /// This entry is needed only if that one is a kretprobe.
    Return(&'static str),
    /// Needed only where that one is absent.
    Instead(&'static str),
}

/// A place in the kernel we want to see.
#[derive(Debug)]
pub struct Hook {
    /// Its name; its programs are called `NAME_MECHANISM`.
    pub name: &'static str,
    /// What it is about.
    pub subject: HookSubject,
    /// The function it is in, or the tracepoint; alternatives are older or newer names of the same place.
    pub functions: &'static [&'static str],
    /// Mechanisms, the preferred one first.
    pub rungs: &'static [HookMechanism],
    /// Offsets that its programs read (names in [`crate::kernel::Offsets`]).
    pub offsets: &'static [&'static str],
    /// What else it needs.
    pub needs: &'static [HookNeed],
    /// The hook without which this one means nothing.
    pub partner: Option<HookPartner>,
    /// What is not known without it, in a few words.
    pub without: &'static str,
}

impl Hook {
    /// Whether it is at a tracepoint and not in a function.
    #[must_use]
    pub fn is_tracepoint(&self) -> bool {
        self.rungs == [HookMechanism::Tracepoint]
    }
}

/// The hook of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Hook> {
    HOOKS.iter().find(|hook| hook.name == name)
}

/// Every kernel function that a hook of the table names.
#[must_use]
pub fn functions(table: &[Hook]) -> Vec<&'static str> {
    names(table, |hook| !hook.is_tracepoint())
}

/// Every tracepoint that a hook of the table names.
#[must_use]
pub fn tracepoints(table: &[Hook]) -> Vec<&'static str> {
    names(table, Hook::is_tracepoint)
}

fn names(table: &[Hook], wanted: impl Fn(&Hook) -> bool) -> Vec<&'static str> {
    let hooks = table.iter().filter(|hook| wanted(hook));
    let mut all: Vec<_> = hooks.flat_map(|hook| hook.functions).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}
