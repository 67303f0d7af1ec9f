//! From facts to a plan: which program to try for each hook, and why not another.
//!
//! Pure: facts in, plan out. Attaching notes what was refused and plans again, so the reasons that
//! `tracker check` prints are those that were acted on.

use std::collections::BTreeMap;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::hooks::{
    Hook, HookCondition, HookId, HookMechanism, HookPartner, HookProgram, HookSubject,
};
use super::object::ProbeObject;
use super::proof;
use super::values::{self, MapSizes};
use super::verdict::{
    HookObstacle, HookPlan, HookVerdict, KernelRefusal, NothingToSee, ReadGap, RefusedRung,
    RungObstacle, TrialOutcome, TrialStage,
};
use crate::kernel::capabilities::{Capability, UserNamespace};
use crate::kernel::facts::{FactSource, FunctionFacts, KernelFacts};
use crate::kernel::lockdown::Lockdown;
use tracker_ebpf::KernelField;

/// The kernel's own error for what it does not support, which never reaches user space otherwise
/// (include/linux/errno.h).
const ENOTSUPP: Errno = Errno::from_raw_os_error(524);

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

/// What the user wants, beside what the kernel allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookWishes {
    /// Hooks to leave out.
    pub off: Vec<HookId>,
    /// Mechanisms to use, and no other: for one hook, or for all (`None`) that have it.
    pub forced: Vec<(Option<HookId>, HookMechanism)>,
}

/// What came of each program that was tried.
pub type HookTrials = BTreeMap<(HookId, HookMechanism), TrialOutcome>;

/// All that a plan is made from.
#[derive(Clone, Copy)]
pub struct PlanInputs<'a> {
    /// What is known of the kernel.
    pub facts: &'a KernelFacts,
    /// The programs, and what each reads of the kernel.
    pub object: &'a ProbeObject,
    /// What the user wants.
    pub wishes: &'a HookWishes,
    /// What was tried so far.
    pub trials: &'a HookTrials,
}

/// The plan for all hooks of a table.
#[must_use]
pub fn plan(table: &'static [Hook], inputs: PlanInputs<'_>) -> Vec<HookPlan> {
    let alone = table.iter().map(|hook| HookPlan {
        hook,
        verdict: inputs.verdict(hook),
    });
    let alone: Vec<HookPlan> = alone.collect();
    alone
        .iter()
        .map(|plan| with_partner(plan, &alone))
        .collect()
}

/// The plan of a hook when the plans of all others are known.
fn with_partner(plan: &HookPlan, alone: &[HookPlan]) -> HookPlan {
    let mechanism = |id: HookId| {
        let partner = alone.iter().find(|plan| plan.hook.id == id);
        partner.and_then(HookPlan::mechanism)
    };
    let but = |verdict| HookPlan {
        hook: plan.hook,
        verdict,
    };
    let useless = |id| but(HookVerdict::Absent(HookObstacle::Alone(id)));
    let not_needed = |nothing| but(HookVerdict::NotNeeded(nothing));
    match (plan.hook.partner, plan.mechanism()) {
        (Some(HookPartner::Both(id)), Some(_)) if mechanism(id).is_none() => useless(id),
        (Some(HookPartner::Entry(id)), Some(HookMechanism::Kretprobe))
            if mechanism(id).is_none() =>
        {
            useless(id)
        }
        (Some(HookPartner::Return(id)), _) => match mechanism(id) {
            Some(HookMechanism::Kretprobe) => plan.clone(),
            Some(other) => not_needed(NothingToSee::Told(id, other)),
            None => useless(id),
        },
        (Some(HookPartner::Instead(id)), _) if mechanism(id).is_some() => {
            not_needed(NothingToSee::SeenBy(id))
        }
        _ => plan.clone(),
    }
}

