//! Userfaultfds that the process opens itself while it is tracked.
//!
//! Ours is in the way of theirs: registering tracked memory fails with EBUSY. From outside one sees
//! that there is one, not which memory it is for. So everything is given back for one interval, and
//! what it has not taken by then is tracked again.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use uffd::{UffdError, unless_unseen};

/// Looking takes at most one part in so many of the time: a process can have 100,000 descriptors.
const SHARE: u32 = 50;
/// A look that takes no longer is taken in every round.
const CHEAP: Duration = Duration::from_millis(1);
/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(60);

/// Those known so far.
#[derive(Debug)]
pub(super) struct OtherUffds {
    pid: u32,
    known: BTreeSet<OtherUffd>,
    next: Instant,
}

/// A descriptor and its inode: numbers are reused, and the inode tells one userfaultfd from the
/// next.
type OtherUffd = (i32, u64);

impl OtherUffds {
    /// What the process holds now counts as known.
    pub(super) fn open(pid: u32) -> Result<Self, UffdError> {
        Ok(Self {
            pid,
            known: look(pid)?,
            next: Instant::now(),
        })
    }

    /// Whether the process holds any.
    pub(super) fn any(&self) -> bool {
        !self.known.is_empty()
    }

    /// The descriptor of one that was not there at the last look.
    pub(super) fn news(&mut self) -> Result<Option<i32>, UffdError> {
        let began = Instant::now();
        if began < self.next {
            return Ok(None);
        }
        let now = look(self.pid)?;
        let new = now.difference(&self.known).next().copied();
        self.known = now;
        let took = began.elapsed();
        if took > CHEAP {
            self.next = began + (took * SHARE).min(LONGEST);
        }
        Ok(new.map(|(number, _)| number))
    }
}

/// Of a process that is gone, or whose first thread is, none can be seen.
fn look(pid: u32) -> Result<BTreeSet<OtherUffd>, UffdError> {
    let found = unless_unseen(uffd::userfaultfds(pid))?.unwrap_or_default();
    let inode = |number: i32| {
        // If it was closed meanwhile it does not matter which one it was.
        fs::metadata(format!("/proc/{pid}/fd/{number}")).map_or(0, |meta| meta.ino())
    };
    Ok(found
        .into_iter()
        .map(|held| (held.number, inode(held.number)))
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use uffd::Userfaultfd;

    #[test]
    fn only_what_is_new_is_news() {
        let pid = std::process::id();
        let _before = Userfaultfd::open_user_mode_only().unwrap();
        let mut others = OtherUffds::open(pid).unwrap();
        let _after = Userfaultfd::open_user_mode_only().unwrap();
        // Other tests of this process may open some, too.
        assert!(others.any() && others.news().unwrap().is_some());
        assert_eq!(
            OtherUffds::open(u32::MAX - 1).unwrap().news().unwrap(),
            None
        );
    }
}
