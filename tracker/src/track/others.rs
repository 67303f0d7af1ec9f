//! Userfaultfds that the process opens itself while it is tracked.
//!
//! Ours is in the way of theirs: registering tracked memory fails with EBUSY. From outside one sees that there is one,
//! not for which memory it is meant; so all is given back for an interval, and what it has not taken by then is tracked
//! again.

use std::collections::BTreeSet;

use crate::uffd::{self, Result};

/// Those that are known.
#[derive(Debug)]
pub struct Others {
    pid: u32,
    known: BTreeSet<i32>,
}

impl Others {
    /// What the process holds now is no news.
    pub fn open(pid: u32) -> Result<Self> {
        let known = numbers(pid)?;
        Ok(Self { pid, known })
    }

    /// The number of one that was not there at the last look.
    pub fn news(&mut self) -> Result<Option<i32>> {
        let now = numbers(self.pid)?;
        let new = now.difference(&self.known).next().copied();
        self.known = now;
        Ok(new)
    }
}

/// A process that is gone, or whose first thread is, has none to be seen.
fn numbers(pid: u32) -> Result<BTreeSet<i32>> {
    let found = uffd::userfaultfds(pid)?.unwrap_or_default();
    Ok(found.into_iter().map(|(number, _)| number).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::uffd::Userfaultfd;

    #[test]
    fn only_what_is_new_is_news() {
        let pid = std::process::id();
        let _before = Userfaultfd::open_user_mode_only().unwrap();
        let mut others = Others::open(pid).unwrap();
        let _after = Userfaultfd::open_user_mode_only().unwrap();
        // Other tests of this process may open some, too.
        assert!(others.news().unwrap().is_some());
        assert_eq!(Others::open(u32::MAX - 1).unwrap().news().unwrap(), None);
    }
}
