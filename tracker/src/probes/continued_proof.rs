//! Whether the hooks of the strategy `fault-time` fire, as long as it tracks: what they do not see, it
//! would take for clean.

use std::time::{Duration, Instant};

use super::proof;
use super::prover::HookProver;
use super::verdict::HookPlan;
use crate::kernel::mounts::MountPoints;
use crate::kernel::switches::KernelSwitches;

/// How often the hooks are made to fire.
const SELF_TEST: Duration = Duration::from_secs(60);

/// Whether the hooks still fire.
pub(super) struct ContinuedProof {
    prover: HookProver,
    mounts: MountPoints,
    /// When they were last made to fire.
    proved: Instant,
    /// What does not fire, and why.
    silent: Option<String>,
}

impl ContinuedProof {
    /// Goes on from a proof that was just made.
    pub(super) fn new(prover: HookProver, mounts: MountPoints) -> Self {
        Self {
            prover,
            mounts,
            proved: Instant::now(),
            silent: None,
        }
    }

    /// Whether one of the hooks does not fire: a switch is off, or it was silent when it was last
    /// made to fire, which is now if it was before. A switch that was off and is on again between
    /// two rounds is not noticed.
    pub(super) fn is_silent(&mut self, plan: &[HookPlan]) -> bool {
        let switches = KernelSwitches::read(&self.mounts);
        let off = |plan: &HookPlan| {
            let cause = proof::switched_off(plan.mechanism()?, switches)?;
            Some(format!("{}: {cause}", plan.hook.name()))
        };
        let silent = match plan.iter().find_map(off) {
            Some(off) => Some(off),
            None if self.silent.is_none() && self.proved.elapsed() < SELF_TEST => None,
            None => self.proven_silent(plan, switches),
        };
        match (&silent, &self.silent) {
            (Some(why), None) => tracing::warn!(
                "fault-time does not see what happens, so that rounds report everything: {why}"
            ),
            (None, Some(_)) => tracing::info!("fault-time sees what happens again"),
            _ => (),
        }
        self.silent = silent;
        self.silent.is_some()
    }

    /// What does not fire when it is made to; what could not be tried is as it was.
    fn proven_silent(&mut self, plan: &[HookPlan], switches: KernelSwitches) -> Option<String> {
        let states = self.prover.prove_patiently(plan);
        self.proved = Instant::now();
        if let Some(why) = proof::failure(&states) {
            tracing::warn!("the self-test of the hooks of fault-time failed: {why}");
            return self.silent.clone();
        }
        let settled = proof::settled(plan, &states, switches);
        let silent = settled.iter().find(|plan| plan.is_missing())?;
        Some(format!("{}: {}", silent.hook.name(), silent.reason()))
    }
}
