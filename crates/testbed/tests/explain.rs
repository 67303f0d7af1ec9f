//! What is reported of a process that does as it is told, and whether that is true: verdicts, by
//! content alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use object::Object as _;
use pages::strategy::{StrategyName, TrackedArea};
use serde_json::Value;
use testbed::eventually;
use testbed::script::{ANON, FACTS, MEMFD, SHMEM, ScriptMemory, ScriptProcess};
use testbed::session::registered;
use tracker::explain::{
    CodeNamer, EventHub, ExplainFindings, ExplainOptions, ExplainStep, ExplainedRound, Explainer,
    ReportCause, ReportVerdict, SecondOnly, StackFrame, UnknownReason,
};
use tracker::probes::events::{self, EventProbes};
use uffd::PAGE_SIZE;

fn options(content_limit: u64) -> ExplainOptions {
    ExplainOptions {
        track: pages::track::TrackOptions {
            strategy: None,
            ..testbed::session::options(StrategyName::Markers)
        },
        content_limit,
        page: None,
        against: None,
        freeze: false,
        findings: Some(CodeNamer::Program(testbed::program("tracker").into())),
    }
}

fn begin(script: &ScriptProcess) -> Explainer {
    let (explainer, _) =
        Explainer::begin(script.pid(), FACTS.clone(), None, options(1 << 30)).unwrap();
    explainer
}

fn step(explainer: &mut Explainer) -> ExplainedRound {
    match explainer.step().unwrap() {
        ExplainStep::Round(round) => *round,
        ExplainStep::Exited => panic!("the process has ended"),
    }
}

/// Numbers of pages, by the verdict on them.
type AreaVerdicts = BTreeMap<(ReportVerdict, Option<UnknownReason>), Vec<u64>>;

/// The verdicts on an area, with the numbers of its pages.
fn verdicts(round: &ExplainedRound, area: &TrackedArea) -> AreaVerdicts {
    let mut found = AreaVerdicts::new();
    let reported = round.reported.iter().flat_map(|(_, pages)| pages);
    for pages in reported.filter(|pages| area.range.contains(&pages.range.start)) {
        let key = (pages.why.verdict, pages.verdict_unknown);
        let numbers = pages.range.clone().step_by(PAGE_SIZE as usize);
        let numbers = numbers.map(|page| (page - area.range.start) / PAGE_SIZE);
        found.entry(key).or_default().extend(numbers);
    }
    found
}

/// The pages of an area that changed and were not reported.
fn missed(round: &ExplainedRound, area: &TrackedArea) -> Vec<(u64, bool)> {
    let missed = round.missed.iter().flat_map(|(_, pages)| pages);
    let here = missed.filter(|pages| area.range.contains(&pages.range.start));
    here.flat_map(|pages| {
        let numbers = pages.range.clone().step_by(PAGE_SIZE as usize);
        numbers.map(|page| ((page - area.range.start) / PAGE_SIZE, pages.zeroed))
    })
    .collect()
}

fn expect<const N: usize>(
    found: &AreaVerdicts,
    expected: [(ReportVerdict, Option<UnknownReason>, &[u64]); N],
) {
    let expected: AreaVerdicts = expected
        .into_iter()
        .map(|(verdict, reason, pages)| ((verdict, reason), pages.to_vec()))
        .collect();
    assert_eq!(*found, expected);
}

#[test]
fn another_value_the_same_value_and_zero() {
    for kind in [ANON, MEMFD, SHMEM] {
        let mut script = ScriptProcess::start();
        let (area, range) = script.map(kind, 64);
        script.tell(&format!("store {area} 7 1 0-31"));
        let mut explainer = begin(&script);
        expect(&verdicts(&step(&mut explainer), &range), []);
        script.tell(&format!("store {area} 7 2 0-3"));
        script.tell(&format!("store {area} 8 1 10-11"));
        script.tell(&format!("store {area} 0 1 20"));
        script.tell(&format!("load {area} 24-40"));
        expect(
            &verdicts(&step(&mut explainer), &range),
            [
                (ReportVerdict::Unchanged, None, &[0, 1, 2, 3]),
                (ReportVerdict::Changed, None, &[10, 11]),
                (ReportVerdict::Zeroed, None, &[20]),
            ],
        );
        // Compared with what they were in the last round.
        script.tell(&format!("store {area} 7 1 10-11,20"));
        expect(
            &verdicts(&step(&mut explainer), &range),
            [(ReportVerdict::Changed, None, &[10, 11, 20])],
        );
        expect(&verdicts(&step(&mut explainer), &range), []);
        let findings = explainer.end().unwrap();
        assert!(findings.missed.is_empty(), "{:x?}", findings.missed);
        adds_up(&findings);
    }
}

