//! What can have changed a page that is reported clean: pure.

use pages::track::TrackedMapping;
use uffd::Backing;

use super::model::MissCandidate;

/// How a page is now that changed and is not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChangedPage {
    /// It is all zeroes.
    pub zeroed: bool,
    /// An event of this round tells that it was taken out of the page tables.
    pub zapped: bool,
}

/// The candidates, the likeliest first.
///
/// - Private anonymous memory has one owner: only a device, or the kernel on behalf of one, writes
///   past its page tables, and where it is emptied older kernels do not tell.
/// - Other private memory keeps its protection when it is emptied, and then shows what its file
///   has.
/// - Shared memory is there for others to write to, zeroes, too; emptying a mapping of it changes
///   nothing. A hole takes pages out of all page tables, and they show only if somebody reads them
///   then: without an event that tells, it is the less likely one.
pub(super) fn candidates(mapping: &TrackedMapping, page: ChangedPage) -> Vec<MissCandidate> {
    use MissCandidate::{Emptied, HolePunch, PinnedBuffer, SecondMapping};
    let ChangedPage { zeroed, zapped } = page;
    match mapping.backing {
        Backing::Anon if zeroed => vec![Emptied, PinnedBuffer],
        Backing::Anon => vec![PinnedBuffer],
        _ if mapping.shared.is_none() && zeroed => {
            vec![Emptied, HolePunch, SecondMapping, PinnedBuffer]
        }
        _ if mapping.shared.is_none() => vec![Emptied, SecondMapping, PinnedBuffer],
        _ if zeroed && zapped => vec![HolePunch, SecondMapping, PinnedBuffer],
        _ if zeroed => vec![SecondMapping, HolePunch, PinnedBuffer],
        _ => vec![SecondMapping, PinnedBuffer],
    }
}

#[cfg(test)]
mod tests {
    use pages::track::SharedPlace;

    use super::*;
    use crate::explain::sample::mapping_of;

    fn mapping(backing: Backing, is_shared: bool) -> TrackedMapping {
        TrackedMapping {
            shared: is_shared.then_some(SharedPlace {
                device: (0, 1),
                inode: 7,
                offset: 0,
            }),
            ..mapping_of(0x10_0000..0x20_0000, backing)
        }
    }

    #[test]
    fn the_likeliest_of_a_mapping_comes_first() {
        use MissCandidate::{Emptied, HolePunch, PinnedBuffer, SecondMapping};
        let [written, zeroed, punched] = [(false, false), (true, false), (true, true)]
            .map(|(zeroed, zapped)| ChangedPage { zeroed, zapped });
        // A database that zeroes buffers from several processes punches no holes.
        for (backing, is_shared, page, first) in [
            (Backing::Shmem, true, zeroed, SecondMapping),
            (Backing::Shmem, true, written, SecondMapping),
            (Backing::Shmem, true, punched, HolePunch),
            (Backing::File, true, zeroed, SecondMapping),
            (Backing::Hugetlb, true, punched, HolePunch),
            (Backing::Hugetlb, false, zeroed, Emptied),
            (Backing::File, false, written, Emptied),
            (Backing::Anon, false, zeroed, Emptied),
            (Backing::Anon, false, written, PinnedBuffer),
        ] {
            let told = candidates(&mapping(backing, is_shared), page);
            assert_eq!(
                told.first(),
                Some(&first),
                "{backing:?} {is_shared} {page:?}"
            );
        }
    }
}
