//! From facts to a plan: which mechanism to try for each hook, and why not another.
//!
//! Pure: facts in, plan out. Attaching adds what was refused to the facts and plans again, so the
//! reasons that `tracker check` prints and those that were acted on are the same.

use serde::{Deserialize, Serialize};

use super::hooks::{Hook, HookMechanism, HookNeed, HookPartner, HookSubject};
use crate::kernel::facts::{FactSource, FunctionFacts, KernelFacts, TrialOutcome, TrialStage};
use crate::kernel::lockdown::Lockdown;

/// How much of the kernel can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeLevel {
    /// No function hook is possible: iterators, PAGEMAP_SCAN and smaps only.
    Observe,
    /// Some hook is absent.
    Partial,
    /// Every hook is in place.
    Full,
}

impl ProbeLevel {
    /// Its name, as in `--require-level` and the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Partial => "partial",
            Self::Full => "full",
        }
    }
}

/// What becomes of one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum HookVerdict {
    /// Attach this way.
    Attach {
        /// How.
        mechanism: HookMechanism,
        /// To which function.
        function: String,
    },
    /// This kernel does nothing there: nothing is missed.
    NotNeeded,
    /// Switched off by the user.
    Off,
    /// It cannot be seen.
    Absent,
}

/// One hook of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPlan {
    /// The hook's name.
    pub hook: String,
    /// What it is about.
    pub subject: HookSubject,
    /// What becomes of it.
    #[serde(flatten)]
    pub verdict: HookVerdict,
    /// Why, or why not another mechanism: one sentence without a full stop.
    pub reason: String,
}

impl HookPlan {
    /// The mechanism, if the hook is to be attached.
    #[must_use]
    pub const fn mechanism(&self) -> Option<HookMechanism> {
        match self.verdict {
            HookVerdict::Attach { mechanism, .. } => Some(mechanism),
            _ => None,
        }
    }
}

/// What the user wants, beside what the kernel allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookWishes {
    /// Hooks to leave out.
    pub off: Vec<String>,
    /// Mechanisms to use, and no other: for one hook, or for all (`None`) that have it.
    pub forced: Vec<(Option<String>, HookMechanism)>,
}

/// What is known beside the kernel's own files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbedFacts {
    /// The bits of a marker, if calibration saw one.
    pub marker_pte: Option<u64>,
    /// Addresses of the function that `wp_huge_pmd` is inlined into.
    pub fault_text: Option<(u64, u64)>,
    /// Addresses of `zap_huge_pmd`.
    pub zap_huge_text: Option<(u64, u64)>,
    /// Addresses of `__split_huge_pmd`.
    pub split_text: Option<(u64, u64)>,
    /// Address of the variable `page_offset_base`.
    pub page_offset_symbol: Option<u64>,
    /// Whether this kernel has `PAGEMAP_SCAN`.
    pub pagemap_scan: bool,
    /// Whether this kernel has guard pages (`MADV_GUARD_INSTALL`).
    pub guard_pages: bool,
    /// `PG_swapbacked` of a folio's flags, as a bit.
    pub folio_swapbacked: Option<u64>,
    /// `PG_head` of a folio's flags, as a bit.
    pub folio_head: Option<u64>,
}

/// The plan for all hooks of a table.
#[must_use]
pub fn plan(
    table: &[Hook],
    facts: &KernelFacts,
    found: &ProbedFacts,
    wishes: &HookWishes,
) -> Vec<HookPlan> {
    let alone: Vec<HookPlan> = table
        .iter()
        .map(|hook| plan_hook(hook, facts, found, wishes))
        .collect();
    table
        .iter()
        .zip(&alone)
        .map(|(hook, plan)| with_partner(hook, plan, &alone))
        .collect()
}