/// The lines of a source file that a function is on.
fn lines_of(source: &str, function: &str) -> Range<u32> {
    let lines = source.lines().zip(1..);
    let (_, first) = lines
        .clone()
        .find(|(line, _)| line.contains(function))
        .unwrap();
    let end = |(line, number): &(&str, u32)| *number > first && *line == "    }";
    first..lines.clone().find(end).unwrap().1
}

/// Whether the program says to which lines its instructions belong; programs of guests are stripped
/// of that.
fn has_lines(script: &ScriptProcess) -> bool {
    let program = std::fs::read(format!("/proc/{}/exe", script.pid())).unwrap();
    let program = object::File::parse(&*program).unwrap();
    program.section_by_name(".debug_line").is_some()
}

/// Whether a frame is in the function that stores, with its line if the program has lines.
fn in_store(frame: &StackFrame, has_lines: bool) -> bool {
    let source = include_str!("../src/bin/uffdwp-workload/area.rs");
    let lines = lines_of(source, "pub fn store(");
    let right_line = match &frame.line {
        Some((file, line)) => file.ends_with("uffdwp-workload/area.rs") && lines.contains(line),
        None => !has_lines,
    };
    right_line && frame.function.ends_with("store")
}

#[test]
fn a_store_has_a_thread_and_a_line_and_a_read_its_system_call() {
    let hub = EventHub::new(
        EventProbes::attach(&events::EventOptions::default()),
        1 << 16,
    )
    .unwrap();
    let mut script = ScriptProcess::start();
    let (area, range) = script.map(ANON, 16);
    script.tell(&format!("store {area} 7 1 0-15"));
    let lines = has_lines(&script);
    let options = options(1 << 30);
    let (mut explainer, _) =
        Explainer::begin(script.pid(), FACTS.clone(), Some(&hub), options).unwrap();
    step(&mut explainer);
    script.tell(&format!("store {area} 8 2 0-3"));
    script.tell(&format!("read {area} 9 8-9"));
    let round = step(&mut explainer);
    let findings = explainer.end().unwrap();
    let reported = round.reported.iter().flat_map(|(_, pages)| pages);
    let of_area = reported.filter(|pages| range.range.contains(&pages.range.start));
    let (mut threads, mut pages) = (BTreeSet::new(), [0, 0]);
    for answer in of_area {
        let Some((thread, name)) = &answer.thread else {
            eprintln!("skipped: {}", findings.seen.told().join("; "));
            assert_eq!(answer.why.cause, ReportCause::Unknown);
            return;
        };
        assert!("uffdwp-workload".starts_with(&**name), "{name}");
        let place = &findings.stacks[&answer.place.unwrap()];
        match answer.why.cause {
            ReportCause::UserStore => {
                pages[0] += answer.pages();
                threads.insert(*thread);
                let found = place.user.iter().find(|frame| in_store(frame, lines));
                let found = found.unwrap_or_else(|| panic!("{:#?}", place.user));
                assert!(found.module.contains("uffdwp-workload+0x"), "{found:?}");
                assert_eq!(place.syscall, None);
            }
            ReportCause::KernelCopy => {
                pages[1] += answer.pages();
                assert_eq!(*thread, script.pid());
                assert_eq!(place.syscall.as_deref(), Some("read"));
            }
            other => panic!("{other}: {place:#?}"),
        }
    }
    assert_eq!((pages, threads.len()), ([4, 2], 2));
    assert!(!threads.contains(&script.pid()), "{threads:?}");
}

