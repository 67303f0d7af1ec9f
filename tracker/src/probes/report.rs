//! What can be seen here and why not more: the content of `tracker check` and of `/status`.

use super::advice;
use super::attach::AttachedProbes;
use super::hooks::{HookId, HookMechanism};
use super::missed::HookMisses;
use super::plan::ProbeLevel;
use super::proof::{HookState, HookStates};
use super::verdict::{HookPlan, HookVerdict};
use crate::kernel::capabilities::{Capability, needed_to};
use crate::kernel::facts::KernelFacts;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

/// Everything `tracker check`, `/status` and the log say about what can be seen here.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeReport {
    /// The level reached.
    pub level: ProbeLevel,
    /// Why not a higher one, or that it is the highest.
    pub reason: String,
    /// Every hook.
    pub hooks: Vec<HookReport>,
    /// What this process lacks.
    pub missing_capabilities: Vec<MissingCapability>,
    /// What a person can do to see more; empty if nothing.
    pub advice: Vec<String>,
}

/// One hook: what became of it and why, and what it missed. In JSON it has `name`, `subject`,
/// `verdict`, `mechanism`, `function`, `reason`, `without`, `missed`, `state` and `not_proven`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookReport {
    /// What became of it.
    pub plan: HookPlan,
    /// Events the kernel did not hand to it, if known.
    pub missed: Option<u64>,
    /// Whether it is known to fire; `None` if it is not attached.
    pub state: Option<HookState>,
}

impl HookReport {
    /// The hooks of a plan, and what is known of each.
    #[must_use]
    pub fn of(plan: &[HookPlan], states: &HookStates) -> Vec<Self> {
        let report = |plan: &HookPlan| Self {
            state: states.get(&plan.hook.id).cloned(),
            ..plan.clone().into()
        };
        plan.iter().map(report).collect()
    }
}

impl From<HookPlan> for HookReport {
    fn from(plan: HookPlan) -> Self {
        Self {
            plan,
            missed: None,
            state: None,
        }
    }
}

impl Serialize for HookReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            plan,
            missed,
            state,
        } = self;
        let function = match plan.verdict {
            HookVerdict::Attach { function, .. } | HookVerdict::Silent { function, .. } => {
                Some(function)
            }
            _ => None,
        };
        let mechanism = plan.attached().map(|program| program.mechanism);
        let not_proven = match state {
            Some(HookState::NotProven(gap)) => Some(gap.to_string()),
            _ => None,
        };
        let mut report = serializer.serialize_struct("HookReport", 10)?;
        report.serialize_field("name", plan.hook.name())?;
        report.serialize_field("subject", plan.hook.subject.as_str())?;
        report.serialize_field("verdict", plan.verdict.as_str())?;
        report.serialize_field("mechanism", &mechanism.map(HookMechanism::as_str))?;
        report.serialize_field("function", &function)?;
        report.serialize_field("reason", &plan.reason())?;
        report.serialize_field("without", plan.hook.without)?;
        report.serialize_field("missed", missed)?;
        report.serialize_field("state", &state.as_ref().map(HookState::as_str))?;
        report.serialize_field("not_proven", &not_proven)?;
        report.end()
    }
}

/// A capability that would let the agent see more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingCapability {
    /// `CAP_...`.
    pub name: &'static str,
    /// What needs it, to be read after "needed to".
    pub needed_to: &'static str,
}

impl ProbeReport {
    /// The report of what was attached.
    #[must_use]
    pub fn of(attached: &AttachedProbes) -> Self {
        Self {
            level: attached.level,
            reason: attached.reason.clone(),
            hooks: HookReport::of(&attached.plan, &attached.states),
            missing_capabilities: missing(&attached.facts),
            advice: advice::advice(&attached.facts, &attached.plan),
        }
    }

    /// Notes what each hook missed.
    pub fn note_missed(&mut self, missed: &[HookMisses]) {
        for HookMisses { hook, events } in missed {
            let mut hooks = self.hooks.iter_mut();
            if let Some(report) = hooks.find(|report| report.plan.hook.id == *hook) {
                report.missed = Some(*events);
            }
        }
    }

    /// Events that the kernel kept from a hook, as far as was noted.
    #[must_use]
    pub fn missed(&self, hook: HookId) -> u64 {
        let found = self.hooks.iter().find(|report| report.plan.hook.id == hook);
        found.and_then(|report| report.missed).unwrap_or(0)
    }
}

/// What the agent uses, as in deploy/tracker.service. The other one matters only before Linux 5.11.
pub(super) const USED: [Capability; 6] = [
    Capability::Bpf,
    Capability::Perfmon,
    Capability::SysPtrace,
    Capability::DacReadSearch,
    Capability::Syslog,
    Capability::SysAdmin,
];

fn missing(facts: &KernelFacts) -> Vec<MissingCapability> {
    let describe = |capability: Capability| MissingCapability {
        name: capability.name(),
        needed_to: needed_to(capability),
    };
    let missing = facts.privilege.missing();
    missing
        .filter(|one| USED.contains(one))
        .map(describe)
        .collect()
}
