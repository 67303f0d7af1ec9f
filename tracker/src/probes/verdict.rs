//! What becomes of a hook, and why: the words of a plan.

use std::fmt;

use rustix::io::Errno;
use thiserror::Error;

use super::hooks::{Hook, HookId, HookMechanism, HookProgram};
use super::values::ValueGap;
use crate::kernel::capabilities::{Capability, needed_to};
use crate::kernel::offsets::FieldGap;

/// A hook, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookPlan {
    /// The hook.
    pub hook: &'static Hook,
    /// What becomes of it.
    pub verdict: HookVerdict,
}

/// What becomes of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookVerdict {
    /// Attach this way.
    Attach {
        /// How.
        program: &'static HookProgram,
        /// To which function.
        function: &'static str,
        /// The better programs that cannot be had.
        instead_of: Vec<RefusedRung>,
    },
    /// It is attached, and does not fire.
    Silent {
        /// How it is attached.
        program: &'static HookProgram,
        /// To which function.
        function: &'static str,
        /// Why, as far as anybody can tell.
        cause: SilenceCause,
    },
    /// This kernel does nothing there, or another hook sees it: nothing is missed.
    NotNeeded(NothingToSee),
    /// Switched off by the user.
    Off,
    /// It cannot be seen.
    Absent(HookObstacle),
}

/// Why an attached hook does not fire, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SilenceCause {
    /// `kernel.ftrace_enabled`
    #[error("ftrace is switched off; switch it on: sysctl kernel.ftrace_enabled=1")]
    FtraceOff,
    /// `kprobes/enabled`
    #[error("kprobes are switched off; switch them on: echo 1 > /sys/kernel/debug/kprobes/enabled")]
    KprobesOff,
    /// Neither is known to be off.
    #[error(
        "a livepatch, another tracer or an optimisation may keep the kernel from it, or kprobes are \
         off where nobody can read it; see /sys/kernel/tracing/enabled_functions and \
         /sys/kernel/debug/kprobes/enabled and list"
    )]
    Unknown,
}

/// A program of a hook that cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{mechanism}: {obstacle}")]
pub struct RefusedRung {
    /// Its mechanism.
    pub mechanism: HookMechanism,
    /// Why it cannot.
    pub obstacle: RungObstacle,
}

/// Why nothing is missed without a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NothingToSee {
    /// The kernel does not have `PAGEMAP_SCAN`.
    #[error("this kernel has no PAGEMAP_SCAN")]
    NoPagemapScan,
    /// The kernel does not have guard pages.
    #[error("this kernel has no guard pages")]
    NoGuardPages,
    /// The kernel does not have transparent huge pages.
    #[error("this kernel has no transparent huge pages (PREEMPT_RT cannot have them)")]
    NoHugePages,
    /// The kernel does not have KSM.
    #[error("this kernel has no KSM")]
    NoKsm,
    /// The kernel keeps the pages of a huge page that it splits.
    #[error("this kernel puts no zero page in the place of pages of a huge page that it splits")]
    NoZeroAtSplit,
    /// The kernel does not have its function or tracepoint, and another hook is for such kernels.
    #[error("this kernel has no {0}: another hook sees it")]
    NotFound(&'static str),
    /// Its partner is told the arguments.
    #[error("{0} sees the arguments itself, by {1}")]
    Told(HookId, HookMechanism),
    /// Another hook sees the same.
    #[error("{0} sees it")]
    SeenBy(HookId),
}