/// What was not there is zero if it is anonymous, and otherwise what the file has.
#[test]
fn the_first_write_and_emptied_pages() {
    let first = |kind: ScriptMemory| {
        let mut script = ScriptProcess::start();
        let (area, range) = script.map(kind, 32);
        script.tell(&format!("store {area} 7 1 0-7"));
        let mut explainer = begin(&script);
        script.tell(&format!("store {area} 7 1 16-17"));
        script.tell(&format!("zap {area} 0-1"));
        let found = verdicts(&step(&mut explainer), &range);
        explainer.end().unwrap();
        found
    };
    expect(
        &first(ANON),
        [
            (ReportVerdict::Changed, None, &[16, 17]),
            (ReportVerdict::Zeroed, None, &[0, 1]),
        ],
    );
    // The file still has what was emptied, which stays armed.
    expect(
        &first(MEMFD),
        [(
            ReportVerdict::Unknown,
            Some(UnknownReason::NotMapped),
            &[16, 17],
        )],
    );
}

#[test]
fn a_mapping_of_its_own_time() {
    let mut script = ScriptProcess::start();
    let (area, old) = script.map(ANON, 16);
    script.tell(&format!("store {area} 7 1 0-15"));
    let mut explainer = begin(&script);
    script.tell(&format!("remap {area} 0-15"));
    script.tell(&format!("store {area} 7 1 3"));
    // Nobody saw whether that one was written: it was there when it was armed, but something else
    // was there before.
    expect(
        &verdicts(&step(&mut explainer), &old),
        [(
            ReportVerdict::Unknown,
            Some(UnknownReason::NoImageBefore),
            &[3],
        )],
    );
    script.tell(&format!("store {area} 7 1 3-4"));
    expect(
        &verdicts(&step(&mut explainer), &old),
        [
            (ReportVerdict::Changed, None, &[4]),
            (ReportVerdict::Unchanged, None, &[3]),
        ],
    );
    explainer.end().unwrap();
}

/// Writes to pages of the file behind a mapping.
fn write_behind(script: &ScriptProcess, area: &TrackedArea, pages: Range<u64>) {
    let Range { start, end } = area.range;
    let path = format!("/proc/{}/map_files/{start:x}-{end:x}", script.pid());
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let bytes = vec![9; ((pages.end - pages.start) * PAGE_SIZE) as usize];
    file.write_all_at(&bytes, pages.start * PAGE_SIZE).unwrap();
}

/// A write to the file behind the mapping, which no page table shows.
#[test]
fn what_changes_behind_the_page_tables_is_missed_and_told() {
    let mut script = ScriptProcess::start();
    let (area, range) = script.map(MEMFD, 16);
    script.tell(&format!("store {area} 7 1 0-15"));
    let mut explainer = begin(&script);
    write_behind(&script, &range, 4..6);
    let round = step(&mut explainer);
    expect(&verdicts(&round, &range), []);
    assert_eq!(missed(&round, &range), [(4, false), (5, false)]);
    assert!(round.verified >= 16);
    let round = step(&mut explainer);
    assert_eq!(missed(&round, &range), []);
    explainer.end().unwrap();
}

/// What is reported of one mapping of shared memory is missed in no other.
#[test]
fn memory_that_is_mapped_twice_is_one() {
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(MEMFD, 16);
    let (second, alias) = script.alias(MEMFD, number);
    for number in [number, second] {
        script.tell(&format!("store {number} 1 1 0-15"));
    }
    let mut explainer = begin(&script);
    step(&mut explainer);
    let both = |round: &ExplainedRound| [missed(round, &area), missed(round, &alias)].concat();
    script.tell(&format!("store {number} 2 1 3-5"));
    let round = step(&mut explainer);
    let changed = (ReportVerdict::Changed, None, &[3, 4, 5][..]);
    expect(&verdicts(&round, &area), [changed]);
    assert_eq!(both(&round), []);
    // Written through the file: no mapping tells of it, neither in this round nor in the next.
    write_behind(&script, &area, 7..8);
    assert_eq!(both(&step(&mut explainer)), []);
    assert_eq!(both(&step(&mut explainer)), [(7, false)]);
    assert_eq!(both(&step(&mut explainer)), []);
    let findings = explainer.end().unwrap();
    assert_eq!(findings.missed.len(), 1);
}

