#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;

use pages::track::{
    MappingRound, PageExtent, SharedPlace, TrackHeader, TrackRound, TrackSummary, TrackedMapping,
    TrackedPages, UntrackedReason,
};
use proptest::prelude::*;
use uffd::{Backing, PAGE_SIZE};

use super::terminal::heat_map;
use super::*;
use crate::print::picture::png::png;
use crate::print::terminal::TerminalShades;
use crate::track::arbitrary::{any_header, any_rounds};
use crate::track::recording::{MemoryBudget, RecordingSource, RecordingWriter};
use crate::track::sample::{self, MappingPlan, WritingHabit};

fn with<T>(plans: &[MappingPlan], count: u64, show: impl FnOnce(&RecordingReport<'_>) -> T) -> T {
    show(&report(&recorded(plans, count)))
}

fn report(source: &RecordingSource) -> RecordingReport<'_> {
    let (report, damage) = RecordingReport::new(source).unwrap();
    assert!(damage.is_none());
    report
}

/// A whole recording of these mappings.
fn recorded(plans: &[MappingPlan], count: u64) -> RecordingSource {
    let rounds = sample::rounds(plans, count);
    let summary = sample::summary(&rounds);
    let bytes = record(&sample::header("redis-server"), &rounds, Some(&summary));
    RecordingSource::of_bytes(bytes, MemoryBudget::DEFAULT)
}

fn record(header: &TrackHeader, rounds: &[TrackRound], end: Option<&TrackSummary>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = RecordingWriter::new(&mut bytes, header).unwrap();
    rounds.iter().for_each(|round| writer.round(round).unwrap());
    if let Some(summary) = end {
        writer.finish(summary).unwrap();
    }
    bytes
}

fn all_tables(report: &RecordingReport<'_>) -> String {
    [
        tables::totals(report),
        tables::mappings(report),
        tables::shared(report),
        tables::rounds(report),
        tables::legend(),
    ]
    .join("\n")
}

#[test]
fn tables_of_a_database() {
    insta::assert_snapshot!(with(&sample::database(), 240, all_tables));
}

#[test]
fn tables_of_one_round() {
    insta::assert_snapshot!(with(&sample::database(), 1, all_tables));
}

#[test]
fn terminal_of_a_database() {
    insta::assert_snapshot!(with(&sample::database(), 240, |report| heat_map(
        report,
        100,
        TerminalShades::Plain
    )
    .unwrap()));
}

#[test]
fn terminal_of_five_rounds_in_colour() {
    let text = with(&sample::database(), 5, |report| {
        heat_map(report, 100, TerminalShades::Palette).unwrap()
    });
    insta::assert_snapshot!(text.replace('\x1b', "^"));
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None, cases: 128, ..ProptestConfig::default()
    })]

    /// A recording is somebody's file: whatever its numbers are, it is shown.
    #[test]
    fn no_recording_makes_it_panic(
        header in any_header(), rounds in any_rounds(), width in 0..300_usize
    ) {
        let bytes = record(&header, &rounds, None);
        let source = RecordingSource::of_bytes(bytes, MemoryBudget::DEFAULT);
        let report = report(&source);
        assert!(!all_tables(&report).is_empty());
        for shades in [TerminalShades::Plain, TerminalShades::Palette, TerminalShades::True] {
            assert!(!heat_map(&report, width, shades).unwrap().is_empty());
        }
        let svg = picture::svg(&report).unwrap();
        let parsed = resvg::usvg::Tree::from_str(&svg, &resvg::usvg::Options::default());
        prop_assert!(parsed.is_ok(), "{:?}", parsed.err());
    }
}

/// A mapping of 100 pages of which these were written.
fn told(start: u64, shared: Option<SharedPlace>, pages: &[u64]) -> MappingRound {
    let mapping = TrackedMapping {
        start,
        end: start + 100 * PAGE_SIZE,
        name: "/dev/shm/heap".to_owned(),
        backing: Backing::Shmem,
        page_size: PAGE_SIZE,
        shared,
    };
    let extent = |page: &u64| PageExtent {
        range: start + page * PAGE_SIZE..start + (page + 1) * PAGE_SIZE,
        unit: PAGE_SIZE,
        unknown: false,
    };
    MappingRound {
        mapping: Arc::new(mapping),
        pages: TrackedPages {
            tracked: 100,
            written: pages.len() as u64,
            ..TrackedPages::default()
        },
        written: pages.iter().map(extent).collect(),
    }
}