/// The level of a plan, and why it is not higher.
#[must_use]
pub fn level(plan: &[HookPlan]) -> (ProbeLevel, String) {
    let beside = [HookSubject::Discovery, HookSubject::Observed];
    let functions = || plan.iter().filter(|p| !beside.contains(&p.hook.subject));
    let tracepoint = |p: &HookPlan| p.mechanism() == Some(HookMechanism::Tracepoint);
    let missing: Vec<&HookPlan> = functions().filter(|p| p.is_missing()).collect();
    let Some(first) = missing.first() else {
        return (ProbeLevel::Full, "every hook is in place".to_owned());
    };
    if functions().all(|p| p.mechanism().is_none() || tracepoint(p)) {
        let reason = format!("no function can be hooked: {}", first.verdict);
        return (ProbeLevel::Observe, reason);
    }
    let names: Vec<&str> = missing.iter().map(|p| p.hook.name()).collect();
    let reason = format!("without {}: {}", names.join(", "), first.verdict);
    (ProbeLevel::Partial, reason)
}

impl PlanInputs<'_> {
    fn verdict(self, hook: &'static Hook) -> HookVerdict {
        if self.wishes.off.contains(&hook.id) {
            HookVerdict::Off
        } else if let Some(nothing) = nothing_to_see(hook, self.facts) {
            HookVerdict::NotNeeded(nothing)
        } else {
            match self.obstacle(hook) {
                Some(obstacle) => HookVerdict::Absent(obstacle),
                None => self.choose(hook),
            }
        }
    }

    /// What no program of the hook gets over.
    fn obstacle(self, hook: &Hook) -> Option<HookObstacle> {
        let facts = self.facts;
        if facts.arch != "x86_64" {
            return Some(HookObstacle::Architecture(facts.arch.clone()));
        }
        if let Some(obstacle) = privilege(facts) {
            return Some(obstacle);
        }
        if let Some(reason) = facts.unavailable.get(&FactSource::Btf) {
            return Some(HookObstacle::NoBtf(reason.clone()));
        }
        if is_too_old(facts) {
            return Some(HookObstacle::KernelTooOld(facts.release.clone()));
        }
        let gaps = hook.programs.iter().map(|program| self.gap(program));
        let gaps: Option<Vec<ReadGap>> = gaps.collect();
        Some(gaps?.into_iter().next()?.into())
    }

    /// What a program reads of the kernel, and is not known.
    fn gap(self, program: &HookProgram) -> Option<ReadGap> {
        let reads = self.object.reads(program.name)?;
        let offsets = &self.facts.offsets;
        let fields = reads
            .fields
            .iter()
            .find_map(|field| offsets.obstacle(*field));
        let mut values = reads.values.iter();
        fields.cloned().map(ReadGap::Field).or_else(|| {
            values.find_map(|value| {
                let value = values::value(*value, self.facts, MapSizes::NONE);
                value.err().map(ReadGap::Value)
            })
        })
    }

    /// The first rung that holds.
    fn choose(self, hook: &'static Hook) -> HookVerdict {
        let function = match self.place(hook) {
            Ok(function) => function,
            Err(obstacle) => return HookVerdict::Absent(obstacle),
        };
        let mut refused = Vec::new();
        for program in self.rungs(hook) {
            match self.impossible(hook, program, function) {
                None => {
                    return HookVerdict::Attach {
                        program,
                        function,
                        instead_of: refused,
                    };
                }
                Some(obstacle) => refused.push(RefusedRung {
                    mechanism: program.mechanism,
                    obstacle,
                }),
            }
        }
        HookVerdict::Absent(HookObstacle::Rungs(refused))
    }

    /// The hook's function or tracepoint in this kernel.
    fn place(self, hook: &Hook) -> Result<&'static str, HookObstacle> {
        let first = hook.functions[0];
        match hook.programs {
            [only] if only.mechanism == HookMechanism::Iterator => Ok(first),
            [only] if only.mechanism == HookMechanism::Tracepoint => {
                let found = self.facts.has_tracepoint(first).then_some(first);
                found.ok_or(HookObstacle::NoTracepoint(first))
            }
            _ => {
                let mut names = hook.functions.iter().copied();
                let found = names.find(|name| self.facts.has_function(name));
                found.ok_or_else(|| no_function(hook, self.facts))
            }
        }
    }

    /// The programs to try: all, or those of the forced mechanism where the hook has it.
    fn rungs(self, hook: &'static Hook) -> impl Iterator<Item = &'static HookProgram> {
        let forced = self.wishes.forced.iter();
        let forced = forced.filter(|(id, _)| id.is_none_or(|id| id == hook.id));
        let forced: Vec<HookMechanism> = forced
            .map(|(_, mechanism)| *mechanism)
            .filter(|mechanism| hook.mechanisms().any(|one| one == *mechanism))
            .collect();
        let wanted = move |one: &&HookProgram| forced.is_empty() || forced.contains(&one.mechanism);
        hook.programs.iter().filter(wanted)
    }

    /// Why a program cannot be attached there, as far as is known.
    fn impossible(
        self,
        hook: &Hook,
        program: &HookProgram,
        function: &str,
    ) -> Option<RungObstacle> {
        if self.object.reads(program.name).is_none() {
            return Some(RungObstacle::NoProgram(program.name));
        }
        if let Some(gap) = self.gap(program) {
            return Some(gap.into());
        }
        let known = self.facts.functions.get(function);
        let obstacle = known.and_then(|known| match program.mechanism {
            HookMechanism::Fentry | HookMechanism::Fexit => trampoline_obstacle(known),
            HookMechanism::Kprobe | HookMechanism::Kretprobe => kprobe_obstacle(known, self.facts),
            HookMechanism::Iterator | HookMechanism::Tracepoint => None,
        });
        let obstacle = obstacle.or_else(|| preempted(hook, program, self.facts));
        let switched_off = || proof::switched_off(program.mechanism, self.facts.switches);
        let obstacle = obstacle.or_else(|| switched_off().map(Into::into));
        obstacle.or_else(|| self.refused(hook, program).map(Into::into))
    }

    /// What the kernel said when the program was tried.
    fn refused(self, hook: &Hook, program: &HookProgram) -> Option<KernelRefusal> {
        match self.trials.get(&(hook.id, program.mechanism))? {
            TrialOutcome::Attached => None,
            TrialOutcome::Refused {
                stage,
                errno,
                message,
            } => Some(refusal(*stage, *errno, message, self.facts)),
        }
    }
}