/// Memory that is written and unmapped again and again while rounds are read: nothing of it is
/// missed.
#[test]
fn what_is_unmapped_while_a_round_is_read_is_not_missed() {
    const PAGES: u64 = 8192;
    let mut script = ScriptProcess::start();
    // Reading it takes a while.
    let (number, area) = script.map(ANON, PAGES);
    script.tell(&format!("store {number} 1 1 0-{}", PAGES - 1));
    let mut explainer = begin(&script);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..400 {
                let place = area.range.end + (turn % 8 + 1) * 4 * PAGE_SIZE;
                let (number, _) = script.map_at(ANON, place, 1);
                script.tell(&format!("store {number} {turn} 1 0"));
                std::thread::sleep(Duration::from_millis(1));
                script.tell(&format!("unmap {number} 0"));
            }
            over.store(true, Ordering::Relaxed);
        });
        while !over.load(Ordering::Relaxed) {
            let round = step(&mut explainer);
            assert_eq!(round.missed, [], "round {}", round.round.number);
        }
    });
    assert_eq!(explainer.end().unwrap().missed, []);
}

#[test]
fn of_a_large_process_a_sample() {
    let mut script = ScriptProcess::start();
    let (area, range) = script.map(ANON, 4096);
    script.tell(&format!("store {area} 7 1 0-4095"));
    let limit = 4 << 20;
    let (mut explainer, _) =
        Explainer::begin(script.pid(), FACTS.clone(), None, options(limit)).unwrap();
    let one_of = explainer.findings().sampling.one_of;
    assert!((4..=8).contains(&one_of), "{one_of}");
    script.tell(&format!("store {area} 7 1 0-2047"));
    script.tell(&format!("store {area} 8 1 2048-4095"));
    let found = verdicts(&step(&mut explainer), &range);
    let count = |verdict, reason| found.get(&(verdict, reason)).map_or(0, Vec::len) as u64;
    let (unchanged, changed) = (
        count(ReportVerdict::Unchanged, None),
        count(ReportVerdict::Changed, None),
    );
    let left = count(ReportVerdict::Unknown, Some(UnknownReason::NotSampled));
    assert_eq!(unchanged + changed + left, 4096);
    for sampled in [unchanged, changed] {
        // The chance to be further off is below 1e-9.
        let expected = 2048 / one_of;
        assert!(sampled.abs_diff(expected) < expected / 2, "{found:x?}");
    }
    explainer.end().unwrap();
}

/// The process wants its memory for its own userfaultfd: for a while nothing is armed.
#[test]
fn what_was_given_back_for_a_while_says_so() {
    let mut script = ScriptProcess::start();
    let (area, range) = script.map(ANON, 16);
    script.tell(&format!("store {area} 7 1 0-15"));
    let mut explainer = begin(&script);
    let number = script.say("uffd");
    // Not every round looks for it where that takes long.
    eventually("all is given back", || {
        step(&mut explainer);
        registered(script.pid()).eq(&0).then_some(())
    });
    script.tell(&format!("close {number}"));
    let round = eventually("it is armed again", || {
        Some(step(&mut explainer)).filter(|_| registered(script.pid()) != 0)
    });
    let of_it = round.reported.iter().flat_map(|(_, pages)| pages);
    let of_it: Vec<_> = of_it
        .filter(|pages| range.range.contains(&pages.range.start))
        .collect();
    assert_eq!(of_it.iter().map(|pages| pages.pages()).sum::<u64>(), 16);
    assert!(
        of_it
            .iter()
            .all(|pages| pages.why.cause == ReportCause::Unregister),
        "{of_it:x?}"
    );
    expect(&verdicts(&step(&mut explainer), &range), []);
    explainer.end().unwrap();
}

/// Compared with the soft-dirty bits of the page tables.
#[test]
fn against_soft_dirty() {
    let mut script = ScriptProcess::start();
    let (area, _) = script.map(ANON, 64);
    script.tell(&format!("store {area} 7 1 0-63"));
    let options = ExplainOptions {
        against: Some(StrategyName::SoftDirty),
        ..options(1 << 30)
    };
    let begun = Explainer::begin(script.pid(), FACTS.clone(), None, options);
    let (mut explainer, _) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let why = error.to_string();
            assert!(why.contains("soft-dirty"), "{why}");
            return eprintln!("skipped: {why}");
        }
    };
    script.tell(&format!("store {area} 7 1 0-9"));
    step(&mut explainer);
    let (new, _) = script.map(ANON, 32);
    script.tell(&format!("load {new} 0-31"));
    step(&mut explainer);
    step(&mut explainer);
    let against = explainer.end().unwrap().against.unwrap();
    assert!(against.both >= 10, "{against:?}");
    // All of a new mapping is soft-dirty.
    assert!(
        against.only_there[&SecondOnly::NewMapping] >= 32,
        "{against:?}"
    );
    assert_eq!(
        against.only_there.get(&SecondOnly::Changed),
        None,
        "{against:?}"
    );
}

