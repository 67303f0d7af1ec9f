//! Kernels whose facts were captured, and the plans for them.
#![allow(dead_code, reason = "each test uses its part")]

use std::path::Path;
use std::sync::LazyLock;

use tracker::kernel::KernelFacts;
use tracker::probes::plan::{HookTrials, PlanInputs, plan};
use tracker::probes::{Hook, HookPlan, HookWishes, OBJECT, ProbeObject};

/// Debian's kernels, oldest first; their facts were captured as root.
pub const DEBIAN: [&str; 4] = ["debian-6.1", "debian-6.12", "debian-6.18", "debian-7.3"];

/// The programs that are built in.
pub static PROGRAMS: LazyLock<ProbeObject> =
    LazyLock::new(|| ProbeObject::parse(OBJECT.into()).unwrap());

/// What is known of a kernel.
pub fn facts(kernel: &str) -> KernelFacts {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel");
    let bytes = std::fs::read(dir.join(format!("{kernel}.json"))).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The plan before anything is tried.
pub fn planned(hooks: &'static [Hook], facts: &KernelFacts) -> Vec<HookPlan> {
    planned_after(hooks, facts, &HookTrials::new())
}

/// The plan after some programs were tried.
pub fn planned_after(
    hooks: &'static [Hook],
    facts: &KernelFacts,
    trials: &HookTrials,
) -> Vec<HookPlan> {
    let inputs = PlanInputs {
        facts,
        object: &PROGRAMS,
        wishes: &HookWishes::default(),
        trials,
    };
    plan(hooks, inputs)
}
