//! A process that executes, forks, ends and is killed, and a session that ends.

use std::sync::atomic::{AtomicBool, Ordering};

use pages::strategy::StrategyName;
use pages::track::{SessionEvent, TrackError, TrackSession, TrackStep};
use rustix::process::{Pid, Signal, kill_process};

use testbed::eventually;
use testbed::script::{ANON, FACTS, MEMFD, ScriptProcess, list, refused};
use testbed::session::{
    SeenPages, begin, is_vague, look, pages, registered, step, try_begin, working,
};

#[test]
fn another_program_is_tracked_from_its_first_pages() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        script.map(ANON, 16);
        let (mut session, _) = begin(&script, name);
        step(&mut session);
        script.exec();
        let (number, area) = script.map(ANON, 16);
        script.tell(&format!("store {number} 1 1 3"));
        let round = step(&mut session);
        assert!(
            round
                .events
                .iter()
                .any(|event| matches!(event, SessionEvent::Executed { .. })),
            "{name}: {:?}",
            round.events
        );
        let seen = SeenPages::of(&round, &area);
        assert!(
            seen.unknown.contains(&3) && seen.written.is_empty(),
            "{name}: {seen:?}"
        );
        script.tell(&format!("store {number} 2 1 4"));
        let round = step(&mut session);
        assert_eq!(SeenPages::of(&round, &area).written, pages([4]), "{name}");
        assert_eq!(round.events, [], "{name}: told once");
        session.end().unwrap();
        assert_eq!(registered(script.pid()), 0, "{name}");
    }
}

/// Rounds at every moment of an exec: none fails, and what is written afterwards is seen.
#[test]
fn executing_while_rounds_run() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (mut session, _) = begin(&script, name);
        for _ in 0..5 {
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    script.exec();
                    over.store(true, Ordering::Relaxed);
                });
                while !over.load(Ordering::Relaxed) {
                    step(&mut session);
                }
            });
            let (number, area) = script.map(ANON, 16);
            step(&mut session);
            script.tell(&format!("store {number} 1 1 5"));
            assert_eq!(look(&mut session, &area).written, pages([5]), "{name}");
        }
        session.end().unwrap();
        assert_eq!(registered(script.pid()), 0, "{name}");
    }
}

/// The old memory can outlive an exec: another process has it, too, and goes on in it.
#[test]
fn another_program_while_somebody_keeps_the_old_memory() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, _) = script.map(ANON, 16);
        script.tell(&format!("share {number} 3,4"));
        let (mut session, _) = begin(&script, name);
        step(&mut session);
        script.exec();
        let (number, area) = script.map(ANON, 16);
        script.tell(&format!("store {number} 1 1 3"));
        let round = step(&mut session);
        let executed = |event: &SessionEvent| matches!(event, SessionEvent::Executed { .. });
        assert!(
            round.events.iter().any(executed),
            "{name}: {:?}",
            round.events
        );
        let unknown = SeenPages::of(&round, &area).unknown;
        assert!(
            unknown == pages([3]) || is_vague(name) && unknown.is_superset(&pages([3])),
            "{name}: {unknown:?}"
        );
        script.tell(&format!("store {number} 2 1 5"));
        let seen = look(&mut session, &area);
        assert_eq!(
            (seen.written, seen.unknown),
            (pages([5]), pages([])),
            "{name}"
        );
        session.end().unwrap();
        assert_eq!(registered(script.pid()), 0, "{name}");
    }
}

fn until_exited(session: &mut TrackSession) {
    eventually("the end is noticed", || {
        matches!(session.step().unwrap(), TrackStep::Exited).then_some(())
    });
    assert!(
        matches!(session.step().unwrap(), TrackStep::Exited),
        "it stays ended"
    );
}

#[test]
fn the_end_is_an_end_however_it_comes() {
    for name in working(ANON) {
        for killed in [false, true] {
            let mut script = ScriptProcess::start();
            let (number, _) = script.map(ANON, 2048);
            let (mut session, _) = begin(&script, name);
            step(&mut session);
            if killed {
                script.order(&format!("churn {number} 1 4 1000"));
                step(&mut session);
                let pid = Pid::from_raw(script.pid() as i32).unwrap();
                kill_process(pid, Signal::KILL).unwrap();
            } else {
                script.order("exit 0");
            }
            until_exited(&mut session);
            session.end().unwrap();
        }
    }
}