/// With --freeze, threads that write all the time leave nothing unknown.
#[test]
fn frozen_even_hot_pages_have_a_verdict() {
    let mut script = ScriptProcess::start();
    let (area, range) = script.map(ANON, 256);
    script.tell(&format!("store {area} 7 1 0-255"));
    let options = ExplainOptions {
        freeze: true,
        ..options(1 << 30)
    };
    let (mut explainer, _) = Explainer::begin(script.pid(), FACTS.clone(), None, options).unwrap();
    const ENOUGH: usize = 20;
    // On a busy machine stopping may take too long, and the process runs on: such a round and the
    // next prove nothing.
    let (mut stood, mut proven, mut unknown) = (false, 0, 0);
    script.say_while(&format!("churn {area} 5 4 20000"), || {
        // It only runs between two rounds, so it comes to an end when there are no more.
        std::thread::sleep(Duration::from_millis(20));
        if proven >= ENOUGH {
            return;
        }
        let round = step(&mut explainer);
        let stands = round.stood_still.is_some();
        if stands && stood {
            proven += 1;
            let found = verdicts(&round, &range);
            let of = found
                .iter()
                .filter(|((verdict, _), _)| *verdict == ReportVerdict::Unknown);
            unknown += of.map(|(_, pages)| pages.len()).sum::<usize>();
        }
        stood = stands;
    });
    if proven == 0 {
        return eprintln!("skipped: the process was never stopped in time");
    }
    let findings = explainer.end().unwrap();
    assert_eq!(unknown, 0);
    let (whole, longest) = (findings.frozen.whole, findings.frozen.longest);
    assert!(longest > Duration::ZERO && whole >= longest);
    // The process continues.
    script.tell(&format!("store {area} 9 4 0-255"));
    assert!(script.words(&range).iter().all(|word| *word == 9));
}

/// By content: what is reported but unchanged, and what is missed.
#[test]
fn against_content() {
    let mut script = ScriptProcess::start();
    let (area, range) = script.map(MEMFD, 16);
    script.tell(&format!("store {area} 7 1 0-15"));
    let options = ExplainOptions {
        against: Some(StrategyName::Hash),
        ..options(1 << 30)
    };
    let (mut explainer, _) = Explainer::begin(script.pid(), FACTS.clone(), None, options).unwrap();
    step(&mut explainer);
    let at_rest = explainer.findings().tally.clone();
    script.tell(&format!("store {area} 7 1 0-4"));
    script.tell(&format!("store {area} 8 1 5-6"));
    let Range { start, end } = range.range.clone();
    let path = format!("/proc/{}/map_files/{start:x}-{end:x}", script.pid());
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[9; PAGE_SIZE as usize], 9 * PAGE_SIZE)
        .unwrap();
    let round = step(&mut explainer);
    assert_eq!(missed(&round, &range), [(9, false)]);
    let against = explainer.end().unwrap().against.unwrap();
    assert!(against.both >= 2);
    let unchanged = against
        .only_here
        .iter()
        .filter(|(why, _)| why.verdict == ReportVerdict::Unchanged);
    assert!(
        unchanged.map(|(_, pages)| pages).sum::<u64>() >= 5,
        "{at_rest:?}"
    );
    assert_eq!(against.only_there.get(&SecondOnly::Changed), Some(&1));
}

