//! What can have changed a page that is reported clean: pure.

use pages::track::TrackedMapping;
use uffd::Backing;

use super::model::MissCandidate;

/// The candidates, the likeliest first. Private anonymous memory has one owner, so that only a
/// device, or the kernel on behalf of one, writes past its page tables. Other memory keeps its
/// protection when it is emptied, which changes hugetlb memory and what is private of a file.
pub(super) fn candidates(mapping: &TrackedMapping, zeroed: bool) -> Vec<MissCandidate> {
    use MissCandidate::{Emptied, HolePunch, PinnedBuffer, SecondMapping};
    match mapping.backing {
        Backing::Anon if zeroed => vec![Emptied, PinnedBuffer],
        Backing::Anon => vec![PinnedBuffer],
        _ if zeroed => vec![HolePunch, Emptied, SecondMapping, PinnedBuffer],
        _ => vec![SecondMapping, Emptied, PinnedBuffer],
    }
}
