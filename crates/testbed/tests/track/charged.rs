//! A tracker that may not use much memory.

use std::process::Stdio;

use testbed::cgroup::{GroupController, TestGroup};
use testbed::inject::InjectTarget;
use testbed::script::FACTS;

/// Page tables that arming makes are charged to whoever arms: 200 MiB for 100 GiB that nobody has
/// touched. That is passed over, and the rest is tracked.
#[test]
fn memory_that_arming_would_take_and_tracker_does_not_have_is_passed_over() {
    let best = FACTS.behaviour.written.is_some();
    let groups = TestGroup::each(GroupController::Memory);
    let Some(group) = groups.first().filter(|_| best) else {
        return eprintln!("skipped: no control group can be made, or nothing takes tables");
    };
    group.limit_memory(150 << 20);
    let target = InjectTarget::until_asked("reserve");
    let mut tracker = group.command(&testbed::program("tracker"));
    tracker.args(["track", "--json"]);
    tracker.args([
        "--strategy=markers",
        "--rounds=1",
        "--interval=100ms",
        "--pid",
    ]);
    let output = tracker
        .arg(target.pid().to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        text.contains("which the kernel charges to the control group of tracker"),
        "{text}"
    );
    assert!(text.contains("\"too_large\":26214400"), "{text}");
}
