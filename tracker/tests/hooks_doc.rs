//! docs/hooks.md describes every hook, and its tables are the plans for Debian's kernels.
#![allow(clippy::unwrap_used, reason = "tests")]

mod kernels;

use std::path::Path;

use kernels::planned;
use tracker::probes::plan::level;
use tracker::probes::{
    EVENT_HOOKS, FAULT_TIME_HOOKS, HOOKS, Hook, HookMechanism, HookPlan, HookVerdict, ProbeLevel,
};
use tracker_ebpf::{CallKind, EventKind};

const KERNELS: [&str; 4] = ["6.1", "6.12", "6.18", "7.3"];

fn doc() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hooks.md");
    std::fs::read_to_string(path).unwrap()
}

/// All tables, with the name that marks each in the text.
fn tables() -> [(&'static [Hook], &'static str); 3] {
    [
        (HOOKS, "plan"),
        (EVENT_HOOKS, "events plan"),
        (FAULT_TIME_HOOKS, "fault-time plan"),
    ]
}

/// The plan for one of Debian's kernels.
fn on_debian(hooks: &'static [Hook], kernel: &str) -> Vec<HookPlan> {
    planned(hooks, &kernels::facts(&format!("debian-{kernel}")))
}

/// One cell: the mechanism, and the function where it is not the hook's first.
fn cell(plan: &HookPlan) -> String {
    match &plan.verdict {
        HookVerdict::Attach {
            program, function, ..
        } => {
            let mechanism = program.mechanism;
            if *function == plan.hook.functions[0] {
                mechanism.to_string()
            } else {
                format!("{mechanism} `{function}`")
            }
        }
        HookVerdict::NotNeeded(_) => "-".to_owned(),
        HookVerdict::Off | HookVerdict::Absent(_) | HookVerdict::Silent { .. } => {
            "absent".to_owned()
        }
    }
}

fn table(hooks: &'static [Hook]) -> String {
    let plans = KERNELS.map(|kernel| on_debian(hooks, kernel));
    let mut text = format!("| hook | function | {} |\n", KERNELS.join(" | "));
    text.push_str(&"|---".repeat(2 + KERNELS.len()));
    text.push_str("|\n");
    for (i, hook) in hooks.iter().enumerate() {
        let cells = plans.each_ref().map(|plan| cell(&plan[i]));
        text.push_str(&format!(
            "| `{}` | `{}` | {} |\n",
            hook.name(),
            hook.functions[0],
            cells.join(" | ")
        ));
    }
    text
}

#[test]
fn every_hook_is_described_in_order() {
    let doc = doc();
    let told: Vec<&str> = doc.lines().filter_map(|l| l.strip_prefix("### ")).collect();
    let all = || HOOKS.iter().chain(EVENT_HOOKS).chain(FAULT_TIME_HOOKS);
    let hooks: Vec<&str> = all().map(Hook::name).collect();
    assert_eq!(told, hooks, "sections of docs/hooks.md and the tables");
    for (section, hook) in doc.split("\n### ").skip(1).zip(all()) {
        let (name, orders) = (hook.name(), orders(hook));
        for function in hook.functions {
            assert!(section.contains(function), "{function} at {name}");
        }
        let told = orders.iter().any(|order| section.contains(order));
        assert!(told, "the mechanisms of {name}: {orders:?}");
    }
}

/// The words for the order of a hook's programs.
fn orders(hook: &Hook) -> &'static [&'static str] {
    use HookMechanism::{Fentry, Fexit, Iterator, Kprobe, Kretprobe, Tracepoint};
    match *hook.mechanisms().collect::<Vec<_>>() {
        [Fentry, Kprobe] => &["LOCKED", "RANGE"],
        [Kprobe, Fentry] => &["PREEMPTIBLE"],
        [Kprobe] => &["KPROBE"],
        [Fexit, Kretprobe] => &["EXIT"],
        [Fexit] => &["FEXIT"],
        [Tracepoint] => &["The tracepoint"],
        [Iterator] => &["The BPF iterator"],
        _ => &[],
    }
}

#[test]
fn every_kind_of_event_is_described() {
    let doc = doc();
    let (_, events) = doc.split_once("\n## Events\n").unwrap();
    for kind in EventKind::ALL {
        assert!(events.contains(&format!("`{kind:?}`")), "{kind:?}");
    }
}

#[test]
fn every_kind_of_call_is_described() {
    let doc = doc();
    let (_, events) = doc.split_once("\n## Events\n").unwrap();
    for kind in CallKind::ALL {
        assert!(events.contains(&format!("`{kind:?}`")), "{kind:?}");
    }
}

#[test]
fn the_tables_are_the_plans() {
    let doc = doc();
    for (hooks, name) in tables() {
        let (_, rest) = doc.split_once(&format!("<!-- {name} -->\n")).unwrap();
        let (told, _) = rest.split_once(&format!("<!-- /{name} -->")).unwrap();
        let planned = table(hooks);
        assert!(
            told == planned,
            "the table in docs/hooks.md is stale; it must be:\n{planned}"
        );
    }
}

#[test]
fn debian_s_kernels_reach_level_full_by_their_facts() {
    for kernel in KERNELS {
        for (hooks, name) in tables() {
            let (reached, reason) = level(&on_debian(hooks, kernel));
            // Which has no async mode either.
            let lacks = kernel == "6.1" && std::ptr::eq(hooks, FAULT_TIME_HOOKS);
            assert_eq!(
                reached != ProbeLevel::Full,
                lacks,
                "{kernel}, {name}: {reason}"
            );
        }
    }
}
