//! The book of mappings that were tried in vain.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SessionEvent;
use super::model::TrackedMapping;
use super::untracked::{UntrackedDetail, UntrackedMapping, UntrackedReason};
use super::vmas::FoundMapping;
use uffd::{PAGE_SIZE, pages_in};

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

    /// Adds those of `vmas` that have more than `most` bytes, or take more memory than we may still
    /// use; returns what is news.
    pub(super) fn pass_over_large(
        &mut self,
        vmas: &[&FoundMapping],
        most: u64,
        left: impl FnOnce() -> Option<u64>,
    ) -> Vec<SessionEvent> {
        /// Less than this is not worth asking for.
        const LITTLE: u64 = 4 << 20;
        let bytes = |found: &FoundMapping| found.mapping.end - found.mapping.start;
        let needed: u64 = vmas.iter().map(|found| arming_takes(bytes(found))).sum();
        let left = if needed > LITTLE { left() } else { None };
        // The rest is for whatever else we do.
        let mut spare = left.map_or(u64::MAX, |left| left / 2);
        let mut news = Vec::new();
        for found in vmas {
            let (bytes, needs) = (bytes(found), arming_takes(bytes(found)));
            let detail = if bytes > most {
                UntrackedDetail::Limit(most)
            } else if needs > spare {
                UntrackedDetail::Memory(spare)
            } else {
                spare -= needs;
                continue;
            };
            if !self.0.contains_key(&found.mapping.start) {
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

/// What arming a mapping takes at most: 8 bytes of page tables, or of hashes, for each page. Whoever
/// arms is charged for it (`GFP_PGTABLE_USER` has `__GFP_ACCOUNT`, which charges the task that
/// allocates).
const fn arming_takes(bytes: u64) -> u64 {
    bytes / PAGE_SIZE * 8
}

#[cfg(test)]
mod tests {
    use uffd::Backing;

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
        let both: Vec<_> = vmas.iter().collect();
        assert_eq!(all.pass_over_large(&both, 0x1000, || None).len(), 1);
        assert_eq!(all.pass_over_large(&both, 0x1000, || None), []);
        assert!(all.skips(&vmas[1], true) && !all.skips(&vmas[0], false));
        all.keep(&vmas);
        assert_eq!(all.iter().count(), 1);
        all.keep(&[found(0x8000, 0x3000)]);
        assert_eq!(all.iter().count(), 0);
    }

    #[test]
    fn what_arming_takes_is_no_more_than_half_of_what_is_left() {
        const GIB: u64 = 1 << 30;
        let vmas = [
            found(0, 3 * GIB),
            found(4 * GIB, 9 * GIB),
            found(16 * GIB, 2 * GIB),
        ];
        let vmas: Vec<_> = vmas.iter().collect();
        let passed_over = |left| {
            let mut all = PassedOverMappings::default();
            all.pass_over_large(&vmas, u64::MAX, || left);
            all.iter()
                .map(|it| it.mapping.start / GIB)
                .collect::<Vec<_>>()
        };
        assert_eq!(passed_over(None), [0_u64; 0]);
        // 6, 18 and 4 MiB of tables.
        assert_eq!(passed_over(Some(56 << 20)), [0_u64; 0]);
        assert_eq!(passed_over(Some(40 << 20)), [4]);
        assert_eq!(passed_over(Some(12 << 20)), [4, 16]);
    }
}