/// Whether the kernel is older than the oldest supported: not by its version, since distributions
/// carry changes back, but by its having neither kind of node of a maple tree (6.1).
fn is_too_old(facts: &KernelFacts) -> bool {
    let nodes = [
        KernelField::maple_range_pivots,
        KernelField::maple_arange_pivots,
    ];
    nodes
        .iter()
        .all(|field| facts.offsets[*field].lacks_struct())
}

/// Whether the kernel preempts tasks where it does not elsewhere: a trampoline program would lose
/// what happens meanwhile on its CPU, and count for the VMA of another.
fn preempted(hook: &Hook, program: &HookProgram, facts: &KernelFacts) -> Option<RungObstacle> {
    let by_trampoline = matches!(
        program.mechanism,
        HookMechanism::Fentry | HookMechanism::Fexit
    );
    let preempted = facts.preempt_rt && by_trampoline && hook.lock.is_some();
    preempted.then_some(RungObstacle::Preempted)
}

/// Why nothing is missed without the hook.
fn nothing_to_see(hook: &Hook, facts: &KernelFacts) -> Option<NothingToSee> {
    let known = facts.has(FactSource::Btf);
    hook.conditions.iter().find_map(|condition| {
        let (holds, otherwise) = match condition {
            HookCondition::PagemapScan => (facts.tried.pagemap_scan, NothingToSee::NoPagemapScan),
            HookCondition::GuardPages => (facts.tried.guard_pages, NothingToSee::NoGuardPages),
            HookCondition::HugePages => (facts.tried.huge_pages, NothingToSee::NoHugePages),
            HookCondition::Ksm => {
                let item = &facts.offsets[KernelField::ksm_address];
                (!known || !item.lacks_struct(), NothingToSee::NoKsm)
            }
            HookCondition::SplitsToZero => {
                let field = &facts.offsets[KernelField::rmap_maps_zero];
                (!known || !field.lacks_struct(), NothingToSee::NoZeroAtSplit)
            }
            HookCondition::WhereFound => {
                let name = hook.functions[0];
                let found = facts.has_function(name) || facts.has_tracepoint(name);
                (!known || found, NothingToSee::NotFound(name))
            }
        };
        (!holds).then_some(otherwise)
    })
}

