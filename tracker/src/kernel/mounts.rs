//! Where the kernel's own file systems are mounted.

use serde::{Deserialize, Serialize};

/// Mount points of the file systems that tracing needs; `None` for what is not mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoints {
    /// tracefs, usually `/sys/kernel/tracing`.
    pub tracefs: Option<String>,
    /// debugfs, usually `/sys/kernel/debug`; it mounts tracefs at its `tracing` by itself.
    pub debugfs: Option<String>,
    /// bpffs, usually `/sys/fs/bpf`.
    pub bpffs: Option<String>,
    /// securityfs, usually `/sys/kernel/security`.
    pub securityfs: Option<String>,
}

impl MountPoints {
    /// Reads `/proc/self/mountinfo` (proc_pid_mountinfo(5)). The first mount of a kind counts.
    #[must_use]
    pub fn parse(mountinfo: &[u8]) -> Self {
        let mut mounts = Self::default();
        for line in mountinfo.split(|byte| *byte == b'\n') {
            let Some((point, kind)) = std::str::from_utf8(line).ok().and_then(parse_line) else {
                continue;
            };
            let slot = match kind {
                "tracefs" => &mut mounts.tracefs,
                "debugfs" => &mut mounts.debugfs,
                "bpf" => &mut mounts.bpffs,
                "securityfs" => &mut mounts.securityfs,
                _ => continue,
            };
            slot.get_or_insert_with(|| unescape(point));
        }
        mounts
    }

    /// Where to look for tracefs's files.
    #[must_use]
    pub fn tracing_dir(&self) -> Option<String> {
        let in_debugfs = || {
            self.debugfs
                .as_ref()
                .map(|debugfs| format!("{debugfs}/tracing"))
        };
        self.tracefs.clone().or_else(in_debugfs)
    }
}

/// Mount point and file system type: the 5th field, and the first after the lone dash that ends the
/// optional fields.
fn parse_line(line: &str) -> Option<(&str, &str)> {
    let (mount, source) = line.split_once(" - ")?;
    Some((mount.split(' ').nth(4)?, source.split(' ').next()?))
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (escaped, plain)| {
        text.replace(escaped, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::MountPoints;

    #[test]
    fn finds_mount_points_by_type() {
        let mounts = MountPoints::parse(
            b"22 1 0:20 / /sys rw,relatime shared:7 - sysfs sysfs rw\n\
              23 22 0:7 / /sys/kernel/debug rw shared:8 master:1 - debugfs d rw\n\
              24 22 0:21 / /my\\040bpf rw - bpf bpf rw,mode=700\n\
              25 22 0:21 / /later rw - bpf bpf rw\n\
              \xff\xfe not UTF-8 - tracefs x rw\n\
              broken line\n",
        );
        assert_eq!(mounts.bpffs.as_deref(), Some("/my bpf"));
        assert_eq!(mounts.tracefs, None);
        assert_eq!(
            mounts.tracing_dir().as_deref(),
            Some("/sys/kernel/debug/tracing")
        );
        assert_eq!(mounts.securityfs, None);
    }

    #[test]
    fn tracefs_of_its_own_comes_first() {
        let text = "1 1 0:7 / /d rw - debugfs d rw\n2 1 0:8 / /t rw - tracefs t rw\n";
        assert_eq!(
            MountPoints::parse(text.as_bytes()).tracing_dir().as_deref(),
            Some("/t")
        );
        assert_eq!(MountPoints::default().tracing_dir(), None);
    }
}
