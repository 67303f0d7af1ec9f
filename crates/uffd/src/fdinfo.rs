//! What `/proc/PID/fdinfo/N` tells about a userfaultfd (fs/userfaultfd.c
//! `userfaultfd_show_fdinfo`).

use std::fs;

use crate::error::is_gone;
use crate::{UffdError, UffdFeatures};

/// A userfaultfd that a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldUffd {
    /// Its number in that process.
    pub number: i32,
    /// The features that it was opened with.
    pub features: UffdFeatures,
}

/// Every userfaultfd that a process holds (`/proc/PID/fd`, `/proc/PID/fdinfo`). A tracker may hold
/// that of another process, so a process whose memory is registered can hold none.
///
/// # Errors
/// [`UffdError::Gone`]: the process is gone. EACCES or EPERM: it may not be traced.
pub fn userfaultfds(pid: u32) -> Result<Vec<HeldUffd>, UffdError> {
    let directory = format!("/proc/{pid}/fd");
    let list = || UffdError::of_process(pid, "cannot list", &directory);
    let mut held = Vec::new();
    for entry in fs::read_dir(&directory).map_err(list())? {
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
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let path = format!("/proc/{pid}/fdinfo/{number}");
        let text = match fs::read(&path) {
            Err(error) if is_gone(&error) => continue,
            text => text.map_err(|e| UffdError::system("cannot read", &path, e))?,
        };
        let features = parse(&text).ok_or_else(|| UffdError::format(&path, &text))?;
        held.push(HeldUffd { number, features });
    }
    Ok(held)
}

/// The features in the file; `None` if it is not that of a userfaultfd.
fn parse(text: &[u8]) -> Option<UffdFeatures> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let api = lines.find_map(|line| line.strip_prefix(b"API:"))?;
    // Version, features, ioctls.
    let features = api.trim_ascii().splitn(3, |&byte| byte == b':').nth(1)?;
    let features = std::str::from_utf8(features).ok()?;
    u64::from_str_radix(features, 16).ok().map(UffdFeatures)
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
        assert_eq!(parse(CAPTURED), Some(UffdFeatures(0x8000_a000)));
    }

    #[test]
    fn another_kind_of_file() {
        assert_eq!(parse(b"pos:\t0\nflags:\t02\n"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn our_own_is_found_by_number_and_features() {
        let fd = Userfaultfd::open_user_mode_only().unwrap();
        fd.enable(UffdFeatures::EVENT_REMAP).unwrap();
        let number = fd.as_fd().as_raw_fd();
        let all = userfaultfds(std::process::id()).unwrap();
        let ours = all.iter().find(|held| held.number == number).unwrap();
        assert!(ours.features.contains(UffdFeatures::EVENT_REMAP) && !ours.features.is_async());
    }

    #[test]
    fn a_process_that_never_was() {
        assert!(userfaultfds(u32::MAX).unwrap_err().is_gone());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_not(text: Vec<u8>) {
            let _ = parse(&text);
        }
    }
}
