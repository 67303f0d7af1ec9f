//! What can have changed a page that is reported clean: pure.

use uffd::Backing;

use super::model::MissCandidate;
use pages::track::TrackedMapping;

/// The candidates, the likeliest first. Private anonymous memory has one owner, so that only a device, or the kernel for
/// one, writes past its page tables. Other memory keeps its protection when it is emptied, which changes hugetlb memory and
/// what is private of a file.
#[must_use]
pub fn candidates(mapping: &TrackedMapping, zeroed: bool) -> Vec<MissCandidate> {
    match mapping.backing {
        Backing::Anon if zeroed => vec![MissCandidate::Emptied, MissCandidate::PinnedBuffer],
        Backing::Anon => vec![MissCandidate::PinnedBuffer],
        _ if zeroed => vec![
            MissCandidate::HolePunch,
            MissCandidate::Emptied,
            MissCandidate::SecondMapping,
            MissCandidate::PinnedBuffer,
        ],
        _ => vec![
            MissCandidate::SecondMapping,
            MissCandidate::Emptied,
            MissCandidate::PinnedBuffer,
        ],
    }
}
