//! A tracker that may not use much memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testbed::inject::InjectTarget;
use testbed::script::FACTS;

/// A control group with a limit of memory, for one process.
struct LimitedGroup(PathBuf);

impl LimitedGroup {
    /// None where no group can be made.
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("tracker-test-{}", std::process::id());
        let unified = ["/sys/fs/cgroup", "memory.max"];
        for [root, limit] in [["/sys/fs/cgroup/memory", "memory.limit_in_bytes"], unified] {
            let group = Path::new(root).join(&name);
            if !Path::new(root).join("cgroup.procs").exists() || fs::create_dir(&group).is_err() {
                continue;
            }
            let group = Self(group);
            if fs::write(group.0.join(limit), bytes.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }
}

impl Drop for LimitedGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Page tables that arming makes are charged to whoever arms: 200 MiB for 100 GiB that nobody has
/// touched. That is passed over, and the rest is tracked.
#[test]
fn memory_that_arming_would_take_and_tracker_does_not_have_is_passed_over() {
    let best = FACTS.behaviour.written.is_some();
    let Some(group) = LimitedGroup::new(150 << 20).filter(|_| best) else {
        return eprintln!("skipped: no control group can be made, or nothing takes tables");
    };
    let target = InjectTarget::until_asked("reserve");
    let mut tracker = Command::new("sh");
    let join = format!(
        "echo $$ > {}/cgroup.procs && exec \"$@\"",
        group.0.display()
    );
    tracker.args([
        "-c",
        &join,
        "sh",
        &testbed::program("tracker"),
        "track",
        "--json",
    ]);
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
