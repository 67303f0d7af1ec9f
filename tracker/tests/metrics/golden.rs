//! One whole scrape, compared to the one that was checked by hand; and by promtool.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use tracker::metrics::{AgentFacts, CollectorRun, HookRow, encode};
use tracker::model::SeriesLimits;
use tracker::probes::{CountExactness, CountSignal, HookMechanism, ProbeLevel};
use tracker_ebpf::{FaultEntry, MarkerEvent, MeasuredTime, WpMode};

use crate::full::{self, VmaFill};
use crate::text;

/// Two processes, one of which has a slot; an estimated and an absent signal.
pub fn exposition() -> String {
    let limits = SeriesLimits {
        max_processes: 1,
        max_vmas: 1,
        ..SeriesLimits::default()
    };
    let view = full::view(limits, 2, 2, VmaFill::Usual);
    encode(&full::rows(view, facts())).unwrap()
}

fn facts() -> AgentFacts {
    let mut facts = full::facts();
    facts.level = ProbeLevel::Partial;
    facts.hooks = vec![
        hook("do_wp_page", Some(HookMechanism::Fentry), Some(0)),
        hook("handle_userfault", Some(HookMechanism::Kprobe), Some(2)),
        hook("split_huge_pmd", None, None),
    ];
    facts.collectors.push(CollectorRun {
        collector: "scan",
        duration: std::time::Duration::from_micros(1500),
        success: false,
        completed_unix_seconds: 1.7e9,
    });
    let reason = "change_pte_range is inlined".to_owned();
    let available = &mut facts.availability;
    available.set(
        CountSignal::Marker(MarkerEvent::Installed),
        CountExactness::Estimated(reason),
    );
    available.set(
        CountSignal::Marker(MarkerEvent::Dropped),
        CountExactness::Absent,
    );
    available.set(
        CountSignal::Fault(WpMode::Async, FaultEntry::Huge),
        CountExactness::Absent,
    );
    available.set(CountSignal::Time(MeasuredTime::Arm), CountExactness::Absent);
    facts
}

fn hook(hook: &'static str, mechanism: Option<HookMechanism>, missed: Option<u64>) -> HookRow {
    HookRow {
        hook,
        mechanism,
        firing: mechanism.map(|one| one != HookMechanism::Kprobe),
        missed,
    }
}

#[test]
fn the_whole_scrape_is_as_checked() {
    insta::assert_snapshot!(exposition());
}

#[test]
fn the_whole_scrape_can_be_read() {
    assert!(text::read(&exposition()).len() > 100);
}

/// Everything promtool has to say about a scrape, which is nothing. Needed in CI, else used if
/// there is one (Debian: `apt-get install prometheus`).
#[test]
fn promtool_has_nothing_to_say() {
    let everything = full::view(SeriesLimits::default(), 2, 2, VmaFill::Everything);
    let everything = full::rows(everything, full::facts());
    for text in [exposition(), encode(&everything).unwrap()] {
        let command = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut promtool = match command {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(std::env::var_os("CI").is_none(), "no promtool in PATH");
                eprintln!("skipped: no promtool in PATH");
                return;
            }
            other => other.unwrap(),
        };
        promtool
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&said)
        );
        assert_eq!(String::from_utf8_lossy(&said), "");
    }
}
