#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::explain::arbitrary::{any_findings, consistent};
use crate::explain::sample;

fn text_of(findings: &Findings) -> String {
    text::text(&Report::new(findings))
}

fn parsed(findings: &Findings) -> Vec<Value> {
    let text = json::lines(&Report::new(findings)).unwrap();
    assert!(text.ends_with('\n'));
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn text_of_a_database() {
    insta::assert_snapshot!(text_of(&sample::database()));
}

#[test]
fn text_of_a_sample_without_all_causes() {
    insta::assert_snapshot!(text_of(&sample::half_blind()));
}

#[test]
fn text_of_nothing() {
    insta::assert_snapshot!(text_of(&sample::nothing()));
}

#[test]
fn lines_of_rounds() {
    let findings = sample::database();
    let shown = findings
        .rounds
        .iter()
        .filter(|round| [1, 31, 60].contains(&round.number));
    let lines: String = shown.map(live::line).collect();
    insta::assert_snapshot!(live::head() + &lines);
}

#[test]
fn the_story_of_a_page() {
    insta::assert_snapshot!(story::story(&sample::database()).unwrap());
    assert_eq!(story::story(&sample::nothing()), None);
}

#[test]
fn json_of_a_database() {
    let text = json::lines(&Report::new(&sample::database())).unwrap();
    let told = text
        .lines()
        .filter(|line| !line.starts_with("{\"type\":\"round\"") || line.contains("\"number\":31,"));
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"));
}

/// Nothing that moves the cursor, hides or reorders text; line feeds only where a line ends.
fn is_plain(text: &str) -> bool {
    text.lines()
        .all(|line| crate::track::report::words::printable(line) == line)
}

fn pages_by(lines: &[Value], key: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in lines.iter().filter(|line| line["type"] == "pages") {
        let key = line[key].as_str().unwrap().to_owned();
        *sums.entry(key).or_default() += line["pages"].as_u64().unwrap();
    }
    sums
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_findings_are_shown_plainly(findings in any_findings()) {
        let text = text_of(&findings);
        prop_assert!(is_plain(&text), "{text:?}");
        for round in &findings.rounds {
            prop_assert!(is_plain(&live::line(round)));
        }
        prop_assert!(is_plain(&story::story(&findings).unwrap_or_default()));
        prop_assert!(!parsed(&findings).is_empty());
    }

    #[test]
    fn rows_of_json_add_up_to_the_summary(findings in consistent()) {
        let huge = |range: &std::ops::Range<u64>| range.end.saturating_sub(range.start) > 1 << 50;
        let all = findings.rounds.iter().flat_map(|round| &round.reported).flat_map(|(_, all)| all);
        prop_assume!(!all.map(|one| &one.range).any(huge));
        let lines = parsed(&findings);
        let summary = lines.last().unwrap();
        for (key, sums) in [("verdict", "verdicts"), ("cause", "causes")] {
            let told: BTreeMap<String, u64> = serde_json::from_value(summary[sums].clone()).unwrap();
            let told: BTreeMap<_, _> = told.into_iter().filter(|(_, pages)| *pages > 0).collect();
            prop_assert_eq!(pages_by(&lines, key), told);
        }
        let reported: u64 = pages_by(&lines, "cause").values().sum();
        prop_assert_eq!(summary["reported"].as_u64(), Some(reported));
        let missed = lines.iter().filter(|line| line["type"] == "missed");
        let missed = missed.map(|line| line["pages"].as_u64().unwrap());
        prop_assert_eq!(summary["missed"].as_u64().unwrap(), missed.fold(0, u64::saturating_add));
    }
}
