//! Real processes from which a userfaultfd is taken: each must end like its twin that nobody
//! stopped.
//!
//! The cases are those of `inject-target`, which counts what it notices.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::Command;
use std::time::{Duration, Instant};

use pages::inject::{InjectError, InjectNote, InjectedUffd};
use rustix::process::{Pid, Signal};
use testbed::eventually;
use testbed::inject::{InjectTarget, inject, sleeper};

/// How often a case is stopped, and how long between two stops.
const TIMES: u32 = 6;
const APART: Duration = Duration::from_millis(120);

/// Stops a case several times; its report must be that of its twin.
fn undisturbed(case: &str) -> Vec<InjectedUffd> {
    // On a busy machine a case may end before it is ever stopped.
    let met = (0..3).map(|_| compare(case)).find(|all| !all.is_empty());
    met.unwrap_or_else(|| panic!("{case} was never met"))
}

fn compare(case: &str) -> Vec<InjectedUffd> {
    let (mut target, mut twin) = (InjectTarget::start(case), InjectTarget::start(case));
    let mut all = Vec::new();
    for _ in 0..TIMES {
        match inject(target.pid()) {
            Ok(injected) => all.push(injected),
            // The first thread may be the first to end.
            Err(
                InjectError::Gone(_) | InjectError::Zombie { .. } | InjectError::NoLeader { .. },
            ) => {
                // If that is true, it is soon seen.
                eventually("it has ended", || (target.state() == 'Z').then_some(()));
                break;
            }
            Err(error) => panic!("{case}: {error}"),
        }
        std::thread::sleep(APART);
    }
    let (report, took) = target.report();
    let (expected, twin_took) = twin.report();
    assert_eq!(report, expected, "{case}");
    // A timeout that begins again lengthens a call, each time by no more than itself.
    let longest = twin_took + u64::from(TIMES) * 350 + 2000;
    assert!(
        took < longest,
        "{case} took {took} ms, its twin {twin_took}"
    );
    let stops: Vec<_> = all.iter().map(|one| one.stopped).collect();
    eprintln!("{case}: stopped for {stops:?}");
    all
}

/// A test for each case.
macro_rules! cases {
    ($($test:ident: $case:literal,)*) => {
        $(#[test] fn $test() { undisturbed($case); })*
    };
}

cases! {
    computing: "checksum",
    restartable_sequences: "rseq",
    sleeping: "nanosleep",
    sleeping_until: "sleep-until",
    waiting_in_epoll: "epoll",
    waiting_in_epoll_for_a_time: "epoll-timeout",
    waiting_in_epoll_with_a_mask: "epoll-mask",
    reading_a_pipe: "pipe",
    waiting_for_a_futex: "futex",
    waiting_for_a_futex_for_a_time: "futex-timeout",
    waiting_for_a_semaphore: "semop",
    waiting_for_a_signal: "sigtimedwait",
    waiting_for_a_signal_for_a_time: "sigtimedwait-timeout",
    waiting_in_ppoll: "ppoll",
    waiting_in_select: "select",
    receiving_with_a_timeout: "receive-timeout",
    threads_that_come_and_go: "churn",
    handlers_that_fire: "signals",
    queued_signals: "queued",
    suspended_until_a_signal: "suspend",
    children_that_come_and_go: "forks",
    waiting_for_vfork: "vfork",
    executing_programs: "execs",
    opening_files: "descriptors",
}

#[test]
fn many_threads() {
    let all = undisturbed("threads");
    assert_eq!(all[0].threads, 65);
}

/// SIGSTOP, injection, SIGCONT: the process stays stopped, and continues as if only the signals had
/// come.
#[test]
fn a_stopped_process_stays_stopped() {
    for case in ["checksum", "pipe", "nanosleep"] {
        let mut pair = [InjectTarget::start(case), InjectTarget::start(case)];
        for one in &pair {
            one.signal(Signal::STOP);
        }
        let target = &pair[0];
        eventually("it stops", || (target.state() == 'T').then_some(()));
        let injected = inject(target.pid()).unwrap();
        assert!(
            injected.notes.contains(&InjectNote::StaysStopped),
            "{:?}",
            injected.notes
        );
        // When it is let go it runs in the kernel until it stops again.
        eventually("it stops again", || (target.state() == 'T').then_some(()));
        for _ in 0..50 {
            assert_eq!(target.state(), 'T', "{case}");
            std::thread::sleep(Duration::from_millis(1));
        }
        for one in &pair {
            one.signal(Signal::CONT);
        }
        let [report, expected] = pair.each_mut().map(|one| one.report().0);
        assert_eq!(report, expected, "{case}");
    }
}

/// A target that is stopped and continued all the time during injections loses no SIGSTOP and no
/// SIGCONT.
#[test]
fn stopped_and_continued_meanwhile() {
    let target = InjectTarget::computing();
    let pid = Pid::from_child(&target.process.0);
    let pause = if std::env::var_os("TRACKER_VM").is_some() {
        30_000
    } else {
        700
    };
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let until = over.clone();
    let storm = std::thread::spawn(move || {
        while !until.load(std::sync::atomic::Ordering::Relaxed) {
            for signal in [Signal::STOP, Signal::CONT] {
                rustix::process::kill_process(pid, signal).unwrap();
                std::thread::sleep(Duration::from_micros(pause));
            }
        }
    });
    for _ in 0..20 {
        inject(target.pid()).unwrap();
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    storm.join().unwrap();
    target.signal(Signal::STOP);
    eventually("it stops", || (target.state() == 'T').then_some(()));
    target.signal(Signal::CONT);
    target.end();
}

/// A program of others.
#[test]
fn python_counts_on() {
    const PROGRAM: &str = "\
import threading, time, select, sys
print('ready', flush=True)
wrong = []
def nap():
    for _ in range(150):
        before = time.monotonic(); time.sleep(0.005)
        if time.monotonic() - before < 0.005: wrong.append('nap')
threads = [threading.Thread(target=nap) for _ in range(8)]
[thread.start() for thread in threads]
if sum(n * n for n in range(2000000)) != 2666664666667000000: wrong.append('sum')
if select.epoll().poll(0.2) != []: wrong.append('epoll')
[thread.join() for thread in threads]
print('{\"wrong\": %d}' % len(wrong))";
    if !testbed::has("python3") {
        return;
    }
    let mut command = Command::new("python3");
    let mut target = InjectTarget::spawn(command.args(["-c", PROGRAM]));
    // The wrapper of a version manager executes the program itself, so this is its pid.
    for _ in 0..4 {
        inject(target.pid()).unwrap();
        std::thread::sleep(Duration::from_millis(60));
    }
    assert_eq!(target.report().0, serde_json::json!({"wrong": 0}));
}

/// How long a process with one thread stands still, printed for the record: a busy machine is not a
/// failure.
#[test]
fn a_stop_is_short() {
    let sleeper = sleeper();
    let began = Instant::now();
    let mut stops: Vec<_> = (0..20)
        .map(|_| inject(sleeper.0.id()).unwrap().stopped)
        .collect();
    stops.sort();
    eprintln!(
        "median {:?}, longest {:?}, in {:?}",
        stops[10],
        stops[19],
        began.elapsed()
    );
    assert!(stops[10] < Duration::from_millis(100), "{stops:?}");
}
