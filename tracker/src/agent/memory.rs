//! Whether the control group leaves the agent the memory that it takes. The kernel kills who takes
//! more, and leaves no time to say why: so it is said beforehand.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Below this an agent at level full was killed while it started (release build, 6.12): it reads the
/// kernel's BTF and kallsyms, and its maps count for its group, too.
const NEEDED: u64 = 56 << 20;

/// The limit of a control group.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MemoryLimit {
    bytes: u64,
    file: PathBuf,
}

/// Our group in a hierarchy that has the memory controller.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MemoryGroup {
    /// Its directory.
    own: PathBuf,
    /// Where the hierarchy is mounted.
    top: PathBuf,
    /// What its files of limits are called.
    file: &'static str,
}

/// Says in the log if the control group, or one around it, allows less than what is needed.
pub fn tell() {
    let read = |path| fs::read(path).unwrap_or_default();
    let groups = groups(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    let Some(limit) = groups
        .iter()
        .filter_map(lowest)
        .min_by_key(|limit| limit.bytes)
    else {
        return;
    };
    if limit.bytes < NEEDED {
        tracing::warn!(
            "{} allows {} MiB of memory, and the start may take {}: the kernel may kill the agent \
             without a word; raise it (MemoryMax= of the unit, --memory of a container, \
             resources.limits.memory of a pod)",
            limit.file.display(),
            limit.bytes >> 20,
            NEEDED >> 20,
        );
    }
}

/// The lowest limit of a group and those around it.
fn lowest(group: &MemoryGroup) -> Option<MemoryLimit> {
    let all = group
        .own
        .ancestors()
        .take_while(|dir| dir.starts_with(&group.top));
    let limits = all.filter_map(|dir| {
        let file = dir.join(group.file);
        let text = fs::read(&file).ok()?;
        // "max" is no limit.
        let bytes = str::from_utf8(text.trim_ascii()).ok()?.parse().ok()?;
        Some(MemoryLimit { bytes, file })
    });
    limits.min_by_key(|limit| limit.bytes)
}

/// Our groups by `/proc/self/cgroup` (cgroups(7)) and `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn groups(groups: &[u8], mounts: &[u8]) -> Vec<MemoryGroup> {
    let lines = mounts.split(|byte| *byte == b'\n');
    lines.filter_map(|line| group_in(line, groups)).collect()
}

/// Our group below one mount.
fn group_in(mount: &[u8], groups: &[u8]) -> Option<MemoryGroup> {
    let fields: Vec<&[u8]> = mount.split(|byte| *byte == b' ').collect();
    let (root, top) = (*fields.get(3)?, *fields.get(4)?);
    let separator = fields.iter().position(|field| *field == b"-")?;
    let (kind, options) = (*fields.get(separator + 1)?, *fields.get(separator + 3)?);
    let (controller, file): (&[u8], _) = match kind {
        b"cgroup2" => (b"", "memory.max"),
        b"cgroup"
            if options
                .split(|byte| *byte == b',')
                .any(|one| one == b"memory") =>
        {
            (b"memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let path = groups.split(|byte| *byte == b'\n').find_map(|line| {
        let mut parts = line.splitn(3, |byte| *byte == b':').skip(1);
        let mut controllers = parts.next()?.split(|byte| *byte == b',');
        controllers
            .any(|one| one == controller)
            .then_some(parts.next()?)
    })?;
    let top = PathBuf::from(OsStr::from_bytes(top));
    let inside = Path::new(OsStr::from_bytes(path)).strip_prefix(OsStr::from_bytes(root));
    // A container may see only its own group, under the name that it has outside.
    let inside = inside.unwrap_or(Path::new(""));
    Some(MemoryGroup {
        own: top.join(inside.strip_prefix("/").unwrap_or(inside)),
        top,
        file,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const V2: &[u8] = b"30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
    const V1: &[u8] = b"25 24 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        31 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    fn own(mounts: &[u8], text: &[u8]) -> Vec<(PathBuf, &'static str)> {
        let found = groups(text, mounts).into_iter();
        found.map(|group| (group.own, group.file)).collect()
    }

    #[test]
    fn the_group_is_found_in_either_version_and_in_a_container() {
        let path = PathBuf::from("/sys/fs/cgroup/system.slice/t.service");
        assert_eq!(
            own(V2, b"0::/system.slice/t.service\n"),
            [(path, "memory.max")]
        );
        let path = PathBuf::from("/sys/fs/cgroup/memory/a:b");
        let text = b"5:devices:/x\n4:cpu,memory:/a:b\n0::/\n";
        assert_eq!(own(V1, text), [(path, "memory.limit_in_bytes")]);
        let docker = b"31 24 0:28 /docker/1f /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        for text in [&b"0::/docker/1f\n"[..], b"0::/\n", b"0::/../2e\n"] {
            assert_eq!(
                own(docker, text),
                [(PathBuf::from("/sys/fs/cgroup"), "memory.max")]
            );
        }
        assert!(own(b"", b"0::/\n").is_empty() && own(V2, b"").is_empty());
    }

    #[test]
    fn the_lowest_limit_around_counts() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().to_owned();
        let own = top.join("slice/unit");
        fs::create_dir_all(&own).unwrap();
        let group = MemoryGroup {
            own: own.clone(),
            top: top.clone(),
            file: "memory.max",
        };
        assert_eq!(lowest(&group), None);
        fs::write(own.join("memory.max"), "max\n").unwrap();
        assert_eq!(lowest(&group), None);
        let file = top.join("slice/memory.max");
        fs::write(&file, "33554432\n").unwrap();
        let expected = MemoryLimit {
            bytes: 32 << 20,
            file,
        };
        assert_eq!(lowest(&group), Some(expected.clone()));
        fs::write(own.join("memory.max"), "67108864\n").unwrap();
        assert_eq!(lowest(&group), Some(expected));
    }
}
