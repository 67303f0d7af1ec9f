//! The plan on captured facts: what is tried, and the reasons it gives.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use tracker::kernel::KernelFacts;
use tracker::kernel::facts::{TrialOutcome, TrialStage};
use tracker::kernel::lockdown::Lockdown;
use tracker::kernel::offsets::FieldOffset;
use tracker::probes::hooks::HookMechanism;
use tracker::probes::plan::{HookWishes, ProbedFacts, level, plan, trial_key};
use tracker::probes::{EVENT_HOOKS, HOOKS, HookPlan, HookVerdict, ProbeLevel};

/// Linux 6.12 of Debian, as root.
fn debian() -> KernelFacts {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kernel/debian-6.12.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn found() -> ProbedFacts {
    ProbedFacts {
        marker_pte: Some(u64::MAX << 10),
        fault_text: Some((1, 2)),
        zap_huge_text: Some((3, 4)),
        split_text: Some((5, 6)),
        page_offset_symbol: None,
        pagemap_scan: true,
        guard_pages: false,
        folio_swapbacked: Some(1 << 17),
        folio_head: Some(1 << 6),
    }
}

/// What becomes of one hook.
fn planned(facts: &KernelFacts, name: &str) -> HookPlan {
    let all = plan(HOOKS, facts, &found(), &HookWishes::default());
    all.into_iter().find(|hook| hook.hook == name).unwrap()
}

/// Why `do_wp_page` is not attached by fentry, which the kernel refused.
fn refusal(stage: TrialStage, errno: i32, lockdown: Option<Lockdown>) -> String {
    let refused = TrialOutcome::Refused {
        stage,
        errno,
        message: "what the kernel said".to_owned(),
    };
    let key = trial_key("do_wp_page", HookMechanism::Fentry, "do_wp_page");
    let mut facts = debian();
    facts.lockdown = lockdown;
    facts.trial.insert(key, refused);
    let plan = planned(&facts, "do_wp_page");
    assert_ne!(plan.mechanism(), Some(HookMechanism::Fentry));
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
    for hook in HOOKS.iter().chain(EVENT_HOOKS) {
        for name in hook.offsets {
            let known = facts.offsets.iter().any(|(known, _)| known == *name);
            assert!(known, "{}: there is no offset {name}", hook.name);
        }
    }
}

/// The plan of the hooks of events, with what becomes of each.
fn events(facts: &KernelFacts) -> Vec<HookPlan> {
    plan(EVENT_HOOKS, facts, &found(), &HookWishes::default())
}

fn verdict<'a>(plan: &'a [HookPlan], name: &str) -> &'a HookVerdict {
    let found = plan.iter().find(|hook| hook.hook == name);
    &found.unwrap().verdict
}

#[test]
fn tracepoints_stand_in_where_no_function_can_be_hooked() {
    let mut facts = debian();
    let plan = events(&facts);
    assert_eq!(level(&plan).0, ProbeLevel::Full);
    for name in ["user_fault", "kernel_fault", "syscall"] {
        assert_eq!(verdict(&plan, name), &HookVerdict::NotNeeded, "{name}");
    }
    facts.kprobe_pmu = None;
    for hook in EVENT_HOOKS {
        for mechanism in [HookMechanism::Fentry, HookMechanism::Fexit] {
            let key = trial_key(hook.name, mechanism, hook.functions[0]);
            let refused = TrialOutcome::Refused {
                stage: TrialStage::Attach,
                errno: 1,
                message: String::new(),
            };
            facts.trial.insert(key, refused);
        }
    }
    let plan = events(&facts);
    let (reached, reason) = level(&plan);
    assert_eq!(reached, ProbeLevel::Observe);
    assert!(reason.starts_with("no function can be hooked"), "{reason}");
    for name in ["user_fault", "kernel_fault", "syscall", "ksm", "ksm_zero"] {
        let verdict = verdict(&plan, name);
        assert!(matches!(verdict, HookVerdict::Attach { .. }), "{name}");
    }
    assert_eq!(verdict(&plan, "wp_fault"), &HookVerdict::Absent);
}

#[test]
fn an_older_kernel_has_other_hooks_for_the_same() {
    let mut facts = debian();
    for event in ["ksm:ksm_merge_with_ksm_page", "ksm:ksm_merge_one_page"] {
        facts.tracepoints.get_mut(event).unwrap().in_btf = false;
    }
    facts.functions.remove("userfaultfd_clear_vma");
    let plan = events(&facts);
    for name in ["ksm", "ksm_zero", "unregistered", "guard_install"] {
        assert_eq!(verdict(&plan, name), &HookVerdict::NotNeeded, "{name}");
    }
    for name in ["ksm_merge", "uffd_command"] {
        let verdict = verdict(&plan, name);
        assert!(matches!(verdict, HookVerdict::Attach { .. }), "{name}");
    }
    assert_eq!(level(&plan).0, ProbeLevel::Full);
}

#[test]
fn without_ksm_nothing_is_missed() {
    let mut facts = debian();
    for event in ["ksm:ksm_merge_with_ksm_page", "ksm:ksm_merge_one_page"] {
        facts.tracepoints.get_mut(event).unwrap().in_btf = false;
    }
    facts.functions.remove("try_to_merge_one_page");
    facts.offsets.ksm_rmap_item_address = FieldOffset::Missing("no such struct".to_owned());
    let plan = events(&facts);
    for name in ["ksm", "ksm_zero", "ksm_merge"] {
        assert_eq!(verdict(&plan, name), &HookVerdict::NotNeeded, "{name}");
    }
    assert_eq!(level(&plan).0, ProbeLevel::Full);
}
