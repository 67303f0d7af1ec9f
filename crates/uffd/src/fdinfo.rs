//! What `/proc/PID/fdinfo/N` tells about a userfaultfd (fs/userfaultfd.c `userfaultfd_show_fdinfo`).

use std::fs;

use super::error::is_gone;
use super::{UffdError, UffdFeatures};

/// State of a userfaultfd, read from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UffdFdInfo {
    /// Faults queued and not yet read by the handler.
    pub pending: u64,
    /// Faults queued, read or not, whose threads wait.
    pub total: u64,
    /// The features it was opened with.
    pub features: UffdFeatures,
}

impl UffdFdInfo {
    /// Parses the file; `None` if it is not that of a userfaultfd.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let decimal = |key| std::str::from_utf8(field(text, key)?).ok()?.parse().ok();
        let mut api = field(text, b"API:")?.splitn(3, |&byte| byte == b':');
        let (_version, features) = (api.next()?, std::str::from_utf8(api.next()?).ok()?);
        Some(Self {
            pending: decimal(b"pending:")?,
            total: decimal(b"total:")?,
            features: UffdFeatures(u64::from_str_radix(features, 16).ok()?),
        })
    }
}

fn field<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    text.split(|&byte| byte == b'\n')
        .find_map(|line| Some(line.strip_prefix(key)?.trim_ascii()))
}

/// Every userfaultfd a process holds, by its number there. A tracker may hold that of another process, so a
/// process with uffd-wp VMAs can have none.
pub fn userfaultfds(pid: u32) -> Result<Vec<(i32, UffdFdInfo)>, UffdError> {
    let directory = format!("/proc/{pid}/fd");
    let list = || UffdError::of_process(pid, "cannot list", &directory);
    let entries = fs::read_dir(&directory).map_err(list())?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(list())?;
        // A descriptor that is closed meanwhile is none; one that may not be read may be one.
        let target = match fs::read_link(entry.path()) {
            Err(error) if is_gone(&error) => continue,
            target => {
                target.map_err(|e| UffdError::system("cannot read links in", &directory, e))?
            }
        };
        if target.as_os_str() != "anon_inode:[userfaultfd]" {
            continue;
        }
        let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let path = format!("/proc/{pid}/fdinfo/{number}");
        let text = match fs::read(&path) {
            Err(error) if is_gone(&error) => continue,
            text => text.map_err(|e| UffdError::system("cannot read", &path, e))?,
        };
        let info = UffdFdInfo::parse(&text).ok_or_else(|| UffdError::format(&path, &text))?;
        found.push((number, info));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::fd::{AsFd as _, AsRawFd as _};

    use super::*;
    use crate::Userfaultfd;
    use proptest::prelude::*;

    const CAPTURED: &[u8] = b"pos:\t0\nflags:\t02004002\nmnt_id:\t16\nino:\t2063\n\
        pending:\t1\ntotal:\t3\nAPI:\taa:8000a000:8000000000000bf\n";

    #[test]
    fn captured() {
        let info = UffdFdInfo::parse(CAPTURED).unwrap();
        assert_eq!((info.pending, info.total), (1, 3));
        assert!(info.features.is_async());
    }

    #[test]
    fn another_kind_of_file() {
        assert_eq!(UffdFdInfo::parse(b"pos:\t0\nflags:\t02\n"), None);
        assert_eq!(UffdFdInfo::parse(b""), None);
    }

    #[test]
    fn our_own_is_found_by_number_and_features() {
        let fd = Userfaultfd::open_user_mode_only().unwrap();
        fd.enable(UffdFeatures::EVENT_REMAP).unwrap();
        let number = fd.as_fd().as_raw_fd();
        let all = userfaultfds(std::process::id()).unwrap();
        let (_, info) = all.iter().find(|(n, _)| *n == number).unwrap();
        assert!(info.features.contains(UffdFeatures::EVENT_REMAP) && !info.features.is_async());
    }

    #[test]
    fn a_process_that_never_was() {
        assert!(userfaultfds(u32::MAX).unwrap_err().is_gone());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_not(text: Vec<u8>) {
            let _ = UffdFdInfo::parse(&text);
        }
    }
}
