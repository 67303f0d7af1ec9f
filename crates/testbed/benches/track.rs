//! What tracking costs on this machine: a round compared with its bare system calls, memory, and
//! how much it slows a process down.
//!
//! `cargo xtask bench track` prints tables in Markdown. Times are those of a machine that does
//! other things too; ratios are of interleaved measurements in one run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark has nobody to recover for"
)]

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pages::inject;
use pages::strategy::{StrategyMeans, StrategyName, UffdScope, verdict};
use pages::track::{TrackOptions, TrackSession, TrackStep};
use uffd::{PAGE_SIZE, PageRegion, Pagemap, PagemapEntry, ScanQuery};

use testbed::script::{ANON, FACTS, ScriptProcess};
use testbed::{KilledChild, eventually, program};

const GIB: u64 = 1 << 30;
/// Pages of the memory on which rounds are measured.
const PAGES: u64 = 4 * GIB / PAGE_SIZE;
/// Measurements of each kind.
const TIMES: usize = 15;
/// Pages of the memory on which a slowed process works.
const WORK_PAGES: u64 = 256 * 1024 * 1024 / PAGE_SIZE;
/// The room that a program in C would take for the result of a scan of 4 GiB.
const REGIONS: usize = 1 << 16;

fn main() {
    // `cargo test` starts benchmarks too, to see that they work; this one has no quick mode.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    println!("Kernel {release}, `cargo xtask bench track`\n");
    print!("{}", rounds());
    print!("{}", memory());
    print!("{}", slowdown());
}

fn options(strategy: Option<StrategyName>) -> TrackOptions {
    TrackOptions {
        strategy,
        detailed: false,
        max_mapping: pages::track::MAX_MAPPING,
        interval: Duration::from_secs(1),
        tracker: "bench",
        inject: inject::InjectOptions {
            helper: program("tracker").into(),
            ..inject::InjectOptions::default()
        },
    }
}

fn step(session: &mut TrackSession) {
    assert!(
        matches!(session.step(), Ok(TrackStep::Round(_))),
        "the target has ended"
    );
}

/// Milliseconds of tracker's rounds, of bare scans, and of reading pagemap.
#[derive(Default)]
struct RoundTimes {
    ours: Vec<f64>,
    bare: Vec<f64>,
    read: Vec<f64>,
}

/// Reports and arms all that is written, by PAGEMAP_SCAN alone.
fn scan(pagemap: &Pagemap, range: &Range<u64>, regions: &mut [PageRegion]) {
    let mut at = range.start;
    while at < range.end {
        let scan = pagemap.scan_once(&(at..range.end), &ScanQuery::WRITTEN_AND_ARM, regions);
        at = scan.unwrap().walk_end;
    }
}

/// Counts the written pages by reading pagemap, and arms nothing.
fn read_pagemap(pagemap: &Pagemap, range: &Range<u64>, entries: &mut [PagemapEntry]) {
    let (mut at, mut written) = (range.start, 0);
    while at < range.end {
        let count = pagemap.read(&(at..range.end), entries).unwrap();
        let not_armed = entries[..count].iter().filter(|entry| !entry.armed());
        written += not_armed.count();
        at += count as u64 * PAGE_SIZE;
    }
    std::hint::black_box(written);
}

/// A round over 4 GiB: clean, 1% written, all written.
fn rounds() -> String {
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(ANON, PAGES);
    script.say(&format!("store {number} 1 2 0-{}", PAGES - 1));
    let (mut session, _) = TrackSession::begin(script.pid(), FACTS.clone(), options(None)).unwrap();
    let pagemap = Pagemap::open(script.pid()).unwrap();
    let mut regions = vec![PageRegion::default(); REGIONS];
    let mut entries = vec![PagemapEntry::default(); 1 << 16];
    let mut text = format!(
        "A round over {} GiB that are there ({}; median of {TIMES}, ms):\n\n\
         | written | tracker | bare PAGEMAP_SCAN | ratio | reading pagemap | times faster |\n\
         |---|---:|---:|---:|---:|---:|\n",
        PAGES * PAGE_SIZE / GIB,
        session.header().strategy
    );
    let hundredth: Vec<_> = (0..PAGES)
        .step_by(100)
        .map(|page| page.to_string())
        .collect();
    let cases = [
        ("nothing", None),
        ("1%, scattered", Some(hundredth.join(","))),
        ("everything", Some(format!("0-{}", PAGES - 1))),
    ];
    for (name, pages) in cases {
        let mut times = RoundTimes::default();
        for _ in 0..TIMES {
            let mut write = || {
                if let Some(pages) = &pages {
                    assert_eq!(script.say(&format!("store {number} 2 2 {pages}")), "ok");
                }
            };
            write();
            times.ours.push(milliseconds(|| step(&mut session)));
            write();
            let scan = || scan(&pagemap, &area.range, &mut regions);
            times.bare.push(milliseconds(scan));
            write();
            let read = || read_pagemap(&pagemap, &area.range, &mut entries);
            times.read.push(milliseconds(read));
            // This arms again what was only read.
            step(&mut session);
        }
        let ratios = times.ours.iter().zip(&times.bare);
        let ratio = median(ratios.map(|(ours, bare)| ours / bare).collect());
        let [ours, bare, read] = [times.ours, times.bare, times.read].map(median);
        let _ = writeln!(
            text,
            "| {name} | {ours:.2} | {bare:.2} | {ratio:.2} | {read:.1} | {:.0} |",
            read / ours
        );
    }
    session.end().unwrap();
    text + "\n"
}