#[test]
fn a_child_is_not_tracked_and_disturbs_nothing() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 64);
        // All of it, because the script reads it, which some kernels cannot tell from a write.
        script.tell(&format!("store {number} 1 1 0-63"));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("store {number} 2 1 7"));
        script.tell(&format!("fork {number} 9 0-3,40"));
        script.tell(&format!("store {number} 2 1 8,50"));
        let seen = look(&mut session, &area);
        assert_eq!(
            (seen.written, seen.unknown),
            (pages([7, 8, 50]), pages([])),
            "{name}"
        );
        // After fork the parent's pages are shared until they are written: another kind of fault,
        // the same report.
        script.tell(&format!("store {number} 3 1 7,9"));
        assert_eq!(look(&mut session, &area).written, pages([7, 9]), "{name}");
        let expected = |page| match page {
            7 | 9 => 3,
            8 | 50 => 2,
            _ => 1,
        };
        assert_eq!(
            script.words(&area),
            (0..64).map(expected).collect::<Vec<u64>>(),
            "{name}"
        );
        script.tell("spawn");
        assert_eq!(look(&mut session, &area).all(), pages([]), "{name}");
        session.end().unwrap();
    }
}

/// Forks, vforks, and threads that begin and end, while rounds run.
#[test]
fn children_and_threads_while_rounds_run() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 256);
        script.tell(&format!("store {number} 77 1 0-255"));
        let (mut session, _) = begin(&script, name);
        let mut lines = Vec::new();
        for turn in 1..6 {
            lines.push(format!(
                "store {number} {turn} 16 {}-{}",
                turn * 10 - 10,
                turn * 10 + 9
            ));
            lines.push(format!("fork {number} 99 100-120"));
            lines.push("spawn".to_owned());
        }
        let mut written = pages([]);
        for line in lines {
            script.say_while(&line, || written.extend(look(&mut session, &area).written));
        }
        assert_eq!(written, pages(0..60), "{name}");
        session.end().unwrap();
        assert_eq!(registered(script.pid()), 0, "{name}");
    }
}

/// Once its first thread has ended, the kernel shows nothing of a process under its pid: what was
/// opened before still serves.
#[test]
fn the_first_thread_may_end() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 16);
        let (mut session, _) = begin(&script, name);
        script.tell("leave");
        script.tell(&format!("store {number} 1 1 3"));
        assert_eq!(look(&mut session, &area).written, pages([3]), "{name}");
        let (number, area) = script.map(MEMFD, 16);
        script.tell(&format!("store {number} 1 1 4"));
        if refused(name, MEMFD).is_none() {
            assert!(look(&mut session, &area).unknown.contains(&4), "{name}");
        }
        script.order("exit 0");
        until_exited(&mut session);
    }
}

#[test]
fn whoever_is_gone_is_told() {
    let script = ScriptProcess::start();
    let pid = script.pid();
    drop(script);
    for name in working(ANON) {
        let error = try_begin(pid, name).err().unwrap();
        assert!(
            error.to_string().contains("does not exist"),
            "{name}: {error}"
        );
        assert!(!error.is_inability(), "{name}");
        assert!(
            !matches!(error, TrackError::Kernel { .. }),
            "{name}: {error:?}"
        );
    }
}

/// A session ends in both ways while four threads write.
#[test]
fn the_end_of_a_session_frees_the_process() {
    for name in working(MEMFD) {
        for by_end in [true, false] {
            let mut script = ScriptProcess::start();
            let (number, area) = script.map(MEMFD, 1024);
            let (session, _) = begin(&script, name);
            let mut session = Some(session);
            let mut rounds = 0;
            script.say_while(&format!("churn {number} 1 4 10"), || {
                rounds += 1;
                match session.as_mut() {
                    Some(session) if rounds < 4 => drop(step(session)),
                    _ => match session.take() {
                        Some(session) if by_end => session.end().unwrap(),
                        other => drop(other),
                    },
                }
            });
            drop(session);
            assert_eq!(registered(script.pid()), 0, "{name}");
            let all: Vec<u64> = (0..1024).collect();
            script.tell(&format!("store {number} 7 4 {}", list(&all)));
            assert_eq!(script.words(&area), vec![7; 1024], "{name}");
        }
    }
}

/// The kernel tells of a thread's end by clearing a word, and asks no handler of userfaultfd then:
/// where faults are answered by a handler the word stays, and whoever waits for it waits for ever.
#[test]
fn the_end_of_a_thread_is_not_seen_on_an_armed_page() {
    for name in working(ANON)
        .into_iter()
        .filter(|name| name.needs_descriptor())
    {
        let mut script = ScriptProcess::start();
        let (number, _) = script.map(ANON, 16);
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("thread {number} 3"));
        step(&mut session);
        let is_async = FACTS.behaviour.written.is_some() && name != StrategyName::Sync;
        let expected = if is_async { "0" } else { "1" };
        assert_eq!(script.say("end-thread"), expected, "{name}");
        session.end().unwrap();
    }
}