fn privilege(facts: &KernelFacts) -> Option<HookObstacle> {
    let has = |capability| facts.privilege.capabilities.get(&capability) == Some(&true);
    if facts.privilege.user_namespace == UserNamespace::Nested {
        return Some(HookObstacle::UserNamespace);
    }
    if has(Capability::SysAdmin) {
        return None;
    }
    if facts.privilege.capabilities.is_empty() {
        let unread = facts.unavailable.get(&FactSource::Status);
        let reason = unread
            .cloned()
            .unwrap_or_else(|| "/proc/self/status has no CapEff".to_owned());
        return Some(HookObstacle::UnknownPrivilege(reason));
    }
    let mut needed = [Capability::Bpf, Capability::Perfmon].into_iter();
    needed.find(|c| !has(*c)).map(HookObstacle::Capability)
}

fn no_function(hook: &Hook, facts: &KernelFacts) -> HookObstacle {
    let renamed = hook.functions.iter().find_map(|name| {
        let suffix = facts.functions.get(*name)?.variants.first()?;
        Some(HookObstacle::Renamed(name, suffix.clone()))
    });
    renamed.unwrap_or(HookObstacle::NoFunction(hook.functions))
}

fn trampoline_obstacle(function: &FunctionFacts) -> Option<RungObstacle> {
    if function.signature.is_none() {
        Some(RungObstacle::NotInBtf)
    } else if function.symbols == Some(0) {
        Some(RungObstacle::Renamed(function.variants.clone()))
    } else if function.traceable == Some(false) {
        Some(RungObstacle::NotTraceable)
    } else {
        None
    }
}

fn kprobe_obstacle(function: &FunctionFacts, facts: &KernelFacts) -> Option<RungObstacle> {
    if facts.kprobe_pmu.is_none() {
        Some(RungObstacle::NoKprobes)
    } else if facts.lockdown.is_some_and(Lockdown::forbids_kprobes) {
        Some(RungObstacle::KprobesLocked)
    } else if function.symbols == Some(0) {
        Some(RungObstacle::Renamed(function.variants.clone()))
    } else if function.symbols.is_some_and(|n| n > 1) {
        Some(RungObstacle::Ambiguous)
    } else if function.kprobe_blacklisted == Some(true) {
        Some(RungObstacle::Blacklisted)
    } else {
        None
    }
}

/// What a refusal means.
fn refusal(
    stage: TrialStage,
    errno: Option<Errno>,
    message: &str,
    facts: &KernelFacts,
) -> KernelRefusal {
    let unreadable = facts.lockdown.is_some_and(Lockdown::forbids_kernel_reads);
    match (errno, stage) {
        (Some(Errno::PERM), _) => KernelRefusal::Patching,
        (Some(Errno::NOENT), _) => KernelRefusal::NoSymbol,
        (Some(Errno::BUSY), _) => KernelRefusal::Busy,
        (Some(Errno::INVAL), TrialStage::Load) if unreadable => KernelRefusal::ReadsLocked,
        (Some(Errno::INVAL), TrialStage::Load) => KernelRefusal::Load,
        (Some(Errno::INVAL), TrialStage::Attach) => KernelRefusal::Attach,
        (Some(ENOTSUPP), _) => KernelRefusal::Arguments,
        _ => KernelRefusal::Said(message.to_owned()),
    }
}
