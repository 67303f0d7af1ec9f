//! The plan on captured facts: what is tried, and the reasons it gives.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use tracker::kernel::Facts;
use tracker::kernel::facts::{TrialOutcome, TrialStage};
use tracker::kernel::lockdown::Lockdown;
use tracker::probes::hooks::Mechanism;
use tracker::probes::plan::{Found, Wishes, plan, trial_key};
use tracker::probes::{HOOKS, HookPlan};

/// Linux 6.12 of Debian, as root.
fn debian() -> Facts {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel/debian-6.12.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What becomes of one hook.
fn planned(facts: &Facts, name: &str) -> HookPlan {
    let found = Found {
        marker_pte: Some(u64::MAX << 10),
        fault_text: Some((1, 2)),
        zap_huge_text: Some((3, 4)),
        page_offset_symbol: None,
        pagemap_scan: true,
        ..Found::default()
    };
    let all = plan(HOOKS, facts, &found, &Wishes::default());
    all.into_iter().find(|hook| hook.hook == name).unwrap()
}

/// Why `do_wp_page` is not attached by fentry, which the kernel refused.
fn refusal(stage: TrialStage, errno: i32, lockdown: Option<Lockdown>) -> String {
    let refused = TrialOutcome::Refused {
        stage,
        errno,
        message: "what the kernel said".to_owned(),
    };
    let key = trial_key("do_wp_page", Mechanism::Fentry, "do_wp_page");
    let mut facts = debian();
    facts.lockdown = lockdown;
    facts.trial.insert(key, refused);
    let plan = planned(&facts, "do_wp_page");
    assert_ne!(plan.mechanism(), Some(Mechanism::Fentry));
    plan.reason
}

#[test]
fn a_refusal_says_at_which_step_and_why() {
    use TrialStage::{Attach, Load};
    for (stage, errno, lockdown, why) in [
        (Load, 22, None, "refuses to load its program (EINVAL)"),
        (
            Load,
            22,
            Some(Lockdown::Integrity),
            "refuses to load its program (EINVAL)",
        ),
        (
            Load,
            22,
            Some(Lockdown::Confidentiality),
            "kernel lockdown (confidentiality) refuses programs that read kernel memory",
        ),
        (
            Attach,
            22,
            Some(Lockdown::Confidentiality),
            "refuses to attach to this function (EINVAL)",
        ),
        (Attach, 524, None, "do not take its arguments (ENOTSUPP)"),
        (Load, 7, None, "what the kernel said"),
    ] {
        let reason = refusal(stage, errno, lockdown);
        assert!(reason.contains(why), "{stage:?} {errno}: {reason}");
    }
}

/// An offset that is named wrong would never be missed.
#[test]
fn hooks_name_offsets_that_there_are() {
    let facts = debian();
    for hook in HOOKS {
        for name in hook.offsets {
            let known = facts.offsets.iter().any(|(known, _)| known == *name);
            assert!(known, "{}: there is no offset {name}", hook.name);
        }
    }
}
