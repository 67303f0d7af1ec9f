//! The control group of another process.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// Moves this process into the control groups that can freeze a process; false if that is not
/// allowed, or the groups are not to be seen.
pub(super) fn join(pid: u32) -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let groups = read(&format!("/proc/{pid}/cgroup"));
    let mounts = read("/proc/self/mountinfo");
    let all = directories(&groups, &mounts);
    let own = std::process::id().to_string();
    let join = |group: &PathBuf| fs::write(group.join("cgroup.procs"), &own).is_ok();
    !all.is_empty() && all.iter().all(join)
}

/// The directories of the groups that freeze: of cgroups v2, and of the freezer of v1.
fn directories(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let group = |line: &str| -> Option<PathBuf> {
        // hierarchy:controllers:path (cgroups(7)).
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let mount = if hierarchy == "0" {
            mounts.lines().find_map(|line| mounted(line, "cgroup2", ""))
        } else if controllers.split(',').any(|name| name == "freezer") {
            mounts
                .lines()
                .find_map(|line| mounted(line, "cgroup", "freezer"))
        } else {
            return None;
        };
        Some(Path::new(mount?).join(path.trim_start_matches('/')))
    };
    groups.lines().filter_map(group).collect()
}

/// Where a file system of this type with this option is mounted, if the line of
/// proc_pid_mountinfo(5) is about one.
fn mounted<'a>(line: &'a str, kind: &str, option: &str) -> Option<&'a str> {
    let (mount, source) = line.split_once(" - ")?;
    let mut source = source.split(' ');
    let is_kind = source.next() == Some(kind);
    let options = source.nth(1).unwrap_or_default();
    let has_option = option.is_empty() || options.split(',').any(|name| name == option);
    (is_kind && has_option).then(|| mount.split(' ').nth(4))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        31 30 0:27 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
        32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
        33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn only_groups_that_freeze_are_of_interest() {
        let groups = "4:freezer:/box\n3:cpu,cpuacct:/box\n0::/a:b/c\n";
        let expected = ["/sys/fs/cgroup/freezer/box", "/sys/fs/cgroup/unified/a:b/c"];
        assert_eq!(directories(groups, MOUNTS), expected.map(PathBuf::from));
        assert_eq!(directories("0::/\n", ""), Vec::<PathBuf>::new());
    }
}