/// The plan of a hook when the plans of all others are known.
fn with_partner(hook: &Hook, plan: &HookPlan, alone: &[HookPlan]) -> HookPlan {
    let mechanism = |name: &str| {
        let partner = alone.iter().find(|plan| plan.hook == name);
        partner.and_then(HookPlan::mechanism)
    };
    let but = |verdict, reason| HookPlan {
        verdict,
        reason,
        ..plan.clone()
    };
    let useless = |name: &str| {
        let reason = format!("it is of no use without the hook {name}");
        but(HookVerdict::Absent, reason)
    };
    match (hook.partner, plan.mechanism()) {
        (Some(HookPartner::Both(name)), Some(_)) if mechanism(name).is_none() => useless(name),
        (Some(HookPartner::Entry(name)), Some(HookMechanism::Kretprobe))
            if mechanism(name).is_none() =>
        {
            useless(name)
        }
        (Some(HookPartner::Return(name)), _) => match mechanism(name) {
            Some(HookMechanism::Kretprobe) => plan.clone(),
            Some(other) => but(
                HookVerdict::NotNeeded,
                format!("{name} sees the arguments itself, by {other}"),
            ),
            None => useless(name),
        },
        (Some(HookPartner::Instead(name)), _) if mechanism(name).is_some() => {
            let reason = format!("{name} sees it");
            but(HookVerdict::NotNeeded, reason)
        }
        _ => plan.clone(),
    }
}

/// The level of a plan, and why it is not higher.
#[must_use]
pub fn level(plan: &[HookPlan]) -> (ProbeLevel, String) {
    let beside = [HookSubject::Discovery, HookSubject::Observed];
    let functions = || plan.iter().filter(|p| !beside.contains(&p.subject));
    let tracepoint = |p: &HookPlan| p.mechanism() == Some(HookMechanism::Tracepoint);
    let missing: Vec<&HookPlan> = functions()
        .filter(|p| matches!(p.verdict, HookVerdict::Absent | HookVerdict::Off))
        .collect();
    if missing.is_empty() {
        return (ProbeLevel::Full, "every hook is in place".to_owned());
    }
    let first = missing[0];
    if functions().all(|p| p.mechanism().is_none() || tracepoint(p)) {
        return (
            ProbeLevel::Observe,
            format!("no function can be hooked: {}", first.reason),
        );
    }
    let names: Vec<&str> = missing.iter().map(|p| p.hook.as_str()).collect();
    (
        ProbeLevel::Partial,
        format!("without {}: {}", names.join(", "), first.reason),
    )
}

fn plan_hook(
    hook: &Hook,
    facts: &KernelFacts,
    found: &ProbedFacts,
    wishes: &HookWishes,
) -> HookPlan {
    let (verdict, reason) = if wishes.off.iter().any(|name| name == hook.name) {
        (HookVerdict::Off, "switched off with --no-hook".to_owned())
    } else if let Some(reason) = nothing_to_see(hook, facts, found) {
        (HookVerdict::NotNeeded, reason)
    } else {
        match obstacle(hook, facts, found) {
            Some(reason) => (HookVerdict::Absent, reason),
            None => choose(hook, facts, wishes),
        }
    };
    HookPlan {
        hook: hook.name.to_owned(),
        subject: hook.subject,
        verdict,
        reason,
    }
}

/// Why this kernel does nothing there.
fn nothing_to_see(hook: &Hook, facts: &KernelFacts, found: &ProbedFacts) -> Option<String> {
    let known = facts.has(FactSource::Btf);
    hook.needs.iter().find_map(|need| match need {
        HookNeed::PagemapScan if !found.pagemap_scan => {
            Some("this kernel has no PAGEMAP_SCAN".to_owned())
        }
        HookNeed::GuardPages if !found.guard_pages => {
            Some("this kernel has no guard pages".to_owned())
        }
        HookNeed::Ksm if known && facts.offsets.ksm_rmap_item_address.get().is_none() => {
            Some("this kernel has no KSM".to_owned())
        }
        HookNeed::Function(name) if known && !exists(name, facts) => {
            Some(format!("this kernel has no {name}: another hook sees it"))
        }
        HookNeed::Tracepoint(name) if known && !has_tracepoint(name, facts) => {
            Some(format!("this kernel has no {name}: another hook sees it"))
        }
        _ => None,
    })
}

/// What no mechanism could get over.
fn obstacle(hook: &Hook, facts: &KernelFacts, found: &ProbedFacts) -> Option<String> {
    if facts.arch != "x86_64" {
        return Some(format!(
            "its programs know the page table bits of x86_64, and this is {}",
            facts.arch
        ));
    }
    if let Some(reason) = privilege(facts) {
        return Some(reason);
    }
    if !facts.has(FactSource::Btf) {
        return Some(format!(
            "the kernel's BTF is needed: {}",
            facts.unavailable[&FactSource::Btf]
        ));
    }
    for name in hook.offsets {
        if let Some((_, offset)) = facts.offsets.iter().find(|(known, _)| known == name)
            && let Some(reason) = offset.missing()
        {
            return Some(reason.to_owned());
        }
    }
    hook.needs
        .iter()
        .find_map(|need| unmet(*need, facts, found))
}