#[test]
fn what_ends_before_the_first_round_is_told_as_that() {
    let mut command = Command::new(testbed::program("tracker"));
    let output = command.args(["explain", "-i", "1h", "--", "true"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("No round was read") && !told.contains("passed over"),
        "{told}"
    );
}

/// The command: every line of its JSON is an object, and the sums agree; an existing report is not
/// overwritten.
#[test]
fn the_command_reports_as_text_json_and_a_page() {
    let mut script = ScriptProcess::start();
    let (area, range) = script.map(ANON, 64);
    script.tell(&format!("store {area} 7 1 0-63"));
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("report.html");
    let (page, pid) = (page.to_str().unwrap(), script.pid().to_string());
    let explain = |more: &[&str]| {
        let mut command = Command::new(testbed::program("tracker"));
        command.args(["explain", "--pid", &pid, "-n", "2", "-i", "10ms"]);
        command.args(more).output().unwrap()
    };
    let output = explain(&["--json", "--html", page]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["type"], "header");
    let of = |kind: &str| {
        lines
            .iter()
            .filter(move |line| line["type"] == kind)
            .cloned()
            .collect::<Vec<_>>()
    };
    let pages: u64 = of("pages")
        .iter()
        .map(|line| line["pages"].as_u64().unwrap())
        .sum();
    let summary = &of("summary")[0];
    assert_eq!(summary["reported"].as_u64(), Some(pages));
    assert_eq!(of("round").len(), 2);
    let left_out = of("round")
        .into_iter()
        .map(|line| line["left_out"].as_u64());
    assert_eq!(left_out.sum::<Option<u64>>(), summary["left_out"].as_u64());
    assert!(summary["naming_seconds"].is_f64() && summary["naming_in_rounds_seconds"].is_f64());
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    // A page that exists is kept.
    let again = explain(&["--html", page]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("--force"),
        "{again:?}"
    );
    let wrong = explain(&["--against", "sync"]);
    assert_eq!(wrong.status.code(), Some(2));
    let story = explain(&["--page", &format!("{:#x}", range.range.start + 7)]);
    let text = String::from_utf8(story.stdout).unwrap();
    assert!(
        text.contains(&format!("The page at {:#x}:", range.range.start)),
        "{text}"
    );
    assert!(text.contains("round 2: clean"), "{text}");
}

/// Rounds are told as they are made, each with what it missed, and nobody waits for the end.
#[test]
fn rounds_are_printed_as_they_are_made() {
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(MEMFD, 16);
    let pid = script.pid().to_string();
    script.tell(&format!("store {number} 7 1 0-15"));
    let mut command = Command::new(testbed::program("tracker"));
    command.args(["explain", "--json", "--pid", &pid, "-i", "20ms"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let header = lines.next().unwrap();
    assert_eq!(
        (&header["type"], &header["version"]),
        (&"header".into(), &2.into())
    );
    for number in 1..=3 {
        let round = lines.next().unwrap();
        assert_eq!(
            (&round["type"], &round["number"]),
            (&"round".into(), &number.into())
        );
    }
    // Through the file: no mapping tells of it.
    write_behind(&script, &area, 7..8);
    let missed = lines.find(|line| line["type"] == "missed").unwrap();
    assert_eq!(missed["pages"], 1);
    assert!(child.try_wait().unwrap().is_none());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let rest: Vec<Value> = lines.collect();
    assert!(child.wait().unwrap().success());
    let last = rest.last().unwrap();
    assert_eq!(
        (&last["type"], &last["missed"]),
        (&"summary".into(), &1.into())
    );
    assert!(last["rounds"].as_u64() >= missed["round"].as_u64());
}

/// A strategy that arms no pages is refused: explaining compares content in any case.
#[test]
fn what_arms_no_pages_explains_none() {
    let script = ScriptProcess::start();
    for name in [StrategyName::Hash, StrategyName::SoftDirty] {
        let mut options = options(1 << 30);
        options.track.strategy = Some(name);
        let begun = Explainer::begin(script.pid(), FACTS.clone(), None, options);
        let error = begun.err().unwrap().to_string();
        assert!(error.contains("arms pages"), "{error}");
    }
}

/// Every total is the sum of its parts.
fn adds_up(findings: &ExplainFindings) {
    let all: u64 = findings.tally.values().sum();
    let rounds = findings
        .rounds
        .iter()
        .flat_map(|round| round.tally.values());
    assert_eq!(rounds.sum::<u64>(), all);
    let vmas = findings.vmas.iter().flat_map(|vma| vma.tally.values());
    assert_eq!(vmas.sum::<u64>(), all);
}
