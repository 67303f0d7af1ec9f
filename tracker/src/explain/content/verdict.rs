//! From two looks at a page to a verdict: pure.

use std::sync::LazyLock;

use uffd::{Backing, PAGE_SIZE};
use xxhash_rust::xxh3::xxh3_64;

use super::{PageImage, PageLook};
use crate::explain::model::{ReportVerdict, UnknownReason};

/// The lowest hash of a page: what is below stands for pages without content.
pub(super) const LOWEST_HASH: u64 = 2;

/// The hash of a page.
pub(in crate::explain) fn hash(page: &[u8]) -> u64 {
    xxh3_64(page).max(LOWEST_HASH)
}

/// The hash of a page of zeroes.
pub(super) fn zero() -> u64 {
    static ZERO: LazyLock<u64> = LazyLock::new(|| hash(&[0; PAGE_SIZE as usize]));
    *ZERO
}

/// Whether a report was true.
pub(in crate::explain) fn verdict(
    before: PageImage,
    now: PageLook,
    backing: Backing,
) -> (ReportVerdict, Option<UnknownReason>) {
    // Anonymous memory that is not there reads as zeroes; of a file it is what the file has.
    let anonymous = backing == Backing::Anon;
    let before = match before {
        PageImage::Hole if anonymous => PageImage::Content(zero()),
        before => before,
    };
    let now = match now {
        PageLook::Hole if anonymous => PageLook::Content(zero()),
        now => now,
    };
    let unknown = |reason| (ReportVerdict::Unknown, Some(reason));
    match (before, now) {
        (_, PageLook::Not(reason)) => unknown(reason),
        (_, PageLook::Unmapped) => (ReportVerdict::Gone, None),
        (PageImage::Content(_), PageLook::Hole) => (ReportVerdict::Gone, None),
        (PageImage::None, _) => unknown(UnknownReason::NoImageBefore),
        (PageImage::Hole, _) => unknown(UnknownReason::NotMapped),
        (PageImage::Content(before), PageLook::Content(now)) if before == now => {
            (ReportVerdict::Unchanged, None)
        }
        (PageImage::Content(_), PageLook::Content(now)) if now == zero() => {
            (ReportVerdict::Zeroed, None)
        }
        (PageImage::Content(_), PageLook::Content(_)) => (ReportVerdict::Changed, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_make_a_verdict() {
        use ReportVerdict::{Changed, Gone, Unchanged, Unknown, Zeroed};
        let (a, b) = (PageImage::Content(7), PageLook::Content(8));
        let zeroes = PageLook::Content(zero());
        let cases = [
            (a, b, Changed, None),
            (a, PageLook::Content(7), Unchanged, None),
            (a, zeroes, Zeroed, None),
            (PageImage::Content(zero()), zeroes, Unchanged, None),
            (
                PageImage::None,
                b,
                Unknown,
                Some(UnknownReason::NoImageBefore),
            ),
            (a, PageLook::Unmapped, Gone, None),
            (PageImage::None, PageLook::Unmapped, Gone, None),
            (
                a,
                PageLook::Not(UnknownReason::Swapped),
                Unknown,
                Some(UnknownReason::Swapped),
            ),
        ];
        for (before, now, expected, reason) in cases {
            for backing in Backing::ALL {
                assert_eq!(verdict(before, now, backing), (expected, reason));
            }
        }
        // What is not there is zero in anonymous memory, and elsewhere what the file has.
        assert_eq!(verdict(a, PageLook::Hole, Backing::Anon), (Zeroed, None));
        assert_eq!(verdict(a, PageLook::Hole, Backing::Shmem), (Gone, None));
        assert_eq!(verdict(PageImage::Hole, b, Backing::Anon), (Changed, None));
        assert_eq!(
            verdict(PageImage::Hole, b, Backing::File),
            (Unknown, Some(UnknownReason::NotMapped))
        );
    }
}
