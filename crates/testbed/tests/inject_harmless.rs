//! What attaching and freezing do to a process that counts what it notices: docs/inject.md has a
//! table of it, and a row for each of these tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use pages::inject::{self, InjectError, InjectNote, InjectOptions, InterruptedCall};
use serde_json::Value;
use testbed::inject::{InjectTarget, holders, inject, nothing_noticed, options, tracers};
use testbed::{KilledChild, eventually, program};

/// How often a target is attached to, or frozen.
fn times(on_host: usize) -> usize {
    let in_guest = std::env::var_os("TRACKER_VM").is_some();
    if in_guest {
        on_host.div_ceil(4)
    } else {
        on_host
    }
}

/// Attaches again and again, as fast as it goes but for a pause; how many attempts were given up.
fn attach(target: &InjectTarget, times: usize, pause: Duration) -> usize {
    let mut busy = 0;
    for _ in 0..times {
        match inject(target.pid()) {
            Ok(injected) => {
                assert_eq!(injected.stopped_threads, 1, "{:?}", injected.notes);
                let holders = holders(target.pid());
                assert!(holders.is_empty(), "{holders:?}");
            }
            Err(error) if error.may_pass() => busy += 1,
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(pause);
    }
    busy
}

/// Freezes again and again; the calls that came back short because of it.
fn freeze(target: &InjectTarget, times: usize, pause: Duration) -> usize {
    let mut cut = 0;
    for _ in 0..times {
        match inject::freeze(target.pid(), &options()) {
            Ok(frozen) => {
                cut += cut_short(frozen.notes());
                assert!(frozen.release().is_some());
            }
            Err(error @ InjectError::Busy { .. }) => cut += cut_short(error.notes()),
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(pause);
    }
    cut
}

/// How many calls came back short, as the notes say.
fn cut_short(notes: &[InjectNote]) -> usize {
    let threads = |note: &InjectNote| match note {
        InjectNote::Interrupted {
            threads,
            call: InterruptedCall::CutShort { .. },
        } => *threads,
        _ => 0,
    };
    notes.iter().map(threads).sum()
}

/// The sum of a report's fields that end so.
fn sum(report: &Value, end: &str) -> u64 {
    let fields = report.as_object().unwrap().iter();
    let counts = fields.filter(|(name, _)| name.ends_with(end));
    counts.map(|(_, count)| count.as_u64().unwrap()).sum()
}

#[test]
fn waiting_calls_never_end_because_of_attaching() {
    let mut target = InjectTarget::until_asked("crowd-waiting");
    let busy = attach(&target, times(100), Duration::from_millis(30));
    let report = target.ask();
    eprintln!("{busy} given up; {report}");
    nothing_noticed(&report);
}

#[test]
fn waiting_calls_never_end_because_of_freezing() {
    let mut target = InjectTarget::until_asked("crowd-waiting");
    freeze(&target, times(60), Duration::from_millis(30));
    nothing_noticed(&target.ask());
}

/// Nobody but tracker's helper is the tracer, so killing tracker does no harm.
#[test]
fn waiting_calls_never_end_because_explain_is_killed_while_it_freezes() {
    let mut target = InjectTarget::until_asked("crowd-waiting");
    for round in 0..times(60) {
        let mut command = Command::new(program("tracker"));
        command.args([
            "explain",
            "--freeze",
            "--interval",
            "5ms",
            "--rounds",
            "1000",
        ]);
        command.args(["--pid", &target.pid().to_string()]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut tracker = KilledChild(command.stderr(Stdio::null()).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(200 + 7 * round as u64));
        tracker.0.kill().unwrap();
        tracker.0.wait().unwrap();
    }
    eventually("every helper is done", || {
        (tracers(target.pid()) == 0).then_some(())
    });
    nothing_noticed(&target.ask());
}

#[test]
fn transfers_are_whole_where_a_thread_is_in_none() {
    let mut target = InjectTarget::until_asked("transfers");
    attach(&target, times(60), Duration::from_millis(30));
    let report = target.ask();
    assert_eq!(sum(&report, ": short"), 0, "{report}");
    nothing_noticed(&report);
}

/// What is cut short is told; there is nothing else.
#[test]
fn a_transfer_that_is_cut_short_is_told() {
    let mut target = InjectTarget::until_asked("transfer-alone");
    let mut told = 0;
    for _ in 0..times(12) {
        told += cut_short(&inject(target.pid()).unwrap().notes);
    }
    let report = target.ask();
    eprintln!("{report}");
    assert_eq!(sum(&report, ": short"), told as u64, "{report}");
}

#[test]
fn freezing_cuts_transfers_short_and_tells() {
    let mut target = InjectTarget::until_asked("transfers");
    let told = freeze(&target, times(20), Duration::from_millis(30));
    let report = target.ask();
    let short = sum(&report, ": short");
    eprintln!("{told} told; {report}");
    assert!(told > 0 && short == told as u64, "{told} told; {report}");
}

/// How often each thread was put to sleep or had to make way.
fn switches(pid: u32) -> Vec<(u32, String)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let count = |thread: fs::DirEntry| {
        let tid = thread.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        Some((
            tid,
            status.split_once("voluntary_ctxt_switches")?.1.to_owned(),
        ))
    };
    threads
        .filter_map(|thread| count(thread.unwrap()))
        .collect()
}

#[test]
fn of_a_thousand_threads_one_wakes() {
    let mut target = InjectTarget::until_asked("crowd-sleeping");
    // Until all of them sleep.
    eventually("all threads sleep", || {
        let before = switches(target.pid());
        std::thread::sleep(Duration::from_millis(200));
        (before == switches(target.pid())).then_some(())
    });
    let before = switches(target.pid());
    let injected = inject(target.pid()).unwrap();
    assert_eq!((injected.threads, injected.stopped_threads), (1001, 1));
    let after = switches(target.pid());
    let woken = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after);
    assert_eq!((woken.count(), after.len()), (1, 1001));
    eprintln!("it stood still for {:?}", injected.stopped);
    nothing_noticed(&target.ask());
}

/// Other threads fork, wait for any child, open, close and replace descriptors, make threads and
/// send signals all the while: nobody sees the userfaultfd, and nobody but us has it afterwards.
#[test]
fn nobody_else_ever_has_the_userfaultfd() {
    let mut target = InjectTarget::until_asked("turmoil");
    let busy = attach(&target, times(400), Duration::ZERO);
    let report = target.ask();
    eprintln!("{busy} given up; {report}");
    nothing_noticed(&report);
}

/// A thread executes another program at any moment: the program has no child that it does not know.
#[test]
fn a_thread_that_executes_a_program_meanwhile() {
    for _ in 0..times(8) {
        let mut target = InjectTarget::start("execs-beside");
        let mut attached = 0;
        while target.process.0.try_wait().unwrap().is_none() {
            attached += usize::from(inject(target.pid()).is_ok());
        }
        let report = target.report().0;
        eprintln!("attached {attached} times; {report}");
        nothing_noticed(&report);
    }
}

/// A thread that was asked to stop and has not by the time that attaching is given up.
#[test]
fn a_thread_that_does_not_stop_in_time_is_seen_off() {
    let mut target = InjectTarget::until_asked("waiting-alone");
    let options = InjectOptions {
        patience: Duration::ZERO,
        longest_stop: Duration::ZERO,
        ..options()
    };
    let mut busy = 0;
    for _ in 0..times(40) {
        match inject::userfaultfd(target.pid(), &options) {
            Ok(_) => {}
            Err(InjectError::Busy { .. } | InjectError::Traced { .. }) => busy += 1,
            Err(error) => panic!("{error}"),
        }
        eventually("it is let go", || {
            (tracers(target.pid()) == 0).then_some(())
        });
    }
    assert!(busy > 0);
    nothing_noticed(&target.ask());
}

/// Where no thread may make a child for us all are stopped, and that is told: the first child of
/// this one is to be the first process of a pid namespace.
#[test]
fn the_first_child_of_a_pid_namespace_is_the_targets() {
    let mut target = InjectTarget::until_asked("pid-namespace");
    for _ in 0..3 {
        let injected = inject(target.pid()).unwrap();
        assert_eq!(injected.stopped_threads, 2);
        let mut notes = injected.notes.iter();
        assert!(notes.any(|note| matches!(note, InjectNote::AllStopped { threads: 2, .. })));
    }
    nothing_noticed(&target.ask());
}
