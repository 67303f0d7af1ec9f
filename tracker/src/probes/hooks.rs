//! The tables of hooks, made from the rows of `tracker-ebpf/src/hooks.rs`: places in the kernel we
//! want to see, and the programs that can see them.
//!
//! What each does there is in docs/hooks.md and at its body in `tracker-ebpf`.

use std::fmt;

pub use tracker_ebpf::HookId;
use uffd::KernelExercise;

/// How a program gets to see a place in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Those that `--force-mechanism` can ask for.
    pub const IN_FUNCTIONS: [Self; 4] = [Self::Fentry, Self::Fexit, Self::Kprobe, Self::Kretprobe];

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
}

impl fmt::Display for HookMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a hook is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// What page tables forget.
    FaultTime,
    /// What tells of that where no function can be hooked.
    Observed,
    /// What trackers do to watched address spaces.
    Calls,
}

impl HookSubject {
    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::Markers => "markers",
            Self::Tables => "tables",
            Self::Scopes => "scopes",
            Self::Life => "life",
            Self::Discovery => "discovery",
            Self::Causes => "causes",
            Self::FaultTime => "fault-time",
            Self::Observed => "observed",
            Self::Calls => "calls",
        }
    }
}

/// Where alone a hook has something to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookCondition {
    /// On kernels with `PAGEMAP_SCAN`.
    PagemapScan,
    /// On kernels with guard pages.
    GuardPages,
    /// On kernels with transparent huge pages.
    HugePages,
    /// On kernels with KSM.
    Ksm,
    /// On kernels that put the zero page in the place of pages of a huge page that they split.
    SplitsToZero,
    /// On kernels that have its function or tracepoint: on others, another hook sees the same.
    WhereFound,
}

/// How a hook depends on another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPartner {
    /// Both or none, such as an entry and an exit.
    Both(HookId),
    /// As a kretprobe, which sees no arguments, this one needs that entry.
    Entry(HookId),
    /// This entry is needed only if that one is a kretprobe.
    Return(HookId),
    /// Needed only where that one is absent.
    Instead(HookId),
}

/// What keeps a program from being preempted, whatever its mechanism. On PREEMPT_RT, nothing that is
/// taken does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookLock {
    /// The lock of a page table.
    Pte,
}

/// How it is proved that a hook fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookProof {
    /// It fires each time that this is done.
    Always(KernelExercise),
    /// It may fire when this is done, in whatever task: a time when it does proves it, one when it
    /// does not proves nothing.
    Perhaps(KernelExercise),
    /// Nothing that the agent does makes it fire for sure, for this reason.
    Never(&'static str),
}

/// A rung of a hook's ladder.
#[derive(Debug, PartialEq, Eq)]
pub struct HookProgram {
    /// How it sees the place.
    pub mechanism: HookMechanism,
    /// Its name in the object.
    pub name: &'static str,
}

/// A place in the kernel we want to see.
#[derive(Debug, PartialEq, Eq)]
pub struct Hook {
    /// Which hook this is.
    pub id: HookId,
    /// What it is about.
    pub subject: HookSubject,
    /// The function it is in, or the tracepoint; alternatives are older or newer names of the same
    /// place.
    pub functions: &'static [&'static str],
    /// Its programs, the preferred one first.
    pub programs: &'static [HookProgram],
    /// How it is proved that it fires.
    pub proof: HookProof,
    /// The lock that is held there, for which a trampoline comes first.
    pub lock: Option<HookLock>,
    /// The hook without which this one means nothing.
    pub partner: Option<HookPartner>,
    /// Where alone it has something to see: all of these must hold.
    pub conditions: &'static [HookCondition],
    /// What is not known without it, in a few words.
    pub without: &'static str,
}

impl Hook {
    /// Its name, as in messages, metrics and `--no-hook`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.id.name()
    }

    /// Whether it is at a tracepoint and not in a function.
    #[must_use]
    pub fn is_tracepoint(&self) -> bool {
        let at = |program: &HookProgram| program.mechanism == HookMechanism::Tracepoint;
        self.programs.iter().all(at)
    }

    /// Its mechanisms, the preferred one first.
    pub fn mechanisms(&self) -> impl Iterator<Item = HookMechanism> {
        self.programs.iter().map(|program| program.mechanism)
    }
}

/// Every kernel function that a hook of the table names.
#[must_use]
pub fn functions(table: &[Hook]) -> Vec<&'static str> {
    places(table, |hook| !hook.is_tracepoint())
}

/// Every tracepoint that a hook of the table names.
#[must_use]
pub fn tracepoints(table: &[Hook]) -> Vec<&'static str> {
    places(table, Hook::is_tracepoint)
}

fn places(table: &[Hook], wanted: impl Fn(&Hook) -> bool) -> Vec<&'static str> {
    let hooks = table.iter().filter(|hook| wanted(hook));
    let mut all: Vec<_> = hooks.flat_map(|hook| hook.functions).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

macro_rules! mechanism {
    (fentry) => {
        HookMechanism::Fentry
    };
    (fexit) => {
        HookMechanism::Fexit
    };
    (kprobe) => {
        HookMechanism::Kprobe
    };
    (kretprobe) => {
        HookMechanism::Kretprobe
    };
    (iterator) => {
        HookMechanism::Iterator
    };
    (tracepoint) => {
        HookMechanism::Tracepoint
    };
}

macro_rules! partner {
    () => {
        None
    };
    ($how:ident $hook:ident) => {
        Some(HookPartner::$how(HookId::$hook))
    };
}

macro_rules! lock {
    () => {
        None
    };
    ($lock:ident) => {
        Some(HookLock::$lock)
    };
}

macro_rules! proof {
    (Never $reason:literal) => {
        HookProof::Never($reason)
    };
    ($how:ident $exercise:ident) => {
        HookProof::$how(KernelExercise::$exercise)
    };
}

/// Makes the tables.
macro_rules! tables {
    ($(
        $(#[$about:meta])*
        $table:ident {
            $(
                $hook:ident: $subject:ident, at [$($at:literal),*],
                by $([$($mechanism:ident $name:ident $($section:literal)?),*] => $body:path,)*
                fires $fires:ident($proof:tt),
                $(under $lock:ident,)?
                $(with $how:ident($partner:ident),)?
                $(only [$($condition:ident),*],)?
                without $without:literal;
            )*
        }
    )*) => {
        $(
            $(#[$about])*
            pub static $table: &[Hook] = &[$(
                Hook {
                    id: HookId::$hook,
                    subject: HookSubject::$subject,
                    functions: &[$($at),*],
                    programs: &[$($(
                        HookProgram {
                            mechanism: mechanism!($mechanism),
                            name: stringify!($name),
                        },
                    )*)*],
                    proof: proof!($fires $proof),
                    lock: lock!($($lock)?),
                    partner: partner!($($how $partner)?),
                    conditions: &[$($(HookCondition::$condition),*)?],
                    without: $without,
                },
            )*];
        )*
    };
}
tracker_ebpf::hooks!(tables);
