//! A process that cannot be stopped for a while, because a debugger has it.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use pages::track::{SessionEvent, TrackError, TrackSession, UntrackedReason};
use testbed::cgroup::{GroupController, TestGroup};
use testbed::eventually;
use testbed::inject::{InjectTarget, nothing_noticed};
use testbed::script::{ANON, FACTS, ScriptProcess};
use testbed::session::{begin, look, options, pages, step, working};

/// A tracer that lets the process run. The kernel detaches what a thread traces when it ends.
struct IdleTracer(Option<(Sender<()>, JoinHandle<()>)>);

impl IdleTracer {
    fn of(pid: u32) -> Self {
        let ((end, ended), (begin, begun)) = (channel::<()>(), channel());
        let trace = move || {
            // SAFETY: neither address nor data is used: no options.
            let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid as libc::pid_t, 0, 0) };
            begin.send(result).unwrap();
            let _ = ended.recv();
        };
        let thread = std::thread::spawn(trace);
        assert_eq!(begun.recv().unwrap(), 0, "cannot trace {pid}");
        Self(Some((end, thread)))
    }
}

impl Drop for IdleTracer {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            thread.join().unwrap();
        }
    }
}

/// The next program is tracked once the debugger leaves; until then all of it is counted as not
/// looked at, and the rounds go on.
#[test]
fn a_debugger_at_exec_is_waited_for() {
    for name in working(ANON)
        .into_iter()
        .filter(|name| name.needs_descriptor())
    {
        let mut script = ScriptProcess::start();
        script.map(ANON, 16);
        let (mut session, _) = begin(&script, name);
        let tracer = IdleTracer::of(script.pid());
        script.exec();
        let (number, area) = script.map(ANON, 16);
        let told = |event: &SessionEvent| matches!(event, SessionEvent::NotAttached { .. });
        let round = step(&mut session);
        assert!(round.events.iter().any(told), "{name}: {:?}", round.events);
        assert!(
            round.not_looked_at.of(UntrackedReason::NotAttached) > 16,
            "{name}"
        );
        assert!(!session.gone().is_empty(), "{name}");
        let round = step(&mut session);
        assert_eq!(round.events, [], "{name}: told once");
        assert!(session.gone().is_empty(), "{name}");
        drop(tracer);
        let executed = |event: &SessionEvent| matches!(event, SessionEvent::Executed { .. });
        eventually("it is attached to", || {
            let round = step(&mut session);
            round.events.iter().any(executed).then_some(())
        });
        script.tell(&format!("store {number} 2 1 4"));
        assert_eq!(look(&mut session, &area).written, pages([4]), "{name}");
        session.end().unwrap();
    }
}

/// What stands in while a debugger is there is given up for the better strategy.
#[test]
fn a_better_strategy_is_taken_when_it_becomes_possible() {
    let best = working(ANON)[0];
    if !best.needs_descriptor() {
        return eprintln!("skipped: {best} needs nobody to stop");
    }
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(ANON, 16);
    let tracer = IdleTracer::of(script.pid());
    let mut options = options(best);
    options.strategy = None;
    options.inject.patience = Duration::from_millis(20);
    let begun = TrackSession::begin(script.pid(), FACTS.clone(), options);
    let mut session = match begun {
        Ok((session, _)) => session,
        Err(error) => return eprintln!("skipped: nothing stands in here: {error}"),
    };
    assert!(!session.strategy().needs_descriptor());
    drop(tracer);
    let told = |event: &SessionEvent| matches!(event, SessionEvent::BetterStrategy { .. });
    eventually("it is taken", || {
        step(&mut session).events.iter().any(told).then_some(())
    });
    assert!(session.strategy().needs_descriptor());
    script.tell(&format!("store {number} 2 1 4"));
    assert_eq!(look(&mut session, &area).written, pages([4]));
    session.end().unwrap();
}

/// A container at its CPU limit: its threads get to run so seldom that none can be stopped, or makes
/// a call, in time. What stands in then is given up once the process gets to run; who asked for one
/// strategy is told that it may pass.
#[test]
fn at_a_cpu_limit_the_better_strategy_is_taken_in_the_end() {
    let best = working(ANON)[0];
    let groups = TestGroup::each(GroupController::Cpu);
    let Some(group) = groups.first().filter(|_| best.needs_descriptor()) else {
        return eprintln!("skipped: no control group can be made, or nobody is to be stopped");
    };
    let mut target = InjectTarget::until_asked("crowd-spinning");
    group.add(target.pid());
    group.limit_cpu(1000);
    let mut chosen = options(best);
    // Let go of as on a machine that is not emulated.
    chosen.inject.longest_stop = Duration::from_millis(250);
    chosen.inject.patience = Duration::from_millis(300);
    match TrackSession::begin(target.pid(), FACTS.clone(), chosen.clone()) {
        Ok((session, _)) => session.end().unwrap(),
        Err(error) => {
            let passes = matches!(&error, TrackError::Inject(error) if error.may_pass());
            assert!(passes, "{error}");
        }
    }
    chosen.strategy = None;
    let begun = TrackSession::begin(target.pid(), FACTS.clone(), chosen);
    let mut session = match begun {
        Ok((session, _)) => session,
        Err(error) => return eprintln!("skipped: nothing stands in here: {error}"),
    };
    eprintln!("{}: {}", session.header().strategy, session.header().reason);
    group.free_cpu();
    let told = |event: &SessionEvent| matches!(event, SessionEvent::BetterStrategy { .. });
    if session.strategy() != best {
        eventually("it is taken", || {
            step(&mut session).events.iter().any(told).then_some(())
        });
    }
    assert_eq!(session.strategy(), best);
    session.end().unwrap();
    nothing_noticed(&target.ask());
}