fn privilege(facts: &KernelFacts) -> Option<String> {
    use crate::kernel::capabilities::{Capability, UserNamespace, needed_to};
    let has = |capability| facts.privilege.capabilities.get(&capability) == Some(&true);
    if facts.privilege.user_namespace == UserNamespace::Nested {
        return Some("the kernel refuses BPF inside a user namespace".to_owned());
    }
    if has(Capability::SysAdmin) {
        return None;
    }
    [Capability::Bpf, Capability::Perfmon]
        .into_iter()
        .find(|c| !has(*c))
        .map(|missing| {
            format!(
                "{} is missing; it is needed to {}",
                missing.name(),
                needed_to(missing)
            )
        })
}

fn unmet(need: HookNeed, facts: &KernelFacts, found: &ProbedFacts) -> Option<String> {
    let text = |function: &str| {
        if facts.addresses_hidden {
            Some(format!(
                "the address of {function} is needed and /proc/kallsyms hides it \
                 (kernel.kptr_restrict, CAP_SYSLOG)"
            ))
        } else {
            Some(format!("/proc/kallsyms does not have {function}"))
        }
    };
    match need {
        HookNeed::MarkerPte if found.marker_pte.is_none() => {
            Some("no pte marker could be made to learn its bits from".to_owned())
        }
        HookNeed::FaultText if found.fault_text.is_none() => text("__handle_mm_fault"),
        HookNeed::ZapHugeText if found.zap_huge_text.is_none() => text("zap_huge_pmd"),
        HookNeed::SplitText if found.split_text.is_none() => text("__split_huge_pmd"),
        HookNeed::FolioFlags if found.folio_swapbacked.is_none() || found.folio_head.is_none() => {
            Some("the kernel's BTF does not have the flags of folios".to_owned())
        }
        _ => None,
    }
}

/// The first rung that holds.
fn choose(hook: &Hook, facts: &KernelFacts, wishes: &HookWishes) -> (HookVerdict, String) {
    let mut refusals = Vec::new();
    if let [only @ (HookMechanism::Iterator | HookMechanism::Tracepoint)] = hook.rungs {
        let function = hook.functions[0];
        return if hook.is_tracepoint() && !has_tracepoint(function, facts) {
            let reason = format!("there is no tracepoint {function} in this kernel's BTF");
            (HookVerdict::Absent, reason)
        } else if let Some(reason) = refused_before(hook, *only, function, facts) {
            (HookVerdict::Absent, reason)
        } else {
            (attach(*only, function), "first choice".to_owned())
        };
    }
    let Some(function) = hook.functions.iter().copied().find(|f| exists(f, facts)) else {
        return (
            HookVerdict::Absent,
            format!("{} in this kernel", absent(hook, facts)),
        );
    };
    for mechanism in rungs(hook, wishes) {
        match impossible(hook, mechanism, function, facts) {
            Some(reason) => refusals.push(reason),
            None if refusals.is_empty() => {
                return (attach(mechanism, function), "first choice".to_owned());
            }
            None => return (attach(mechanism, function), refusals.join("; ")),
        }
    }
    (HookVerdict::Absent, refusals.join("; "))
}

fn attach(mechanism: HookMechanism, function: &str) -> HookVerdict {
    HookVerdict::Attach {
        mechanism,
        function: function.to_owned(),
    }
}

/// The rungs to try: all, or the forced one where the hook has it.
fn rungs(hook: &Hook, wishes: &HookWishes) -> Vec<HookMechanism> {
    let forced: Vec<HookMechanism> = wishes
        .forced
        .iter()
        .filter(|(name, _)| name.as_deref().is_none_or(|name| name == hook.name))
        .map(|(_, mechanism)| *mechanism)
        .filter(|mechanism| hook.rungs.contains(mechanism))
        .collect();
    if forced.is_empty() {
        hook.rungs.to_vec()
    } else {
        forced
    }
}

/// Whether this kernel has the function, inlined or not.
#[must_use]
pub fn exists(function: &str, facts: &KernelFacts) -> bool {
    facts
        .functions
        .get(function)
        .is_some_and(|f| f.signature.is_some() || f.symbols.is_some_and(|n| n > 0))
}

