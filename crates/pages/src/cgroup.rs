//! Control groups: that of another process, and what is left of the memory of ours.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// Moves this process into the control groups that can freeze a process; false if that is not
/// allowed, or the groups are not to be seen.
#[cfg(target_arch = "x86_64")]
pub(crate) fn join(pid: u32) -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let groups = read(&format!("/proc/{pid}/cgroup"));
    let mounts = read("/proc/self/mountinfo");
    let all: Vec<_> = directories(&groups, &mounts, "freezer")
        .into_iter()
        .map(|group| group.directory)
        .collect();
    let own = std::process::id().to_string();
    let join = |group: &PathBuf| fs::write(group.join("cgroup.procs"), &own).is_ok();
    !all.is_empty() && all.iter().all(join)
}

/// How many bytes this process may still use before its control groups have no more; `None`: none
/// has a limit, as far as that can be seen. Files that the kernel keeps in memory do not count, since
/// it drops them.
pub(crate) fn memory_left() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (groups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
    let groups = directories(&groups, &mounts, "memory");
    groups.iter().filter_map(ControlGroup::memory_left).min()
}

/// A group of one hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct ControlGroup {
    directory: PathBuf,
    /// Where the hierarchy is mounted.
    mount: PathBuf,
    is_unified: bool,
}

impl ControlGroup {
    /// What this group and those above it leave.
    fn memory_left(&self) -> Option<u64> {
        let names = if self.is_unified {
            ["memory.max", "memory.current", "file"]
        } else {
            [
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_cache",
            ]
        };
        let groups = self.directory.ancestors();
        let groups = groups.take_while(|group| group.starts_with(&self.mount));
        groups.filter_map(|group| left_in(group, names)).min()
    }
}

/// The limit less what is used for anything but files.
fn left_in(group: &Path, [limit, used, files]: [&str; 3]) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(group.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
    let files = lines.find(|(name, _)| *name == files);
    let files = files.and_then(|(_, bytes)| bytes.parse().ok()).unwrap_or(0);
    // No limit is no number.
    let used = number(used)?.saturating_sub(files);
    Some(number(limit)?.saturating_sub(used))
}

/// The groups of cgroups v2, and those of v1 with a controller.
fn directories(groups: &str, mounts: &str, controller: &str) -> Vec<ControlGroup> {
    let group = |line: &str| -> Option<ControlGroup> {
        // hierarchy:controllers:path (cgroups(7)).
        let mut parts = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_unified = hierarchy == "0";
        let mount = if is_unified {
            mounts.lines().find_map(|line| mounted(line, "cgroup2", ""))
        } else if controllers.split(',').any(|name| name == controller) {
            mounts
                .lines()
                .find_map(|line| mounted(line, "cgroup", controller))
        } else {
            return None;
        };
        let mount = PathBuf::from(mount?);
        Some(ControlGroup {
            directory: mount.join(path.trim_start_matches('/')),
            mount,
            is_unified,
        })
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
    fn only_groups_with_the_controller_are_of_interest() {
        let groups = "4:freezer:/box\n3:cpu,cpuacct:/box\n0::/a:b/c\n";
        let found = directories(groups, MOUNTS, "freezer");
        let found: Vec<_> = found.into_iter().map(|group| group.directory).collect();
        let expected = ["/sys/fs/cgroup/freezer/box", "/sys/fs/cgroup/unified/a:b/c"];
        assert_eq!(found, expected.map(PathBuf::from));
        assert!(directories("0::/\n", "", "memory").is_empty());
    }

    #[test]
    fn what_is_left_is_the_least_of_all_groups_and_files_do_not_count() -> std::io::Result<()> {
        let mount = tempfile::tempdir()?;
        let (outer, inner) = (mount.path().join("outer"), mount.path().join("outer/inner"));
        fs::create_dir_all(&inner)?;
        fs::write(outer.join("memory.max"), "1000\n")?;
        fs::write(outer.join("memory.current"), "900\n")?;
        fs::write(outer.join("memory.stat"), "anon 400\nfile 500\n")?;
        fs::write(inner.join("memory.max"), "max\n")?;
        fs::write(inner.join("memory.current"), "800\n")?;
        let group = ControlGroup {
            directory: inner,
            mount: mount.path().to_owned(),
            is_unified: true,
        };
        assert_eq!(group.memory_left(), Some(600));
        Ok(())
    }
}
