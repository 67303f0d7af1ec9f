//! A tracker that stands still while a process waits for it.

use std::fs::File;
use std::process::{Command, Stdio};

use testbed::foreign::SigstopGuard;
use testbed::script::{ANON, FACTS, ScriptProcess};
use testbed::session::{registered, working};
use testbed::{KilledChild, eventually};

/// The process goes on while tracker is still stopped, and is tracked again afterwards.
#[test]
fn a_tracker_that_is_stopped_does_not_stop_the_process() {
    let waits = |name: &pages::strategy::StrategyName| name.waits(&FACTS.behaviour);
    for name in working(ANON).into_iter().filter(waits) {
        let mut script = ScriptProcess::start();
        let ((number, _), (fresh, _)) = (script.map(ANON, 64), script.map(ANON, 64));
        script.tell(&format!("store {number} 1 1 0-63"));
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut tracker = Command::new(testbed::program("tracker"));
        tracker.args(["track", "--json", "--interval=100ms", "--pid"]);
        tracker.args([&script.pid().to_string(), "--strategy", name.as_str()]);
        let output = File::create(&log).unwrap();
        let tracker = KilledChild(tracker.stdin(Stdio::null()).stdout(output).spawn().unwrap());
        let said = |text: &str| {
            let log = std::fs::read_to_string(&log).unwrap();
            log.contains(text).then_some(())
        };
        eventually("it is tracked", || said("\"round\""));
        let stopped = SigstopGuard::of(tracker.0.id());
        // Each waits for some strategy: a write, and a first access.
        script.tell(&format!("store {number} 2 1 0-63"));
        script.tell(&format!("store {fresh} 1 1 0-63"));
        // What waited goes on with its own mapping, before the last one is let go.
        eventually("all is let go", || {
            (registered(script.pid()) == 0).then_some(())
        });
        drop(stopped);
        eventually("that is told", || {
            said("waited for tracker, which stood still")
        });
        eventually("it is tracked again", || {
            (registered(script.pid()) != 0).then_some(())
        });
        script.tell(&format!("store {number} 3 1 0-63"));
    }
}
