//! What can have changed a page that is reported clean: pure.

use uffd::Backing;

use super::model::Candidate;
use pages::track::TrackedMapping;

/// The candidates, the likeliest first. Private anonymous memory has one owner, so that only a device, or the kernel for
/// one, writes past its page tables. Other memory keeps its protection when it is emptied, which changes hugetlb memory and
/// what is private of a file.
#[must_use]
pub fn candidates(mapping: &TrackedMapping, zeroed: bool) -> Vec<Candidate> {
    match mapping.backing {
        Backing::Anon if zeroed => vec![Candidate::Emptied, Candidate::PinnedBuffer],
        Backing::Anon => vec![Candidate::PinnedBuffer],
        _ if zeroed => vec![
            Candidate::HolePunch,
            Candidate::Emptied,
            Candidate::SecondMapping,
            Candidate::PinnedBuffer,
        ],
        _ => vec![
            Candidate::SecondMapping,
            Candidate::Emptied,
            Candidate::PinnedBuffer,
        ],
    }
}