/// Why a hook cannot be attached by any of its programs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HookObstacle {
    /// Another architecture.
    #[error("its programs know the page table bits of x86_64, and this is {0}")]
    Architecture(String),
    /// It keeps VMAs in another way than all kernels since 6.1.
    #[error(
        "kernel {0} has no maple tree, and so is older than 6.1, the oldest that the programs know: \
         none is loaded"
    )]
    KernelTooOld(String),
    /// Capabilities inside a user namespace are worth nothing here.
    #[error("the kernel refuses BPF inside a user namespace")]
    UserNamespace,
    /// Which capabilities this process has cannot be read, for this reason.
    #[error("which capabilities it has is not known: {0}")]
    UnknownPrivilege(String),
    /// A privilege is lacking.
    #[error("{} is missing; it is needed to {}", .0.name(), needed_to(*.0))]
    Capability(Capability),
    /// The kernel has no BTF, for this reason.
    #[error("the kernel's BTF is needed: {0}")]
    NoBtf(String),
    /// All of its programs need what this kernel does not tell.
    #[error(transparent)]
    Unknown(#[from] ReadGap),
    /// The kernel has none of its functions.
    #[error("there is no function {} in this kernel", .0.join(" or "))]
    NoFunction(&'static [&'static str]),
    /// The kernel has its function under another name only.
    #[error("{0} was renamed to {0}{1} in this kernel")]
    Renamed(&'static str, String),
    /// The kernel does not have its tracepoint.
    #[error("there is no tracepoint {0} in this kernel's BTF")]
    NoTracepoint(&'static str),
    /// None of its programs can be attached.
    #[error("{}", RungList(.0))]
    Rungs(Vec<RefusedRung>),
    /// It means nothing without its partner.
    #[error("it is of no use without the hook {0}")]
    Alone(HookId),
    /// No program can be loaded at all.
    #[error("the BPF object could not be loaded: {0}")]
    NoObject(String),
}

/// What a program reads of the kernel, and is not known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadGap {
    /// A field of a struct.
    #[error(transparent)]
    Field(#[from] FieldGap),
    /// A value.
    #[error(transparent)]
    Value(#[from] ValueGap),
}

/// Why a program cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RungObstacle {
    /// The object does not have it.
    #[error("the object has no program {0}")]
    NoProgram(&'static str),
    /// It needs what this kernel does not tell.
    #[error(transparent)]
    Unknown(#[from] ReadGap),
    /// A trampoline needs the function's signature.
    #[error("BTF does not describe the function")]
    NotInBtf,
    /// The symbol has a suffix.
    #[error("the compiler renamed it{}", SuffixList(.0))]
    Renamed(Vec<String>),
    /// ftrace cannot patch the function.
    #[error("it is not traceable (notrace, or inlined everywhere)")]
    NotTraceable,
    /// It could be preempted there.
    #[error("PREEMPT_RT preempts tasks that hold the page table lock, and so its program")]
    Preempted,
    /// The kernel is built without kprobes.
    #[error("this kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS)")]
    NoKprobes,
    /// Nothing would fire, and who attaches and detaches meanwhile breaks ftrace: the kernel then
    /// finds records that it takes for damaged (`ftrace_shutdown`).
    #[error(transparent)]
    SwitchedOff(#[from] SilenceCause),
    /// Lockdown.
    #[error("kernel lockdown (confidentiality) refuses kprobes")]
    KprobesLocked,
    /// Nobody can say which one is meant.
    #[error("several functions have this name")]
    Ambiguous,
    /// `NOKPROBE_SYMBOL`
    #[error("the kernel refuses kprobes on it")]
    Blacklisted,
    /// The kernel has refused it.
    #[error(transparent)]
    Refused(#[from] KernelRefusal),
}

/// Why the kernel refused a program that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KernelRefusal {
    /// EPERM
    #[error("the kernel refuses to patch functions for BPF (EPERM)")]
    Patching,
    /// ENOENT
    #[error("the symbol is not there (ENOENT)")]
    NoSymbol,
    /// EBUSY
    #[error("the function cannot be patched: notrace, or in use (EBUSY)")]
    Busy,
    /// EINVAL of a program that reads kernel memory, under lockdown.
    #[error("kernel lockdown (confidentiality) refuses programs that read kernel memory")]
    ReadsLocked,
    /// EINVAL
    #[error("the kernel refuses to load its program (EINVAL)")]
    Load,
    /// EINVAL
    #[error("the kernel refuses to attach to this function (EINVAL)")]
    Attach,
    /// ENOTSUPP
    #[error("this kernel's trampolines do not take its arguments (ENOTSUPP)")]
    Arguments,
    /// Anything else, as the kernel or its verifier put it.
    #[error("{0}")]
    Said(String),
}

/// What came of trying a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialOutcome {
    /// It is attached.
    Attached,
    /// The kernel refused.
    Refused {
        /// At which step.
        stage: TrialStage,
        /// The error number, if there was one.
        errno: Option<Errno>,
        /// What the kernel said, as far as it said anything.
        message: String,
    },
}

/// The steps of attaching a BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialStage {
    /// Loading: the verifier, and looking up the target.
    Load,
    /// Attaching: patching the function's entry.
    Attach,
}

impl HookPlan {
    /// The program by which it sees: the hook is to be attached, or is attached and not known to
    /// be silent.
    #[must_use]
    pub const fn program(&self) -> Option<&'static HookProgram> {
        match self.verdict {
            HookVerdict::Attach { program, .. } => Some(program),
            _ => None,
        }
    }

    /// The program that is attached, even if it is silent.
    #[must_use]
    pub const fn attached(&self) -> Option<&'static HookProgram> {
        match self.verdict {
            HookVerdict::Attach { program, .. } | HookVerdict::Silent { program, .. } => {
                Some(program)
            }
            _ => None,
        }
    }

    /// The mechanism by which it sees.
    #[must_use]
    pub fn mechanism(&self) -> Option<HookMechanism> {
        self.program().map(|program| program.mechanism)
    }

    /// Whether something is not known because of it: it is absent, off or silent.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(
            self.verdict,
            HookVerdict::Absent(_) | HookVerdict::Off | HookVerdict::Silent { .. }
        )
    }

    /// The first program that was tried, because nothing known stood against it, and that the kernel
    /// refused.
    #[must_use]
    pub fn refused(&self) -> Option<&RefusedRung> {
        let tried = match &self.verdict {
            HookVerdict::Attach { instead_of, .. } => instead_of,
            HookVerdict::Absent(HookObstacle::Rungs(rungs)) => rungs,
            _ => return None,
        };
        let is_refused = |rung: &&RefusedRung| matches!(rung.obstacle, RungObstacle::Refused(_));
        tried.iter().find(is_refused)
    }

    /// Why this verdict, and not a better mechanism: one sentence without a full stop.
    #[must_use]
    pub fn reason(&self) -> String {
        self.verdict.to_string()
    }
}

impl HookVerdict {
    /// Its name in reports.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Attach { .. } => "attached",
            Self::Silent { .. } => "silent",
            Self::NotNeeded(_) => "not-needed",
            Self::Off => "off",
            Self::Absent(_) => "absent",
        }
    }
}

impl fmt::Display for HookVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach { instead_of, .. } if instead_of.is_empty() => f.write_str("first choice"),
            Self::Attach { instead_of, .. } => RungList(instead_of).fmt(f),
            Self::Silent { cause, .. } => {
                write!(f, "attached, but it does not fire: {cause}")
            }
            Self::NotNeeded(reason) => reason.fmt(f),
            Self::Off => f.write_str("switched off with --no-hook"),
            Self::Absent(obstacle) => obstacle.fmt(f),
        }
    }
}

struct RungList<'a>(&'a [RefusedRung]);

impl fmt::Display for RungList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, rung) in self.0.iter().enumerate() {
            let between = if i == 0 { "" } else { "; " };
            write!(f, "{between}{rung}")?;
        }
        Ok(())
    }
}

struct SuffixList<'a>(&'a [String]);

impl fmt::Display for SuffixList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.0.join(", "))
    }
}
