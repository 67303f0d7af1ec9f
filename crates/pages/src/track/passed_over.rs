//! Mappings that cannot be tracked, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustix::io::Errno;
use uffd::UffdError;

use super::SessionEvent;
use super::model::TrackedMapping;
use super::vmas::FoundMapping;

/// A mapping that cannot be tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOverMapping {
    /// Which one.
    pub mapping: Arc<TrackedMapping>,
    /// Why it cannot be tracked.
    pub reason: PassedOverReason,
}

/// Why a mapping cannot be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassedOverReason {
    /// EBUSY: it is registered with another userfaultfd, which may give it back.
    Registered,
    /// EINVAL: the kernel cannot write-protect its pages.
    Unprotectable,
    /// EPERM: its file cannot be written to.
    Unwritable,
    /// The strategy takes memory for every page of it, there or not.
    TooLarge {
        /// Bytes of the mapping.
        bytes: u64,
        /// The most that is tracked.
        most: u64,
    },
}

impl PassedOverReason {
    /// What an answer of the kernel says against tracking a mapping in this way, if it does.
    pub(super) fn of(error: &UffdError) -> Option<Self> {
        match error.errno()? {
            Errno::BUSY => Some(Self::Registered),
            Errno::INVAL => Some(Self::Unprotectable),
            Errno::PERM => Some(Self::Unwritable),
            _ => None,
        }
    }

    /// Whether it may pass: somebody has the mapping who may give it back.
    pub(super) const fn may_pass(self) -> bool {
        matches!(self, Self::Registered)
    }
}

/// The mappings of one address space that cannot be tracked, by start.
#[derive(Debug, Default)]
pub(super) struct PassedOverMappings(BTreeMap<u64, PassedOverMapping>);

impl PassedOverMappings {
    /// Forgets mappings that are no longer there as they were.
    pub(super) fn keep(&mut self, vmas: &[FoundMapping]) {
        self.0.retain(|start, passed_over| {
            let at = vmas.binary_search_by_key(start, |found| found.mapping.start);
            at.is_ok_and(|index| vmas[index].mapping == passed_over.mapping)
        });
    }

    /// Whether a mapping is not to be tried. `again`: what somebody may have given back is.
    pub(super) fn skips(&self, found: &FoundMapping, again: bool) -> bool {
        let passed_over = self.0.get(&found.mapping.start);
        passed_over.is_some_and(|passed_over| !(again && passed_over.reason.may_pass()))
    }

    /// Adds the mappings of more than `most` bytes; returns what is news.
    pub(super) fn pass_over_large(
        &mut self,
        vmas: &[FoundMapping],
        most: u64,
    ) -> Vec<SessionEvent> {
        let mut news = Vec::new();
        for found in vmas.iter().filter(|found| found.wanted) {
            let bytes = found.mapping.end - found.mapping.start;
            if bytes > most && !self.0.contains_key(&found.mapping.start) {
                let reason = PassedOverReason::TooLarge { bytes, most };
                news.extend(self.add(&found.mapping, reason));
            }
        }
        news
    }

    /// Adds a mapping; returns the event, if it is news.
    pub(super) fn add(
        &mut self,
        mapping: &Arc<TrackedMapping>,
        reason: PassedOverReason,
    ) -> Option<SessionEvent> {
        let passed_over = PassedOverMapping {
            mapping: mapping.clone(),
            reason,
        };
        let before = self.0.insert(mapping.start, passed_over.clone());
        before
            .is_none()
            .then_some(SessionEvent::PassedOver(passed_over))
    }

    /// Takes out the mapping that holds an address.
    pub(super) fn free(&mut self, address: u64) -> Option<Arc<TrackedMapping>> {
        let (start, passed_over) = self.0.range(..=address).next_back()?;
        let start = (address < passed_over.mapping.end).then_some(*start)?;
        self.0.remove(&start).map(|freed| freed.mapping)
    }

    /// Copies of all.
    pub(super) fn iter(&self) -> impl Iterator<Item = PassedOverMapping> {
        self.0.values().cloned()
    }
}

impl fmt::Display for PassedOverMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "passed over {}: {}", self.mapping.place(), self.reason)
    }
}

impl fmt::Display for PassedOverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered => f.write_str(
                "it belongs to a userfaultfd already (userfaultfd cannot be nested); \
                 `tracker agent` still observes it",
            ),
            Self::Unprotectable => {
                f.write_str("this kernel cannot write-protect memory of this kind")
            }
            Self::Unwritable => {
                f.write_str("the file is not open for writing, or sealed against it")
            }
            Self::TooLarge { bytes, most } => write!(
                f,
                "larger than --max-mapping {} GiB: arming it would take up to {} MiB of page \
                 tables, whatever is in it",
                most >> 30,
                bytes >> 29
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use uffd::{Backing, PAGE_SIZE};

    use super::*;

    fn found(start: u64, bytes: u64) -> FoundMapping {
        let mapping = Arc::new(TrackedMapping {
            start,
            end: start + bytes,
            name: String::new(),
            backing: Backing::Anon,
            page_size: PAGE_SIZE,
        });
        FoundMapping {
            mapping,
            wanted: true,
        }
    }

    #[test]
    fn what_somebody_holds_is_tried_again_and_told_once() {
        let vma = found(0x1000, 0x3000);
        let mut all = PassedOverMappings::default();
        assert!(!all.skips(&vma, false));
        let told = all.add(&vma.mapping, PassedOverReason::Registered);
        let text = told.map(|event| event.to_string()).unwrap_or_default();
        assert!(text.starts_with("passed over 0x1000-0x4000 anon: it belongs"));
        assert_eq!(all.add(&vma.mapping, PassedOverReason::Registered), None);
        assert!(all.skips(&vma, false) && !all.skips(&vma, true));
        assert_eq!(all.free(0x4000), None);
        assert_eq!(all.free(0x3000), Some(vma.mapping));
    }

    #[test]
    fn what_is_too_large_stays_so_while_it_is_there() {
        let vmas = [found(0x1000, 0x1000), found(0x8000, 0x2000)];
        let mut all = PassedOverMappings::default();
        assert_eq!(all.pass_over_large(&vmas, 0x1000).len(), 1);
        assert_eq!(all.pass_over_large(&vmas, 0x1000), []);
        assert!(all.skips(&vmas[1], true) && !all.skips(&vmas[0], false));
        all.keep(&vmas);
        assert_eq!(all.iter().count(), 1);
        all.keep(&[found(0x8000, 0x3000)]);
        assert_eq!(all.iter().count(), 0);
    }
}