/// The memory that tracker takes, and that it makes the process take, for 64 GiB of mappings.
fn memory() -> String {
    let mut text = "64 GiB of mappings of which nothing is there, tracked for 5 rounds:\n\n\
                    | strategy | memory of tracker | page tables of the process |\n\
                    |---|---:|---:|\n"
        .to_owned();
    for strategy in [StrategyName::Markers, StrategyName::NoneIsClean] {
        if !works(strategy) {
            continue;
        }
        let mut script = ScriptProcess::start();
        for _ in 0..4 {
            script.map(ANON, 16 * GIB / PAGE_SIZE);
        }
        let mut command = Command::new(program("tracker"));
        let pid = script.pid().to_string();
        command.args(["track", "--json", "--interval", "100ms", "--pid", &pid]);
        command.args(["--strategy", strategy.as_str()]);
        let out = tempfile::NamedTempFile::new().unwrap();
        command.stdout(Stdio::from(out.reopen().unwrap()));
        let tracker = KilledChild(command.spawn().unwrap());
        eventually("five rounds", || {
            let text = fs::read_to_string(out.path()).unwrap();
            (text.matches("\"type\":\"round\"").count() > 5).then_some(())
        });
        let of = |pid: u32, key| status(pid, key) as f64 / 1024.0;
        let _ = writeln!(
            text,
            "| {strategy} | {:.1} MiB | {:.1} MiB |",
            of(tracker.0.id(), "VmHWM"),
            of(script.pid(), "VmPTE"),
        );
    }
    text + "\n"
}

/// The same work, tracked by each strategy and not at all.
fn slowdown() -> String {
    let mut text = format!(
        "Work of two threads on {} MiB, half stores, half loads, each page 8 times in turns, \
         a round each 100 ms; time against that of the same work untracked (median of 5):\n\n\
         | strategy | times as long |\n|---|---:|\n",
        (WORK_PAGES * PAGE_SIZE) >> 20
    );
    for strategy in StrategyName::ALL.into_iter().filter(|&name| works(name)) {
        let mut ratios = Vec::new();
        for turn in 0..5 {
            let mut script = ScriptProcess::start();
            let (number, _) = script.map(ANON, WORK_PAGES);
            let work = format!("churn {number} {turn} 2 8");
            script.say(&work);
            let bare = milliseconds(|| drop(script.say(&work)));
            let (mut session, _) =
                TrackSession::begin(script.pid(), FACTS.clone(), options(Some(strategy))).unwrap();
            let done = AtomicBool::new(false);
            let tracked = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(100));
                        step(&mut session);
                    }
                });
                let tracked = milliseconds(|| drop(script.say(&work)));
                done.store(true, Ordering::Relaxed);
                tracked
            });
            ratios.push(tracked / bare);
        }
        let _ = writeln!(text, "| {strategy} | {:.2} |", median(ratios));
    }
    text
}

fn works(strategy: StrategyName) -> bool {
    let means = StrategyMeans {
        in_process: false,
        descriptor: UffdScope::Full,
    };
    verdict(strategy, &FACTS, means).works
}

/// A number of `/proc/PID/status`, in KiB.
fn status(pid: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = value.and_then(|value| value.trim().strip_suffix(" kB"));
    number.unwrap().parse().unwrap()
}

fn milliseconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
