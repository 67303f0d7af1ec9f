//! The book of mappings that were tried in vain.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SessionEvent;
use super::model::TrackedMapping;
use super::untracked::{UntrackedDetail, UntrackedMapping, UntrackedReason};
use super::vmas::FoundMapping;
use uffd::pages_in;

/// The mappings of one address space that cannot be tracked, by start.
#[derive(Debug, Default)]
pub(super) struct PassedOverMappings(BTreeMap<u64, UntrackedMapping>);

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

    /// Adds those of `vmas` that have more than `most` bytes; returns what is news.
    pub(super) fn pass_over_large<'a>(
        &mut self,
        vmas: impl Iterator<Item = &'a FoundMapping>,
        most: u64,
    ) -> Vec<SessionEvent> {
        let mut news = Vec::new();
        for found in vmas {
            let bytes = found.mapping.end - found.mapping.start;
            if bytes > most && !self.0.contains_key(&found.mapping.start) {
                let detail = UntrackedDetail::Limit(most);
                news.extend(self.add(&found.mapping, UntrackedReason::TooLarge, detail));
            }
        }
        news
    }

    /// Adds a mapping; returns the event, if it is news and such as is told of each mapping.
    pub(super) fn add(
        &mut self,
        mapping: &Arc<TrackedMapping>,
        reason: UntrackedReason,
        detail: UntrackedDetail,
    ) -> Option<SessionEvent> {
        let passed_over = UntrackedMapping {
            mapping: mapping.clone(),
            reason,
            detail,
            pages: pages_in(&(mapping.start..mapping.end)),
        };
        let before = self.0.insert(mapping.start, passed_over.clone());
        (before.is_none() && reason.is_named()).then_some(SessionEvent::PassedOver(passed_over))
    }

    /// The one that begins at an address.
    pub(super) fn get(&self, start: u64) -> Option<&UntrackedMapping> {
        self.0.get(&start)
    }

    /// Takes out the mapping that holds an address.
    pub(super) fn free(&mut self, address: u64) -> Option<Arc<TrackedMapping>> {
        let (start, passed_over) = self.0.range(..=address).next_back()?;
        let start = (address < passed_over.mapping.end).then_some(*start)?;
        self.0.remove(&start).map(|freed| freed.mapping)
    }

    /// Copies of those that are told each.
    pub(super) fn iter(&self) -> impl Iterator<Item = UntrackedMapping> {
        let named = |it: &&UntrackedMapping| it.reason.is_named();
        self.0.values().filter(named).cloned()
    }
}

#[cfg(test)]
mod tests {
    use uffd::{Backing, PAGE_SIZE};

    use super::super::vmas::MappingLook;
    use super::*;

    fn found(start: u64, bytes: u64) -> FoundMapping {
        let mapping = Arc::new(TrackedMapping {
            start,
            end: start + bytes,
            name: String::new(),
            backing: Backing::Anon,
            page_size: PAGE_SIZE,
            shared: None,
        });
        FoundMapping {
            mapping,
            look: MappingLook::Writable,
        }
    }

    #[test]
    fn what_somebody_holds_is_tried_again_and_told_once() {
        let vma = found(0x1000, 0x3000);
        let mut all = PassedOverMappings::default();
        assert!(!all.skips(&vma, false));
        let add = |all: &mut PassedOverMappings| {
            let reason = UntrackedReason::OtherUserfaultfd;
            all.add(&vma.mapping, reason, UntrackedDetail::None)
        };
        let told = add(&mut all);
        let text = told.map(|event| event.to_string()).unwrap_or_default();
        assert!(text.starts_with("passed over 0x1000-0x4000 anon: it belongs"));
        assert_eq!(add(&mut all), None);
        assert!(all.skips(&vma, false) && !all.skips(&vma, true));
        assert_eq!(all.free(0x4000), None);
        assert_eq!(all.free(0x3000), Some(vma.mapping));
    }

    #[test]
    fn what_is_too_large_stays_so_while_it_is_there() {
        let vmas = [found(0x1000, 0x1000), found(0x8000, 0x2000)];
        let mut all = PassedOverMappings::default();
        assert_eq!(all.pass_over_large(vmas.iter(), 0x1000).len(), 1);
        assert_eq!(all.pass_over_large(vmas.iter(), 0x1000), []);
        assert!(all.skips(&vmas[1], true) && !all.skips(&vmas[0], false));
        all.keep(&vmas);
        assert_eq!(all.iter().count(), 1);
        all.keep(&[found(0x8000, 0x3000)]);
        assert_eq!(all.iter().count(), 0);
    }
}
