//! Which processes to track, as a person writes it.

use std::fmt;
use std::str::FromStr;

/// Longest name of a process, in bytes: `TASK_COMM_LEN` without its NUL.
const LONGEST_COMM: usize = 15;

/// Selects processes, by their pid, name or control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessSelector {
    /// `pid:1234`: this one.
    Pid(u32),
    /// `comm:redis-server`: all of this name (`/proc/PID/comm`).
    Comm(String),
    /// `cgroup:/system.slice/redis.service`: all in this control group or below it. Without a slash
    /// at the end; empty for the root.
    Cgroup(String),
}

/// What selectors look at, besides the number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectorTraits {
    /// Its name; any bytes.
    pub comm: Vec<u8>,
    /// Path of its control group; empty if nobody asks for it, and for a kernel thread.
    pub cgroup: Vec<u8>,
}

impl ProcessSelector {
    /// Whether it selects a process.
    pub fn matches(&self, pid: u32, traits: &SelectorTraits) -> bool {
        match self {
            Self::Pid(wanted) => *wanted == pid,
            Self::Comm(comm) => traits.comm == comm.as_bytes(),
            Self::Cgroup(path) => {
                let below = traits.cgroup.strip_prefix(path.as_bytes());
                below.is_some_and(|rest| match rest {
                    [] => !path.is_empty(),
                    [first, ..] => *first == b'/',
                })
            }
        }
    }
}

impl fmt::Display for ProcessSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "pid:{pid}"),
            Self::Comm(comm) => write!(f, "comm:{comm}"),
            Self::Cgroup(path) if path.is_empty() => f.write_str("cgroup:/"),
            Self::Cgroup(path) => write!(f, "cgroup:{path}"),
        }
    }
}

/// Why a text is no selector, with what would be right.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// It begins with a word that selects by nothing.
    #[error(
        "there is no selector `{0}:`; write pid:1234, comm:redis-server \
         or cgroup:/system.slice/redis.service"
    )]
    UnknownKind(String),
    /// It is no pid.
    #[error("`{0}` is not the number of a process; write for example pid:1234")]
    Pid(String),
    /// It is empty.
    #[error("a name is missing; write for example comm:redis-server")]
    NoName,
    /// It is the path of a program.
    #[error(
        "`{0}` is a path, but a process has only a name (/proc/PID/comm): \
         write for example comm:{name}",
        name = short(base(.0))
    )]
    Path(String),
    /// It is longer than any name.
    #[error(
        "`{0}` is longer than the {LONGEST_COMM} bytes that the kernel keeps of a name; \
         write comm:{name}",
        name = short(.0)
    )]
    LongName(String),
    /// The path of a control group begins with where they are mounted; this follows.
    #[error(
        "the path of a control group begins below /sys/fs/cgroup, as in /proc/PID/cgroup: \
         write cgroup:/{0}"
    )]
    CgroupMount(String),
    /// It is no path.
    #[error(
        "`{0}` is not the path of a control group (as in /proc/PID/cgroup); \
         write for example cgroup:/{0}"
    )]
    Cgroup(String),
}

impl FromStr for ProcessSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        match text.split_once(':') {
            Some(("pid", pid)) => parse_pid(pid),
            Some(("comm", comm)) => parse_comm(comm),
            Some(("cgroup", path)) => parse_cgroup(path),
            Some((other, _)) => Err(SelectorError::UnknownKind(other.to_owned())),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() => {
                parse_pid(text)
            }
            None => parse_comm(text),
        }
    }
}

fn parse_pid(text: &str) -> Result<ProcessSelector, SelectorError> {
    // The kernel's pid_t is signed.
    let pid = text.parse::<i32>().ok().filter(|pid| *pid > 0);
    pid.and_then(|pid| u32::try_from(pid).ok())
        .map(ProcessSelector::Pid)
        .ok_or_else(|| SelectorError::Pid(text.to_owned()))
}

fn parse_comm(text: &str) -> Result<ProcessSelector, SelectorError> {
    if text.is_empty() {
        return Err(SelectorError::NoName);
    }
    if text.contains('/') {
        return Err(SelectorError::Path(text.to_owned()));
    }
    if text.len() > LONGEST_COMM {
        return Err(SelectorError::LongName(text.to_owned()));
    }
    Ok(ProcessSelector::Comm(text.to_owned()))
}

/// The last part of a path.
fn base(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// As the kernel cuts a name.
fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(LONGEST_COMM)]
}

fn parse_cgroup(text: &str) -> Result<ProcessSelector, SelectorError> {
    if let Some(below) = text.strip_prefix("/sys/fs/cgroup") {
        let below = below.trim_start_matches('/').to_owned();
        return Err(SelectorError::CgroupMount(below));
    }
    if !text.starts_with('/') {
        return Err(SelectorError::Cgroup(text.to_owned()));
    }
    let path = text.trim_end_matches('/').to_owned();
    Ok(ProcessSelector::Cgroup(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(text: &str) -> ProcessSelector {
        text.parse().unwrap()
    }

    #[test]
    fn the_short_forms_mean_the_long_ones() {
        assert_eq!(parse("1234"), parse("pid:1234"));
        assert_eq!(parse("redis-server"), parse("comm:redis-server"));
        assert_eq!(parse("comm:1234"), ProcessSelector::Comm("1234".to_owned()));
        for text in ["pid:7", "comm:a:b", "cgroup:/", "cgroup:/a/b"] {
            assert_eq!(parse(text).to_string(), text);
        }
        assert_eq!(parse("cgroup:/a/").to_string(), "cgroup:/a");
    }

    #[test]
    fn what_is_wrong_says_what_is_right() {
        for (wrong, hint) in [
            ("pid:x", "pid:1234"),
            ("pid:-1", "pid:1234"),
            ("0", "pid:1234"),
            ("4294967297", "pid:1234"),
            ("", "comm:"),
            ("comm:", "comm:"),
            ("comm:qemu-system-x86_64", "write comm:qemu-system-x86"),
            ("/usr/bin/qemu-system-x86_64", "comm:qemu-system-x86"),
            ("cgroup:a", "cgroup:/a"),
            ("cgroup:/sys/fs/cgroup/a", "write cgroup:/a"),
            ("unit:redis", "cgroup:/"),
        ] {
            let error = wrong.parse::<ProcessSelector>().unwrap_err().to_string();
            assert!(error.contains(hint), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_cgroup_is_matched_by_whole_names() {
        let within = |selector: &str, path: &str| {
            let traits = SelectorTraits {
                cgroup: path.into(),
                ..SelectorTraits::default()
            };
            parse(selector).matches(1, &traits)
        };
        assert!(within("cgroup:/a", "/a") && within("cgroup:/a", "/a/b"));
        assert!(!within("cgroup:/a", "/ab") && !within("cgroup:/a/b", "/a"));
        assert!(within("cgroup:/", "/") && within("cgroup:/", "/a"));
        assert!(!within("cgroup:/", ""), "not known, or of the kernel");
    }

    #[test]
    fn a_name_is_matched_as_a_whole() {
        let redis = SelectorTraits {
            comm: b"redis".to_vec(),
            ..SelectorTraits::default()
        };
        assert!(parse("redis").matches(1, &redis) && parse("1").matches(1, &redis));
        assert!(!parse("redis-server").matches(1, &redis) && !parse("2").matches(1, &redis));
    }
}
