//! docs/hooks.md tells of every hook, and its table is what the plan says of Debian's kernels.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use tracker::kernel::KernelFacts;
use tracker::probes::plan::{HookWishes, ProbeLevel, ProbedFacts, level, plan};
use tracker::probes::{EVENT_HOOKS, HOOKS, Hook, HookPlan, HookVerdict};

const KERNELS: [&str; 4] = ["6.1", "6.12", "6.18", "7.3"];

fn doc() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hooks.md");
    std::fs::read_to_string(path).unwrap()
}

/// Both tables, with the name of the plan in the text.
const TABLES: [(&[Hook], &str); 2] = [(HOOKS, "plan"), (EVENT_HOOKS, "events plan")];

/// The plan for a Debian kernel whose facts are known, as root.
fn planned(hooks: &[Hook], kernel: &str) -> Vec<HookPlan> {
    let name = format!("tests/fixtures/kernel/debian-{kernel}.json");
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let facts: KernelFacts = serde_json::from_slice(&bytes).unwrap();
    let found = ProbedFacts {
        marker_pte: Some(u64::MAX << 10),
        fault_text: Some((1, 2)),
        zap_huge_text: Some((3, 4)),
        split_text: Some((5, 6)),
        page_offset_symbol: None,
        pagemap_scan: kernel != "6.1",
        guard_pages: !["6.1", "6.12"].contains(&kernel),
        folio_swapbacked: Some(1 << 17),
        folio_head: Some(1 << 6),
    };
    plan(hooks, &facts, &found, &HookWishes::default())
}

/// One cell: the mechanism, and the function where it is not the hook's first.
fn cell(hook: &Hook, plan: &HookPlan) -> String {
    match &plan.verdict {
        HookVerdict::Attach {
            mechanism,
            function,
        } if function == hook.functions[0] => mechanism.to_string(),
        HookVerdict::Attach {
            mechanism,
            function,
        } => format!("{mechanism} `{function}`"),
        HookVerdict::NotNeeded => "-".to_owned(),
        HookVerdict::Off | HookVerdict::Absent => "absent".to_owned(),
    }
}

fn table(hooks: &[Hook]) -> String {
    let plans = KERNELS.map(|kernel| planned(hooks, kernel));
    let mut text = format!("| hook | function | {} |\n", KERNELS.join(" | "));
    text.push_str(&"|---".repeat(2 + KERNELS.len()));
    text.push_str("|\n");
    for (i, hook) in hooks.iter().enumerate() {
        let cells = plans.each_ref().map(|plan| cell(hook, &plan[i]));
        text.push_str(&format!(
            "| `{}` | `{}` | {} |\n",
            hook.name,
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
    let all = || HOOKS.iter().chain(EVENT_HOOKS);
    let hooks: Vec<&str> = all().map(|hook| hook.name).collect();
    assert_eq!(told, hooks, "sections of docs/hooks.md and the tables");
    for (section, hook) in doc.split("\n### ").skip(1).zip(all()) {
        for function in hook.functions {
            assert!(section.contains(function), "{function} at {}", hook.name);
        }
    }
}

#[test]
fn the_tables_are_the_plans() {
    let doc = doc();
    for (hooks, name) in TABLES {
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
        for (hooks, name) in TABLES {
            let (reached, reason) = level(&planned(hooks, kernel));
            assert_eq!(reached, ProbeLevel::Full, "{kernel}, {name}: {reason}");
        }
    }
}