/// Whether BTF describes the tracepoint.
fn has_tracepoint(name: &str, facts: &KernelFacts) -> bool {
    facts.tracepoints.get(name).is_some_and(|t| t.in_btf)
}

fn absent(hook: &Hook, facts: &KernelFacts) -> String {
    let variants = |name: &&str| facts.functions.get(*name).map(|f| f.variants.as_slice());
    let renamed = hook.functions.iter().find_map(|name| match variants(name) {
        Some([first, ..]) => Some(format!("{name} was renamed to {name}{first}")),
        _ => None,
    });
    renamed.unwrap_or_else(|| format!("there is no function {}", hook.functions.join(" or ")))
}

/// Why a mechanism cannot work at a function, as far as facts tell.
fn impossible(
    hook: &Hook,
    mechanism: HookMechanism,
    function: &str,
    facts: &KernelFacts,
) -> Option<String> {
    let known = facts.functions.get(function)?;
    let reason = if mechanism.is_trampoline() {
        trampoline_obstacle(known)
    } else {
        kprobe_obstacle(known, facts)
    };
    reason
        .map(|reason| format!("{mechanism}: {reason}"))
        .or_else(|| refused_before(hook, mechanism, function, facts))
}

fn trampoline_obstacle(function: &FunctionFacts) -> Option<String> {
    if function.signature.is_none() {
        Some("BTF does not describe the function".to_owned())
    } else if function.symbols == Some(0) {
        Some(format!("the compiler renamed it{}", suffixes(function)))
    } else if function.traceable == Some(false) {
        Some("it is not traceable (notrace, or inlined everywhere)".to_owned())
    } else {
        None
    }
}

fn kprobe_obstacle(function: &FunctionFacts, facts: &KernelFacts) -> Option<String> {
    if facts.kprobe_pmu.is_none() {
        Some("this kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS)".to_owned())
    } else if facts.lockdown.is_some_and(Lockdown::forbids_kprobes) {
        Some("kernel lockdown (confidentiality) refuses kprobes".to_owned())
    } else if function.symbols == Some(0) {
        Some(format!("the compiler renamed it{}", suffixes(function)))
    } else if function.symbols.is_some_and(|n| n > 1) {
        Some("several functions have this name".to_owned())
    } else if function.kprobe_blacklisted == Some(true) {
        Some("the kernel refuses kprobes on it".to_owned())
    } else {
        None
    }
}

fn suffixes(function: &FunctionFacts) -> String {
    if function.variants.is_empty() {
        String::new()
    } else {
        format!(" ({})", function.variants.join(", "))
    }
}

/// The key of an attempt in [`KernelFacts::trial`].
#[must_use]
pub fn trial_key(hook: &str, mechanism: HookMechanism, function: &str) -> String {
    format!("{hook}:{mechanism}:{function}")
}

/// What the kernel said when it was tried.
fn refused_before(
    hook: &Hook,
    mechanism: HookMechanism,
    function: &str,
    facts: &KernelFacts,
) -> Option<String> {
    match facts
        .trial
        .get(&trial_key(hook.name, mechanism, function))?
    {
        TrialOutcome::Attached => None,
        TrialOutcome::Refused {
            stage,
            errno,
            message,
        } => Some(format!(
            "{mechanism}: {}",
            explain(*stage, *errno, message, facts)
        )),
    }
}

/// A refusal in words.
fn explain(stage: TrialStage, errno: i32, message: &str, facts: &KernelFacts) -> String {
    let unreadable = facts.lockdown.is_some_and(Lockdown::forbids_kernel_reads);
    let why = match (errno, stage) {
        (1, _) => "the kernel refuses to patch functions for BPF (EPERM)",
        (2, _) => "the symbol is not there (ENOENT)",
        (16, _) => "the function cannot be patched: notrace, or in use (EBUSY)",
        (22, TrialStage::Load) if unreadable => {
            "kernel lockdown (confidentiality) refuses programs that read kernel memory"
        }
        (22, TrialStage::Load) => "the kernel refuses to load its program (EINVAL)",
        (22, TrialStage::Attach) => "the kernel refuses to attach to this function (EINVAL)",
        (524, _) => "this kernel's trampolines do not take its arguments (ENOTSUPP)",
        _ => return message.to_owned(),
    };
    why.to_owned()
}
