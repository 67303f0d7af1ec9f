//! Control groups of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::eventually;

/// What a group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupController {
    /// Lets none of its processes run.
    Freezer,
    /// Limits their memory, in bytes.
    Memory,
    /// Limits their time on processors.
    Cpu,
}

/// A control group, which is removed when dropped; processes that are left in it are moved out.
#[derive(Debug)]
pub struct TestGroup {
    directory: PathBuf,
    mount: PathBuf,
    is_unified: bool,
}

impl TestGroup {
    /// One of each hierarchy of this machine that has the controller.
    pub fn each(controller: GroupController) -> Vec<Self> {
        let (name, file) = match controller {
            GroupController::Freezer => ("freezer", "cgroup.freeze"),
            GroupController::Memory => ("memory", "memory.max"),
            GroupController::Cpu => ("cpu", "cpu.max"),
        };
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = [
            (root.join(name), false),
            (root.join("unified"), true),
            (root.to_owned(), true),
        ];
        let made = hierarchies.into_iter().filter_map(|(mount, is_unified)| {
            if !mount.join("cgroup.procs").exists() {
                return None;
            }
            if is_unified {
                // Whatever it says: a controller may be in another hierarchy.
                let _ = fs::write(mount.join("cgroup.subtree_control"), format!("+{name}"));
            }
            let directory = mount.join(format!("tracker-test-{}", std::process::id()));
            fs::create_dir(&directory).ok()?;
            let group = Self {
                directory,
                mount,
                is_unified,
            };
            (!is_unified || group.directory.join(file).exists()).then_some(group)
        });
        made.collect()
    }

    /// Puts a process into it.
    pub fn add(&self, pid: u32) {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// A command that begins in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        let procs = self.directory.join("cgroup.procs");
        let join = format!("echo $$ > {} && exec \"$@\"", procs.display());
        command.args(["-c", &join, "sh", program]);
        command
    }

    /// Limits its memory.
    pub fn limit_memory(&self, bytes: u64) {
        self.set(["memory.limit_in_bytes", "memory.max"], &bytes.to_string());
    }

    /// Limits its time on processors: so many microseconds in each tenth of a second.
    pub fn limit_cpu(&self, quota_us: u64) {
        if self.is_unified {
            self.set(["", "cpu.max"], &format!("{quota_us} 100000"));
        } else {
            self.set(["cpu.cfs_period_us", ""], "100000");
            self.set(["cpu.cfs_quota_us", ""], &quota_us.to_string());
        }
    }

    /// Lets them have as much as there is.
    pub fn free_cpu(&self) {
        self.set(
            ["cpu.cfs_quota_us", "cpu.max"],
            ["-1", "max"][usize::from(self.is_unified)],
        );
    }

    /// Lets none of its processes run, and waits until none does.
    pub fn freeze(&self) -> FrozenGroup<'_> {
        self.set(["freezer.state", "cgroup.freeze"], self.word(true));
        eventually("the group is frozen", || {
            let (file, says) = if self.is_unified {
                ("cgroup.events", "frozen 1")
            } else {
                ("freezer.state", "FROZEN")
            };
            let text = fs::read_to_string(self.directory.join(file)).unwrap();
            text.contains(says).then_some(())
        });
        FrozenGroup(self)
    }

    fn word(&self, frozen: bool) -> &'static str {
        match (self.is_unified, frozen) {
            (true, true) => "1",
            (true, false) => "0",
            (false, true) => "FROZEN",
            (false, false) => "THAWED",
        }
    }

    /// Writes to the file of version 1 or of version 2.
    fn set(&self, files: [&str; 2], value: &str) {
        let file = self.directory.join(files[usize::from(self.is_unified)]);
        fs::write(&file, value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        let left = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        for pid in left.lines() {
            let _ = fs::write(self.mount.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.directory);
    }
}

/// A group that is frozen until this is dropped.
pub struct FrozenGroup<'a>(&'a TestGroup);

impl Drop for FrozenGroup<'_> {
    fn drop(&mut self) {
        let TestGroup { directory, .. } = self.0;
        let file = ["freezer.state", "cgroup.freeze"][usize::from(self.0.is_unified)];
        let _ = fs::write(directory.join(file), self.0.word(false));
    }
}