/// Two views of a file, of which the second begins ten pages later, and private memory.
fn two_views() -> Vec<TrackRound> {
    let place = |offset: u64| SharedPlace {
        device: (0, 1),
        inode: 7,
        offset: offset * PAGE_SIZE,
    };
    let round = |number: u64, private: &[u64]| TrackRound {
        number,
        mappings: vec![
            told(0x1000_0000, Some(place(0)), &[10, 11, 12]),
            told(0x2000_0000, Some(place(10)), &[0, 1, 50]),
            told(0x3000_0000, None, private),
        ],
        not_looked_at: [
            (UntrackedReason::Secret, 5 - number),
            (UntrackedReason::Device, number),
        ]
        .into_iter()
        .collect(),
        ..TrackRound::default()
    };
    vec![round(1, &[1, 2]), round(2, &[1]), round(3, &[1])]
}

#[test]
fn a_page_of_shared_memory_is_one_wherever_it_is_mapped() {
    let bytes = record(&sample::header("java"), &two_views(), None);
    let source = RecordingSource::of_bytes(bytes, MemoryBudget::DEFAULT);
    let report = report(&source);
    // Offsets 10, 11, 12 and 60, and two pages of private memory.
    let totals = &report.totals;
    assert_eq!((totals.pages.set, totals.written), (6, 3 * 6 + 4));
    assert_eq!(totals.pages.hot, 5);
    assert_eq!(totals.pages.once, 1);
    assert_eq!((totals.tracked, totals.shared), (110 + 100, 110));
    let [file] = report.files.as_slice() else {
        panic!("{:?}", report.files);
    };
    assert_eq!((file.mapped, file.tracked, file.written), (2, 110, 18));
    assert_eq!(file.offsets, 0..110 * PAGE_SIZE);
    assert_eq!((file.pages().set, file.pages().hot), (4, 4));
    let last = report.rounds.last().unwrap();
    assert_eq!((last.set, last.window), (6, 6));
    // By address they are what they are there.
    let by_address: Vec<_> = report.areas.iter().map(|area| area.pages.set).collect();
    assert_eq!(by_address, [3, 3, 2]);
}

#[test]
fn what_was_not_looked_at_is_told_by_reason() {
    let bytes = record(&sample::header("java"), &two_views(), None);
    let source = RecordingSource::of_bytes(bytes, MemoryBudget::DEFAULT);
    let text = all_tables(&report(&source));
    for (reason, pages) in [(UntrackedReason::Secret, 4), (UntrackedReason::Device, 3)] {
        let line = format!("{pages} pages ({} KiB) {}", pages * 4, reason.about());
        assert!(text.contains(&line), "{text}");
    }
    let svg = picture::svg(&report(&source)).unwrap();
    assert!(svg.contains("28 KiB not looked at"));
}

#[test]
fn tables_of_two_views() {
    let bytes = record(&sample::header("java"), &two_views(), None);
    let source = RecordingSource::of_bytes(bytes, MemoryBudget::DEFAULT);
    insta::assert_snapshot!(all_tables(&report(&source)));
}

/// Writes pictures and recordings for people to look at:
/// `TRACKER_PICTURES=DIR cargo test -p tracker --lib pictures`.
#[test]
fn pictures() {
    let one = [MappingPlan::new(
        0x7f10_0000_0000,
        8192,
        "[heap]",
        WritingHabit::Sweep,
    )];
    let cases = [
        ("database-240", sample::database(), 240),
        ("database-1", sample::database(), 1),
        ("database-5", sample::database(), 5),
        ("database-2000", sample::database(), 2000),
        ("one-60", one.to_vec(), 60),
        ("many-300", sample::many(300), 300),
        ("none", vec![], 3),
        ("nothing", vec![], 0),
    ];
    let directory = std::env::var_os("TRACKER_PICTURES");
    for (name, plans, rounds) in cases {
        // A picture of many rounds takes long without optimisation.
        if directory.is_none() && rounds > 300 {
            continue;
        }
        let svg = with(&plans, rounds, picture::svg).unwrap();
        let png = png(&svg).unwrap();
        assert!(png.starts_with(b"\x89PNG"));
        if let Some(directory) = &directory {
            let path = std::path::Path::new(directory).join(name);
            std::fs::write(path.with_extension("svg"), &svg).unwrap();
            std::fs::write(path.with_extension("png"), &png).unwrap();
            let all = sample::rounds(&plans, rounds);
            let summary = sample::summary(&all);
            let bytes = record(&sample::header("redis-server"), &all, Some(&summary));
            std::fs::write(path.with_extension("rec"), bytes).unwrap();
        }
    }
}
