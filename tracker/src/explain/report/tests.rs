#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pages::track::{TrackEnd, TrackedMapping};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::explain::arbitrary::{any_findings, consistent};
use crate::explain::{AuditKind, AuditSight, ExplainEnd, sample};
use crate::print::picture::png::png;

fn text_of(findings: &ExplainFindings) -> String {
    text::text(&ExplainReport::new(findings))
}

fn page_of(findings: &ExplainFindings) -> String {
    html::page(&ExplainReports::new(std::slice::from_ref(findings))).unwrap()
}

/// All lines of JSON; missed ranges come with the first round.
fn json_of(findings: &ExplainFindings) -> String {
    let mut text = json::header(&findings.header, findings).unwrap();
    let mut missed = findings.missed.as_slice();
    for round in &findings.rounds {
        text += &json::round(findings.owner, round, std::mem::take(&mut missed)).unwrap();
    }
    text + &json::rest(&ExplainReport::new(findings)).unwrap()
}

fn parsed(findings: &ExplainFindings) -> Vec<Value> {
    let text = json_of(findings);
    assert!(text.ends_with('\n'));
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[test]
fn no_line_is_wider_than_100_columns() {
    for findings in [sample::database(), sample::half_blind(), sample::nothing()] {
        for line in text_of(&findings).lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
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
fn text_of_the_tracker_that_is_there_already_and_of_ours() {
    let findings = [sample::of_theirs(), sample::nothing()];
    let text = text::with_stories(&ExplainReports::new(&findings));
    assert!(text.lines().all(|line| line.chars().count() <= 100));
    insta::assert_snapshot!(text);
    let page = html::page(&ExplainReports::new(&findings)).unwrap();
    for title in ["The tracker that is there already", "Our own tracking"] {
        assert_eq!(page.matches(title).count(), 1, "{title}");
    }
}

#[test]
fn of_theirs_nothing_may_be_there() {
    let mut findings = sample::nothing();
    findings.owner = ReportOwner::Theirs;
    findings.tracked = 0;
    assert!(text_of(&findings).contains(">> Nothing was observed: no memory of this process"));
}

#[test]
fn a_clean_tracker_gets_what_was_looked_for() {
    let text = text_of(&sample::clean_tracker());
    assert!(
        text.contains("The process's own tracker: nothing found in 17 calls:"),
        "{text}"
    );
    let told = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for kind in AuditKind::ALL {
        assert!(told.contains(kind.as_str()), "{told}");
    }
    let mut unseen = sample::clean_tracker();
    if let Some(audit) = &mut unseen.audit {
        audit.sight = AuditSight::Gaps(vec!["no kprobes".to_owned()]);
        audit.calls = 0;
    }
    let unseen = text_of(&unseen);
    assert!(
        unseen.contains("what it does wrong is not known"),
        "{unseen}"
    );
    assert!(!unseen.contains("not found"), "{unseen}");
    assert!(!text_of(&sample::nothing()).contains("own tracker"));
    let lines = parsed(&sample::clean_tracker());
    let audit = lines.iter().find(|line| line["type"] == "audit").unwrap();
    assert_eq!((&audit["calls"], &audit["found"]), (&17.into(), &0.into()));
    let looked_for = audit["looked_for"].as_array().unwrap();
    assert_eq!(looked_for.len(), AuditKind::ALL.len());
}

#[test]
fn what_a_tracker_does_wrong_has_a_line_each() {
    let lines = parsed(&sample::half_blind());
    let of = |kind: &str| {
        lines
            .iter()
            .filter(|line| line["type"] == kind)
            .collect::<Vec<_>>()
    };
    let findings = of("finding");
    assert_eq!(findings.len(), 2);
    assert_eq!(findings[0]["kind"], "read-then-arm");
    assert_eq!(
        (&findings[0]["pages"], &findings[0]["open"]),
        (&5.into(), &640.into())
    );
    assert_eq!(findings[0]["caller"]["process"], 4242);
    assert_eq!((of("waits").len(), of("disarms").len()), (1, 1));
    assert_eq!(of("audit")[0]["all_calls_seen"], false);
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
    let lines: String = shown
        .map(|round| live::line(findings.owner, round))
        .collect();
    insta::assert_snapshot!(live::head() + &lines);
}

#[test]
fn the_story_of_a_page() {
    insta::assert_snapshot!(story::story(&sample::database()).unwrap());
    assert_eq!(story::story(&sample::nothing()), None);
}

#[test]
fn json_of_a_database() {
    let text = json_of(&sample::database());
    let told = text
        .lines()
        .filter(|line| !line.starts_with("{\"type\":\"round\"") || line.contains("\"number\":31,"));
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"));
}

/// What there is in a page beside text: names of elements and of their attributes.
fn markup(page: &str) -> BTreeSet<String> {
    let tags = page
        .split('<')
        .skip(1)
        .filter_map(|rest| rest.split('>').next());
    let outside = |tag: &str| {
        let unquoted = tag.split('"').step_by(2).collect::<String>();
        unquoted
            .split_whitespace()
            .map(|word| word.trim_end_matches('=').to_owned())
            .collect::<Vec<_>>()
    };
    tags.flat_map(outside).collect()
}

#[test]
fn a_page_has_no_markup_but_ours_and_asks_for_nothing() {
    let page = page_of(&sample::database());
    let mut tame = sample::database();
    for (mapping, _) in tame.rounds.iter_mut().flat_map(|round| &mut round.reported) {
        let name = mapping.name.replace(['<', '>'], "");
        *mapping = Arc::new(TrackedMapping {
            name,
            ..(**mapping).clone()
        });
    }
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"));
    assert_eq!(markup(&page), markup(&page_of(&tame)));
    let own = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for outside in [
        "<script", "src=", "href=", "@import", "http:", "https:", "style=\"", "onload", "onclick",
    ] {
        assert!(!own.contains(outside), "{outside}");
    }
}

#[test]
fn a_page_shows_the_map_before_what_may_be_long() {
    let page = page_of(&sample::database());
    let at = |title: &str| page.find(&format!("<h2>{title}")).unwrap();
    let titles = [
        "Where and when",
        "Changed and not reported",
        "Causes and verdicts",
        "Top writers",
        "Where the same content was written again",
        "Where other top writers are",
    ];
    assert!(titles.map(at).is_sorted(), "{:?}", titles.map(at));
}

/// Code that writes much is told whatever it wrote: here the second has no unchanged page.
#[test]
fn top_writers_are_those_of_all_reported_pages() {
    let findings = sample::database();
    let report = ExplainReport::new(&findings);
    let top = report.writers();
    let pages: Vec<_> = top.spots.iter().map(|spot| spot.pages.all()).collect();
    assert_eq!(pages, [7_200, 4_800, 2_400, 1_800, 1_536, 1_200, 960, 90]);
    assert_eq!((top.nowhere.all(), top.all), (960, 20_946));
    let mut changed = sample::database();
    changed.tally.clear();
    for places in changed.places.values_mut() {
        places.retain(|why, _| why.verdict == ReportVerdict::Changed);
        for (why, pages) in places {
            *changed.tally.entry(*why).or_default() += *pages;
        }
    }
    let report = ExplainReport::new(&changed);
    assert_eq!(
        headline::headline(&report)[1],
        "Reported most often, 4,800 of 8,163 times: user-store in [anon] 0x7f9900001000."
    );
    let text = text::text(&report);
    assert!(text.contains("Where pages were written:"), "{text}");
}

#[test]
fn an_early_end_of_the_process_is_told() {
    let told = |why, rounds, duration| {
        let mut findings = sample::database();
        findings.end = Some(ExplainEnd {
            why,
            rounds,
            duration,
        });
        headline::headline(&ExplainReport::new(&findings))
            .pop()
            .unwrap()
    };
    let exited = TrackEnd::Exited;
    assert_eq!(
        told(exited, Some(100), None),
        "The process ended early: 60 of 100 rounds were made."
    );
    assert_eq!(
        told(exited, None, Some(Duration::from_secs(10))),
        "The process ended early: the last round was at 6 s of 10 s."
    );
    // All rounds were made, or nobody asked for more.
    for (why, rounds) in [
        (exited, Some(60)),
        (exited, None),
        (TrackEnd::Done, Some(100)),
    ] {
        assert!(!told(why, rounds, None).contains("early"));
    }
}

/// 45 notes that say the same are one.
#[test]
fn equal_notes_are_one_with_a_count() {
    let mut findings = sample::nothing();
    let note = findings.header.notes[0].clone();
    findings.header.notes = vec![note; 45];
    let text = text_of(&findings);
    assert_eq!(text.matches("[vdso] is passed over").count(), 1, "{text}");
    assert!(text.contains("can have it (45 times)"), "{text}");
}

/// The colours of a pattern, as red, green and blue.
fn colours(pattern: &str) -> Vec<[u8; 3]> {
    let from = picture::PATTERNS
        .find(&format!("id=\"{pattern}\""))
        .unwrap();
    let pattern = picture::PATTERNS[from..]
        .split("</pattern>")
        .next()
        .unwrap();
    let digits = pattern.split('#').skip(1).map(|rest| &rest[..6]);
    let part = |text: &str, at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    digits
        .map(|text| [0, 2, 4].map(|at| part(text, at)))
        .collect()
}

#[test]
fn what_is_not_known_is_quieter_than_what_did_not_change() {
    let strength = |pattern| {
        let colours = colours(pattern).into_iter();
        let strengths = colours.map(|rgb| rgb.iter().max().unwrap() - rgb.iter().min().unwrap());
        strengths.max().unwrap()
    };
    assert!(strength("unknown") < 32 && strength("unchanged") > 128);
}

/// The picture as a document of its own; in a page the style is the page's.
fn picture_of(report: &ExplainReport<'_>) -> Option<String> {
    const STYLE: &str = "<style>.axis,.break,.folded,.event{stroke:#6b727b}</style>";
    let head = format!("{}{STYLE}<title>", picture::PATTERNS);
    picture::in_page(report).map(|svg| svg.replacen("<title>", &head, 1))
}

/// Writes pages and pictures for people to look at:
/// `TRACKER_PICTURES=DIR cargo test -p tracker --lib explain::report::tests::pages`.
#[test]
fn pages() {
    let cases = [
        ("explain", sample::database()),
        ("explain-sample", sample::half_blind()),
        ("explain-nothing", sample::nothing()),
    ];
    let directory = std::env::var_os("TRACKER_PICTURES");
    for (name, findings) in cases {
        let report = ExplainReport::new(&findings);
        let page = page_of(&findings);
        let svg = picture_of(&report);
        assert_eq!(svg.is_none(), findings.rounds.is_empty());
        let png = svg.as_ref().map(|svg| png(svg).unwrap());
        if let Some(directory) = &directory {
            let path = std::path::Path::new(directory).join(name);
            std::fs::write(path.with_extension("html"), &page).unwrap();
            if let (Some(svg), Some(png)) = (svg, png) {
                std::fs::write(path.with_extension("svg"), svg).unwrap();
                std::fs::write(path.with_extension("png"), png).unwrap();
            }
        }
    }
}

/// Nothing that moves the cursor, hides or reorders text; line feeds only where a line ends.
fn is_plain(text: &str) -> bool {
    text.lines()
        .all(|line| crate::print::words::printable(line) == line)
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
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 128, ..ProptestConfig::default()
    })]

    #[test]
    fn any_findings_are_shown_plainly(findings in any_findings()) {
        let text = text_of(&findings);
        prop_assert!(is_plain(&text), "{text:?}");
        for round in &findings.rounds {
            prop_assert!(is_plain(&live::line(findings.owner, round)));
        }
        prop_assert!(is_plain(&story::story(&findings).unwrap_or_default()));
        prop_assert!(!parsed(&findings).is_empty());
    }

    #[test]
    fn rows_of_json_add_up_to_the_summary(findings in consistent()) {
        let huge = |range: &std::ops::Range<u64>| range.end.saturating_sub(range.start) > 1 << 50;
        let all = findings.rounds.iter().flat_map(|round| &round.reported);
        prop_assume!(!all.flat_map(|(_, all)| all).map(|one| &one.range).any(huge));
        let lines = parsed(&findings);
        let summary = lines.last().unwrap();
        for (key, sums) in [("verdict", "verdicts"), ("cause", "causes")] {
            let told = serde_json::from_value(summary[sums].clone());
            let mut told: BTreeMap<String, u64> = told.unwrap();
            told.retain(|_, pages| *pages > 0);
            prop_assert_eq!(pages_by(&lines, key), told);
        }
        let reported: u64 = pages_by(&lines, "cause").values().sum();
        prop_assert_eq!(summary["reported"].as_u64(), Some(reported));
        let writers = lines.iter().filter(|line| line["type"] == "writer");
        let writers = writers.map(|line| line["pages"].as_u64().unwrap());
        prop_assert_eq!(writers.sum::<u64>(), reported);
        let missed = lines.iter().filter(|line| line["type"] == "missed");
        let missed = missed.map(|line| line["pages"].as_u64().unwrap());
        // Missed ranges are told with a round.
        if !findings.rounds.is_empty() {
            let missed = missed.fold(0, u64::saturating_add);
            prop_assert_eq!(summary["missed"].as_u64().unwrap(), missed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 48, ..ProptestConfig::default()
    })]

    #[test]
    fn any_findings_make_a_page(findings in any_findings()) {
        let report = ExplainReport::new(&findings);
        let page = page_of(&findings);
        prop_assert!(is_plain(&page), "{page:?}");
        if let Some(svg) = picture_of(&report) {
            let tree = resvg::usvg::Tree::from_str(&svg, &resvg::usvg::Options::default());
            prop_assert!(tree.is_ok(), "{:?}", tree.err());
        }
    }
}
