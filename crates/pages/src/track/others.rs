//! Userfaultfds that the process opens itself while it is tracked.
//!
//! Ours is in the way of theirs: registering tracked memory fails with EBUSY. From outside one sees
//! that there is one, not which memory it is for. So everything is given back for a while, and what
//! the process has not taken by then is tracked again. Many programs close theirs when it fails,
//! and try again later: then for as long as they go on trying.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use uffd::{CreationSight, UffdError, unless_unseen};

use super::creations::OwnCreations;

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
    creations: Option<OwnCreations>,
    sight: Option<OwnUffdSight>,
    given_back: GivenBackTime,
}

/// What is seen of the userfaultfds that a process opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnUffdSight {
    /// Each, when it is created.
    Created(CreationSight),
    /// Only one that is held when a round looks.
    Held {
        /// Why not more.
        reason: String,
    },
}

/// A userfaultfd of the process's own that memory is given back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnUffd {
    /// It was created, and may be closed again.
    Created,
    /// It is held.
    Held {
        /// The number of its descriptor.
        descriptor: i32,
    },
}

/// What a round has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GiveBack {
    /// What it begins for; none if it goes on.
    pub begins: Option<OwnUffd>,
    /// How long from now on.
    pub left: Duration,
}

/// A descriptor and its inode: numbers are reused, and the inode tells one userfaultfd from the
/// next.
type OtherUffd = (i32, u64);

impl OtherUffds {
    /// What the process holds now counts as known. `stands_in_the_way`: of what it registers.
    pub(super) fn open(pid: u32, stands_in_the_way: bool) -> Result<Self, UffdError> {
        let (creations, sight) = match stands_in_the_way.then(|| OwnCreations::watch(pid)) {
            None => (None, None),
            Some(Ok(creations)) => {
                let sight = OwnUffdSight::Created(creations.sight());
                (Some(creations), Some(sight))
            }
            Some(Err(error)) if error.is_unseen() => return Err(error),
            Some(Err(error)) => {
                let reason = error.to_string();
                (None, Some(OwnUffdSight::Held { reason }))
            }
        };
        Ok(Self {
            pid,
            known: look(pid)?,
            next: Instant::now(),
            creations,
            sight,
            given_back: GivenBackTime::default(),
        })
    }

    /// Whether the process holds any.
    pub(super) fn any(&self) -> bool {
        !self.known.is_empty()
    }

    /// What is seen of those that it opens, if ours stand in the way of them.
    pub(super) const fn sight(&self) -> Option<&OwnUffdSight> {
        self.sight.as_ref()
    }

    /// Readable once the process has created one, until the next round; none while memory is given
    /// back anyway.
    pub(super) fn created(&self) -> Option<BorrowedFd<'_>> {
        let creations = self.creations.as_ref()?;
        let given_back = self.given_back.left(Instant::now()).is_some();
        (!given_back).then(|| creations.news())
    }

    /// Whether everything is to be given back in this round.
    pub(super) fn give_back(&mut self) -> Result<Option<GiveBack>, UffdError> {
        let was_over = self.given_back.left(Instant::now()).is_none();
        let mut seen = None;
        for at in self.creations.iter().flat_map(OwnCreations::take) {
            self.given_back.attempt(at);
            seen = Some(OwnUffd::Created);
        }
        if let Some(descriptor) = self.news()? {
            self.given_back.attempt(Instant::now());
            seen = seen.or(Some(OwnUffd::Held { descriptor }));
        }
        let left = self.given_back.left(Instant::now());
        Ok(left.map(|left| GiveBack {
            begins: seen.filter(|_| was_over),
            left,
        }))
    }

    /// The descriptor of one that was not there at the last look.
    fn news(&mut self) -> Result<Option<i32>, UffdError> {
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

/// Until when memory is given back.
///
/// A program that tries again does so after about the time that it waited before, so it has its
/// memory for twice that.
#[derive(Debug, Default)]
struct GivenBackTime {
    last: Option<Instant>,
    until: Option<Instant>,
}

impl GivenBackTime {
    /// A first attempt says nothing about the next one.
    const SHORTEST: Duration = Duration::from_secs(1);
    /// A program that tries less often finds its memory taken each time.
    const LONGEST: Duration = Duration::from_secs(600);

    /// The process has tried to have one of its own.
    fn attempt(&mut self, at: Instant) {
        let waited = self
            .last
            .replace(at)
            .map(|last| at.saturating_duration_since(last));
        let lasts = (waited.unwrap_or_default() * 2).clamp(Self::SHORTEST, Self::LONGEST);
        self.until = self.until.max(Some(at + lasts));
    }

    /// How much longer.
    fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
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
        let mut others = OtherUffds::open(pid, false).unwrap();
        let _after = Userfaultfd::open_user_mode_only().unwrap();
        // Other tests of this process may open some, too.
        assert!(others.any() && others.give_back().unwrap().is_some());
        let mut nobody = OtherUffds::open(u32::MAX - 1, false).unwrap();
        assert_eq!(nobody.give_back().unwrap(), None);
    }

    #[test]
    fn who_tries_at_regular_times_has_its_memory_at_the_third_time_at_the_latest() {
        for period in [Duration::from_millis(300), Duration::from_secs(250)] {
            let (start, mut time) = (Instant::now(), GivenBackTime::default());
            assert_eq!(time.left(start), None);
            time.attempt(start);
            assert_eq!(time.left(start), Some(GivenBackTime::SHORTEST));
            time.attempt(start + period);
            assert!(time.left(start + period * 2).is_some(), "{period:?}");
            assert!(time.left(start + period * 10).is_none(), "{period:?}");
        }
    }

    #[test]
    fn several_attempts_at_once_count_as_what_the_first_did() {
        let (start, mut time) = (Instant::now(), GivenBackTime::default());
        let (second, ms) = (Duration::from_secs(1), Duration::from_millis(1));
        time.attempt(start);
        time.attempt(start + 30 * second);
        time.attempt(start + 30 * second + ms);
        assert!(time.left(start + 89 * second).is_some());
        time.attempt(start + 5000 * second);
        let left = time.left(start + 5000 * second);
        assert_eq!(left, Some(GivenBackTime::LONGEST));
    }
}
