//! `tracker report`, as people and scripts use it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use assert_cmd::Command;
use pages::track::{
    MappingRound, PageExtent, SessionEvent, TrackEnd, TrackHeader, TrackNote, TrackRound,
    TrackSummary, TrackedMapping, TrackedPages, UntrackedPages,
};
use tempfile::TempDir;
use tracker::track::recording::RecordingWriter;
use uffd::Backing;

const PAGE: u64 = 4096;

fn header() -> TrackHeader {
    TrackHeader {
        pid: 77,
        comm: "db".into(),
        command: vec!["db".into(), "--fast".into()],
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

/// Round n writes page n of 64.
fn round(number: u64) -> TrackRound {
    let start = 0x10_0000;
    let mapping = TrackedMapping {
        start,
        end: start + 64 * PAGE,
        name: "[heap]".into(),
        backing: Backing::Anon,
        page_size: PAGE,
        shared: None,
    };
    let page = start + number * PAGE;
    let written = vec![PageExtent {
        range: page..page + PAGE,
        unit: PAGE,
        unknown: false,
    }];
    let pages = TrackedPages {
        tracked: 64,
        armed: 1,
        written: 1,
        ..TrackedPages::default()
    };
    TrackRound {
        number,
        at: Duration::from_secs(number),
        lasted: Duration::from_secs(1),
        took: Duration::from_millis(1),
        mappings: vec![MappingRound {
            mapping: Arc::new(mapping),
            pages,
            written,
        }],
        children: Vec::new(),
        not_looked_at: UntrackedPages::default(),
        events: vec![],
        mapping_count: None,
    }
}

/// A recording of five rounds, and its bytes.
fn recording(directory: &TempDir) -> (PathBuf, Vec<u8>) {
    let mut writer = RecordingWriter::new(Vec::new(), &header()).unwrap();
    (1..=5).for_each(|n| writer.round(&round(n)).unwrap());
    let bytes = writer.finish(&summary()).unwrap();
    let path = directory.path().join("db.rec");
    fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

fn summary() -> TrackSummary {
    TrackSummary {
        not_looked_at: UntrackedPages::default(),
        rounds: 5,
        lasted: Duration::from_secs(5),
        written_set: 5,
        written: 5,
        unknown_set: 0,
        tracked: 64,
        shared: 0,
        took: Duration::from_millis(5),
        end: TrackEnd::Exited,
        status: Some(3),
        huge_pages: None,
    }
}

/// Status, standard output, standard error.
fn report(file: &Path, flags: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("tracker")
        .unwrap()
        .arg("report")
        .arg(file)
        .args(flags)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn tables_and_a_map_are_printed() {
    let directory = TempDir::new().unwrap();
    let (path, bytes) = recording(&directory);
    let (status, text, errors) = report(&path, &[]);
    assert_eq!((status, errors.as_str()), (0, ""));
    for told in [
        "db (pid 77)  db --fast",
        "5 pages (20 KiB)",
        "exited, with status 3",
        "[heap]",
        "'0 s",
    ] {
        assert!(text.contains(told), "{told} in {text}");
    }
    assert!(text.is_ascii(), "into a pipe goes plain text: {text}");
    let piped = Command::cargo_bin("tracker")
        .unwrap()
        .args(["report", "-"])
        .write_stdin(bytes)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(piped.stdout).unwrap(), text);
}

#[test]
fn json_is_a_header_rounds_and_a_summary() {
    let directory = TempDir::new().unwrap();
    let (path, _) = recording(&directory);
    let (status, text, _) = report(&path, &["--json"]);
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let types: Vec<_> = lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        (status, types),
        (
            0,
            vec![
                "header", "round", "round", "round", "round", "round", "summary"
            ]
        )
    );
    assert_eq!(lines[2]["mappings"][0]["written"][0]["start"], "0x102000");
    // The same beside a picture.
    let picture = directory.path().join("heat.svg");
    let (status, again, _) = report(&path, &["--json", "--heatmap", picture.to_str().unwrap()]);
    assert_eq!((status, again), (0, text));
    assert!(picture.exists());
    // Nothing is replaced unless that is asked for.
    let map = ["--heatmap", picture.to_str().unwrap()];
    let (status, text, errors) = report(&path, &map);
    assert_eq!((status, text.as_str()), (1, ""));
    assert!(errors.contains("exists; --force replaces it"), "{errors}");
    assert_eq!(report(&path, &[map[0], map[1], "--force"]).0, 0);
}

#[test]
fn pictures_are_whole_files() {
    let directory = TempDir::new().unwrap();
    let (path, _) = recording(&directory);
    for (name, magic) in [("heat.svg", &b"<svg "[..]), ("heat.PNG", b"\x89PNG")] {
        let picture = directory.path().join(name);
        let (status, text, _) = report(&path, &["--heatmap", picture.to_str().unwrap()]);
        assert_eq!(status, 0);
        assert!(text.contains(name), "{text}");
        assert!(fs::read(&picture).unwrap().starts_with(magic));
    }
    let left = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 3, "a recording and two pictures");
}

#[test]
fn a_wrong_picture_is_wrong_usage_before_anything_else() {
    let (status, text, errors) = report(Path::new("/nowhere"), &["--heatmap", "heat.jpg"]);
    assert_eq!((status, text.as_str()), (2, ""));
    assert!(errors.contains("must end in .svg or .png"), "{errors}");
}

#[test]
fn what_cannot_be_read_is_told() {
    let directory = TempDir::new().unwrap();
    let (status, _, errors) = report(&directory.path().join("none"), &[]);
    assert_eq!(status, 1);
    assert!(
        errors.contains("cannot open") && errors.contains("none"),
        "{errors}"
    );
    let foreign = directory.path().join("notes.txt");
    fs::write(&foreign, "dear diary").unwrap();
    let (status, _, errors) = report(&foreign, &[]);
    assert_eq!(status, 1);
    assert!(
        errors.contains("notes.txt: this is not a recording of tracker"),
        "{errors}"
    );
}

#[test]
fn what_was_cut_off_is_shown_up_to_there() {
    let directory = TempDir::new().unwrap();
    let (path, bytes) = recording(&directory);
    // In the middle of round 5: behind it is the summary, of less than 60 bytes.
    fs::write(&path, &bytes[..bytes.len() - 60]).unwrap();
    let (status, text, _) = report(&path, &[]);
    assert_eq!(status, 0);
    assert!(
        text.contains("the recording ends in the middle of round 5: it was cut off"),
        "{text}"
    );
    let (status, text, errors) = report(&path, &["--json"]);
    assert_eq!((status, text.lines().count()), (0, 5));
    assert!(errors.contains("in the middle of round 5"), "{errors}");
}

#[test]
fn what_is_damaged_is_shown_up_to_there_and_fails() {
    let directory = TempDir::new().unwrap();
    let (path, mut bytes) = recording(&directory);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for flags in [&[][..], &["--json"]] {
        let (status, text, errors) = report(&path, flags);
        assert_eq!(status, 1);
        assert!(text.contains("[heap]"), "{text}");
        assert!(
            errors.contains("db.rec: the recording is damaged at byte"),
            "{errors}"
        );
    }
}

/// A file of little that becomes much.
struct Bomb {
    header: TrackHeader,
    rounds: Vec<TrackRound>,
}

impl Bomb {
    fn of(rounds: Vec<TrackRound>) -> Self {
        Self {
            header: header(),
            rounds,
        }
    }

    fn write(&self, directory: &TempDir) -> PathBuf {
        let mut writer = RecordingWriter::new(Vec::new(), &self.header).unwrap();
        self.rounds.iter().for_each(|r| writer.round(r).unwrap());
        let path = directory.path().join("bomb.rec");
        fs::write(&path, writer.finish(&summary()).unwrap()).unwrap();
        path
    }
}

/// One mapping of these pages, and every second of them written.
fn scattered(number: u64, first: u64, pages: u64) -> TrackRound {
    let mut round = round(number);
    let (start, page) = (first * PAGE, |n| n * PAGE..(n + 1) * PAGE);
    let told = &mut round.mappings[0];
    let mapping = TrackedMapping {
        start,
        end: start + pages * PAGE,
        ..(*told.mapping).clone()
    };
    told.mapping = Arc::new(mapping);
    told.written = (first..first + pages)
        .step_by(2)
        .map(|n| PageExtent {
            range: page(n),
            unit: PAGE,
            unknown: false,
        })
        .collect();
    round
}

/// So many mappings with names of so many bytes.
fn crowded(number: u64, mappings: u64, name: usize) -> TrackRound {
    let plain = round(number);
    let told = |i: u64| {
        let mut told = plain.mappings[0].clone();
        let mapping = TrackedMapping {
            start: i * 2 * PAGE,
            end: (i * 2 + 1) * PAGE,
            name: "n".repeat(name),
            ..(*told.mapping).clone()
        };
        told.mapping = Arc::new(mapping);
        told.written.clear();
        told
    };
    TrackRound {
        mappings: (1..=mappings).map(told).collect(),
        ..plain.clone()
    }
}

fn bombs() -> Vec<(&'static str, Bomb)> {
    let noisy = TrackRound {
        events: vec![SessionEvent::Recorded(String::new()); 400_000],
        ..round(1)
    };
    let talkative = TrackHeader {
        notes: vec![TrackNote::Recorded(String::new()); 400_000],
        ..header()
    };
    let full = TrackRound {
        mappings: vec![round(1).mappings[0].clone(); 150_000],
        ..round(1)
    };
    let rounds = |of: fn(u64) -> TrackRound, count| (1..=count).map(of).collect();
    let pages = rounds(|n| scattered(n, n << 20, 100_000), 8);
    let names = rounds(|n| crowded(n, 3 * n, 1 << 20), 8);
    vec![
        (
            "extents of a round",
            Bomb::of(vec![scattered(1, 1, 1_000_000)]),
        ),
        ("pages of all rounds", Bomb::of(pages)),
        ("mappings of a round", Bomb::of(vec![full])),
        ("names of all rounds", Bomb::of(names)),
        ("events", Bomb::of(vec![noisy])),
        (
            "notes",
            Bomb {
                header: talkative,
                rounds: vec![round(1)],
            },
        ),
    ]
}

/// Memory is bounded by what the file holds: each of these has a clear error, where the system has
/// no more than the budget and what the program takes to begin.
#[test]
fn little_does_not_become_much() {
    let directory = TempDir::new().unwrap();
    for (what, bomb) in bombs() {
        let path = bomb.write(&directory);
        let size = fs::metadata(&path).unwrap().len();
        assert!(size < 20_000, "{what}: {size}");
        let output = Command::new("sh")
            .args([
                "-c",
                "ulimit -v 120000; exec \"$0\" report \"$1\" --max-memory 16MiB",
            ])
            .arg(assert_cmd::cargo::cargo_bin("tracker"))
            .arg(&path)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{what}: {errors}");
        assert!(errors.contains("more than 16 MiB"), "{what}: {errors}");
        assert!(errors.contains("--max-memory allows more"), "{errors}");
    }
}

/// What does not change takes no memory for each round.
#[test]
fn many_rounds_of_the_same_mappings_take_little() {
    let directory = TempDir::new().unwrap();
    let rounds = (1..=3000).map(|n| TrackRound {
        number: n,
        ..crowded(1, 300, 20)
    });
    let path = Bomb::of(rounds.collect()).write(&directory);
    let (status, text, errors) = report(&path, &["--max-memory", "1MiB"]);
    assert_eq!((status, errors.as_str()), (0, ""));
    assert!(text.contains("3,000, one every"), "{text}");
}
