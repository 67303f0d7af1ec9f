//! The recording rules and alerts in `deploy/rules/`.

use std::collections::BTreeSet;
use std::process::Command;

use super::deploy;
use testbed::has;

const RECORDING: &str = include_str!("../../../../deploy/rules/recording.yml");
const ALERTS: &str = include_str!("../../../../deploy/rules/alerts.yml");
const TESTS: &str = include_str!("../../../../deploy/rules/alerts.test.yml");
const PATTERNS: &str = include_str!("../../../../docs/patterns.md");
const METRICS: &str = include_str!("../../../../docs/metrics.md");

/// What stands behind a key, line by line.
fn values<'a>(yaml: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = yaml
        .lines()
        .map(|line| line.trim().trim_start_matches("- "));
    lines.filter_map(move |line| Some(line.strip_prefix(key)?.strip_prefix(": ")?.trim()))
}

#[test]
fn each_rule_does_what_its_test_says() {
    if !has("promtool") {
        return;
    }
    let mut command = Command::new("promtool");
    let command = command.args(["test", "rules", "alerts.test.yml"]);
    let output = command.current_dir(deploy("rules")).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn each_alert_is_seen_to_fire() {
    let alerts: BTreeSet<_> = values(ALERTS, "alert").collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let cases = TESTS.split("- eval_time:");
    let fires = cases.filter(|case| case.contains("exp_labels"));
    let fired: BTreeSet<_> = fires.flat_map(|case| values(case, "alertname")).collect();
    assert_eq!(alerts, fired);
}

#[test]
fn each_alert_names_a_heading_of_the_patterns() {
    let headings = PATTERNS.lines().filter_map(|line| line.strip_prefix("## "));
    let anchors: BTreeSet<_> = headings
        .map(|heading| heading.to_lowercase().replace(',', "").replace(' ', "-"))
        .collect();
    let runbooks: Vec<_> = values(ALERTS, "runbook").collect();
    assert_eq!(runbooks.len(), values(ALERTS, "alert").count());
    for runbook in runbooks {
        let anchor = runbook.strip_prefix("docs/patterns.md#");
        assert!(
            anchor.is_some_and(|anchor| anchors.contains(anchor)),
            "{runbook}: {anchors:?}"
        );
    }
}

#[test]
fn rules_ask_for_families_that_there_are() {
    let recorded: BTreeSet<_> = values(RECORDING, "record").collect();
    let name = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let mut families = 0;
    let words = RECORDING.split(name).chain(ALERTS.split(name));
    for word in words.filter(|word| word.contains("uffdwp_")) {
        let family = word.trim_end_matches("_bucket").trim_end_matches("_count");
        let told = METRICS.contains(&format!("### {family}\n"));
        assert!(told || recorded.contains(word), "{word}");
        families += usize::from(told);
    }
    assert!(families > 10);
}
