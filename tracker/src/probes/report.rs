//! What can be seen here and why not more: the content of `tracker check` and of `/status`.

use super::advice;
use super::attach::AttachedProbes;
use super::hooks::{HOOKS, Hook};
use super::plan::{HookPlan, HookVerdict, ProbeLevel};
use crate::kernel::capabilities::{Capability, needed_to};
use crate::kernel::facts::KernelFacts;
use crate::model::signal::{Availability, Exactness, Signal};
use serde::Serialize;

/// Everything `tracker check`, `/status` and the log say about what can be seen here.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeReport {
    /// The level.
    pub level: ProbeLevel,
    /// Why not a higher one, or that it is the highest.
    pub reason: String,
    /// Every hook.
    pub hooks: Vec<HookReport>,
    /// What can be counted, and how well.
    pub counts: Vec<CountReport>,
    /// What this process lacks.
    pub missing_capabilities: Vec<MissingCapability>,
    /// What a person can do to see more; empty if nothing.
    pub advice: Vec<String>,
}

/// One hook: what became of it and why.
#[derive(Clone, Debug, Serialize)]
pub struct HookReport {
    /// Its name, as `--no-hook` takes it.
    pub name: String,
    /// What it is about.
    pub subject: String,
    /// `attached`, `not-needed`, `off` or `absent`.
    pub verdict: &'static str,
    /// The mechanism, if attached.
    pub mechanism: Option<&'static str>,
    /// The kernel function, if attached.
    pub function: Option<String>,
    /// Why this mechanism, or why none.
    pub reason: String,
    /// What is not known without it.
    pub without: &'static str,
    /// Events the kernel did not hand to it, if known.
    pub missed: Option<u64>,
}

/// One thing that is counted.
#[derive(Clone, Debug, Serialize)]
pub struct CountReport {
    /// Metric families that show it.
    pub families: &'static [&'static str],
    /// Which part of them.
    pub part: String,
    /// `exact`, `estimated` or `absent`.
    pub exactness: &'static str,
    /// Why it is estimated.
    pub reason: Option<String>,
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
            hooks: attached
                .plan
                .iter()
                .map(|plan| HookReport::of(plan, HOOKS))
                .collect(),
            counts: counts(&attached.availability),
            missing_capabilities: missing(&attached.facts),
            advice: advice::advice(&attached.facts, &attached.plan),
        }
    }
}

impl HookReport {
    /// Of a hook of this table.
    #[must_use]
    pub fn of(plan: &HookPlan, table: &[Hook]) -> Self {
        let known = table.iter().find(|hook| hook.name == plan.hook);
        let (verdict, function) = match &plan.verdict {
            HookVerdict::Attach { function, .. } => ("attached", Some(function.clone())),
            HookVerdict::NotNeeded => ("not-needed", None),
            HookVerdict::Off => ("off", None),
            HookVerdict::Absent => ("absent", None),
        };
        Self {
            name: plan.hook.clone(),
            subject: format!("{:?}", plan.subject).to_lowercase(),
            verdict,
            mechanism: plan.mechanism().map(|mechanism| mechanism.as_str()),
            function,
            reason: plan.reason.clone(),
            without: known.map_or("", |hook| hook.without),
            missed: None,
        }
    }
}

/// What the agent uses, as in deploy/tracker.service; the other matters on kernels before 5.11 only.
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

/// How well each signal is counted, in the order of the families.
#[must_use]
pub fn counts(availability: &Availability) -> Vec<CountReport> {
    let mut signals = Signal::all();
    signals.sort_unstable();
    let report = |signal: Signal| {
        let (exactness, reason) = match availability.get(signal) {
            Exactness::Exact => ("exact", None),
            Exactness::Estimated(reason) => ("estimated", Some(reason.clone())),
            Exactness::Absent => ("absent", None),
        };
        CountReport {
            families: families(signal),
            part: signal.to_string(),
            exactness,
            reason,
        }
    };
    signals.into_iter().map(report).collect()
}

const fn families(signal: Signal) -> &'static [&'static str] {
    match signal {
        Signal::Fault(..) => &["uffdwp_faults_total", "uffdwp_node_faults_total"],
        Signal::Marker(_) => &["uffdwp_markers_total", "uffdwp_node_markers_total"],
        Signal::TableAllocated(_) => &[
            "uffdwp_page_tables_allocated_total",
            "uffdwp_node_page_tables_allocated_total",
        ],
        Signal::TableFreed(_) => &["uffdwp_page_tables_freed_total"],
        Signal::FaultWait => &[
            "uffdwp_fault_wait_seconds",
            "uffdwp_process_fault_wait_seconds_total",
        ],
        Signal::ArmTime => &["uffdwp_arm_seconds"],
        Signal::ScanTime => &["uffdwp_scan_seconds"],
        Signal::Pages => &["uffdwp_pages"],
    }
}
