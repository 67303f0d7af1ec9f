//! A tracker that stands still while a process waits for it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use pages::strategy::StrategyName;
use testbed::cgroup::{GroupController, TestGroup};
use testbed::foreign::SigstopGuard;
use testbed::script::{ANON, FACTS, ScriptProcess};
use testbed::session::{registered, working};
use testbed::{KilledChild, eventually};

/// Has tracker stand still while the process writes and touches new memory, both of which wait for
/// tracker: the process goes on, and is tracked again once tracker does.
fn goes_on<S>(name: StrategyName, tracker: Command, stand_still: impl FnOnce(u32) -> S) {
    let mut script = ScriptProcess::start();
    let ((number, _), (fresh, _)) = (script.map(ANON, 64), script.map(ANON, 64));
    script.tell(&format!("store {number} 1 1 0-63"));
    let mut tracker = TrackedLog::start(tracker, script.pid(), name);
    eventually("it is tracked", || tracker.said("\"round\""));
    let stopped = stand_still(tracker.process.0.id());
    // Each waits for some strategy: a write, and a first access.
    script.tell(&format!("store {number} 2 1 0-63"));
    script.tell(&format!("store {fresh} 1 1 0-63"));
    // What waited goes on with its own mapping, before the last one is let go.
    eventually("all is let go", || {
        (registered(script.pid()) == 0).then_some(())
    });
    drop(stopped);
    eventually("that is told", || {
        tracker.said("waited for tracker, which stood still")
    });
    eventually("it is tracked again", || {
        (registered(script.pid()) != 0).then_some(())
    });
    script.tell(&format!("store {number} 3 1 0-63"));
    assert!(tracker.process.0.try_wait().unwrap().is_none());
}

/// A tracker that writes JSON to a file.
struct TrackedLog {
    process: KilledChild,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl TrackedLog {
    fn start(mut command: Command, pid: u32, name: StrategyName) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        command.args(["track", "--json", "--interval=100ms", "--pid"]);
        command.args([&pid.to_string(), "--strategy", name.as_str()]);
        let output = File::create(&log).unwrap();
        let process = command.stdin(Stdio::null()).stdout(output).spawn().unwrap();
        Self {
            process: KilledChild(process),
            log,
            _dir: dir,
        }
    }

    fn said(&self, text: &str) -> Option<()> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.contains(text).then_some(())
    }
}

fn waiting() -> impl Iterator<Item = StrategyName> {
    working(ANON)
        .into_iter()
        .filter(|name| name.waits(&FACTS.behaviour))
}

#[test]
fn a_tracker_that_is_stopped_does_not_stop_the_process() {
    for name in waiting() {
        let tracker = Command::new(testbed::program("tracker"));
        goes_on(name, tracker, SigstopGuard::of);
    }
}

/// By the freezer of control groups, of either version: the guard is in the group of the process.
#[test]
fn a_tracker_that_is_frozen_does_not_stop_the_process() {
    let groups = TestGroup::each(GroupController::Freezer);
    if groups.is_empty() {
        return eprintln!("skipped: no control group can be made");
    }
    for group in groups {
        for name in waiting() {
            let tracker = group.command(&testbed::program("tracker"));
            goes_on(name, tracker, |_| group.freeze());
        }
    }
}

/// Where the kernel answers faults itself nobody waits for tracker: what is registered stays so, and
/// nothing is to be told.
#[test]
fn who_does_not_wait_needs_no_guard() {
    let others = working(ANON).into_iter();
    let tracked: Vec<_> = others
        .filter(|name| !name.waits(&FACTS.behaviour))
        .map(|name| {
            let mut script = ScriptProcess::start();
            let areas = [script.map(ANON, 64).0, script.map(ANON, 64).0];
            let tracker = Command::new(testbed::program("tracker"));
            let tracker = TrackedLog::start(tracker, script.pid(), name);
            eventually("it is tracked", || tracker.said("\"round\""));
            let before = registered(script.pid());
            let stopped = SigstopGuard::of(tracker.process.0.id());
            for area in areas {
                script.tell(&format!("store {area} 2 1 0-63"));
            }
            (name, script, tracker, before, stopped)
        })
        .collect();
    // A guard would let go by then.
    std::thread::sleep(Duration::from_secs(3));
    for (name, script, tracker, before, stopped) in tracked {
        assert_eq!(registered(script.pid()), before, "{name}");
        drop(stopped);
        assert_eq!(tracker.said("stood still"), None, "{name}");
    }
}
