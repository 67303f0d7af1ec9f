//! What `tracker report` takes for a day: 300 mappings, a round a second.
//!
//! `cargo bench -p tracker --bench report`; the size of the recording and the most memory that was
//! resident are printed first.

#![allow(clippy::expect_used, reason = "a benchmark")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use criterion::{Criterion, criterion_group, criterion_main};
use pages::track::{
    MappingRound, PageExtent, TrackHeader, TrackRound, TrackedMapping, TrackedPages, UntrackedPages,
};
use tempfile::TempDir;
use tracker::track::recording::RecordingWriter;
use uffd::{Backing, PAGE_SIZE};

const MAPPINGS: u64 = 300;
const ROUNDS: u64 = 24 * 60 * 60;
/// Pages of a mapping.
const PAGES: u64 = 4096;

fn header() -> TrackHeader {
    TrackHeader {
        pid: 77,
        comm: "server".into(),
        command: vec!["server".into()],
        strategy: "markers".into(),
        reason: "exact".into(),
        interval: Duration::from_secs(1),
        began: UNIX_EPOCH,
        kernel: "6.12".into(),
        tracker: "0.1.0".into(),
        stopped: None,
        notes: vec![],
    }
}

fn mapping(number: u64) -> Arc<TrackedMapping> {
    let start = 0x7f00_0000_0000 + number * 2 * PAGES * PAGE_SIZE;
    Arc::new(TrackedMapping {
        start,
        end: start + PAGES * PAGE_SIZE,
        name: format!("[anon:arena {number}]"),
        backing: Backing::Anon,
        page_size: PAGE_SIZE,
        shared: None,
    })
}

/// What a round tells of a mapping: one in a hundred writes a page.
fn told(mapping: &Arc<TrackedMapping>, number: u64, round: u64) -> MappingRound {
    let busy = (number + round).is_multiple_of(100);
    let page = mapping.start + (round * 37 + number) % PAGES * PAGE_SIZE;
    let extent = PageExtent {
        range: page..page + PAGE_SIZE,
        unit: PAGE_SIZE,
        unknown: false,
    };
    MappingRound {
        mapping: Arc::clone(mapping),
        pages: TrackedPages {
            tracked: PAGES,
            armed: busy.into(),
            written: busy.into(),
            ..TrackedPages::default()
        },
        written: busy.then_some(extent).into_iter().collect(),
    }
}

fn a_day(path: &Path) {
    let mappings: Vec<_> = (0..MAPPINGS).map(mapping).collect();
    let file = std::io::BufWriter::new(fs::File::create(path).expect("a file"));
    let mut writer = RecordingWriter::new(file, &header()).expect("a recording");
    for number in 1..=ROUNDS {
        let told = mappings.iter().zip(0..).map(|(m, i)| told(m, i, number));
        let round = TrackRound {
            number,
            at: Duration::from_secs(number),
            lasted: Duration::from_secs(1),
            took: Duration::from_micros(300 + number % 50),
            mappings: told.collect(),
            children: Vec::new(),
            not_looked_at: UntrackedPages::default(),
            events: vec![],
            mapping_count: None,
        };
        writer.round(&round).expect("a round");
    }
}

fn report(path: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracker"));
    command.arg("report").arg(path).args(flags);
    command.stdout(Stdio::null());
    command
}

/// The most memory that was resident, in KiB, as far as looking often tells.
fn most_resident(path: &Path) -> u64 {
    let mut child = report(path, &[]).spawn().expect("tracker");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().expect("a child").is_none() {
        let told = fs::read_to_string(&status).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        most = most.max(kib.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(1));
    }
    most
}

fn a_day_of_rounds(c: &mut Criterion) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("day.rec");
    a_day(&path);
    let bytes = fs::metadata(&path).map(|meta| meta.len()).unwrap_or(0);
    println!(
        "report: {bytes} bytes, {} KiB resident",
        most_resident(&path)
    );
    let mut group = c.benchmark_group("report");
    group.sample_size(10);
    let picture = directory.path().join("heat.svg");
    let picture = picture.to_string_lossy().into_owned();
    for (name, flags) in [
        ("a day", &[][..]),
        ("a day and its picture", &["--force", "--heatmap", &picture]),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| assert!(report(&path, flags).status().is_ok_and(|s| s.success())));
        });
    }
    group.finish();
}

criterion_group!(benches, a_day_of_rounds);
criterion_main!(benches);
