//! Reading the content of pages while they are armed.

use std::ops::Range;

use uffd::{MemoryFile, PAGE_SIZE, PMD_SIZE, Pagemap, PagemapEntry, UffdError};

use super::PageLook;
use super::store::CHUNK;
use super::verdict::hash;
use crate::explain::model::{PageSampling, UnknownReason};

/// Reads pages of a process, a piece of one chunk at a time.
pub(in crate::explain) struct PageReader {
    pagemap: Pagemap,
    memory: MemoryFile,
    before: Box<[PagemapEntry; CHUNK]>,
    after: Box<[PagemapEntry; CHUNK]>,
    buffer: Vec<u8>,
}

/// What pages are that are not armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explain) enum UnarmedPages {
    /// Written since.
    Written,
    /// Those of a file were never armed: in a private mapping only the process's own copies are
    /// written.
    Unwritten,
    /// Read as they are: they may be written at any moment.
    Read,
}

/// What becomes of a page, by its entry before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadPlan {
    Read,
    Skip(PageLook),
}

impl PageReader {
    pub(in crate::explain) fn open(pid: u32) -> Result<Self, UffdError> {
        Ok(Self {
            pagemap: Pagemap::open(pid)?,
            memory: MemoryFile::open(pid)?,
            before: Box::new([PagemapEntry::default(); CHUNK]),
            after: Box::new([PagemapEntry::default(); CHUNK]),
            buffer: vec![0; PMD_SIZE as usize],
        })
    }

    /// Looks at every page of a piece; returns the looks and how many bytes were hashed.
    pub(in crate::explain) fn piece(
        &mut self,
        piece: &Range<u64>,
        unarmed: UnarmedPages,
        sampling: PageSampling,
    ) -> Result<(Vec<PageLook>, u64), UffdError> {
        let pages = ((piece.end - piece.start) / PAGE_SIZE) as usize;
        read_entries(&self.pagemap, piece, &mut self.before[..pages])?;
        let address = |index: usize| piece.start + index as u64 * PAGE_SIZE;
        let plan = |index: usize| {
            let sampled = is_sampled(sampling, address(index));
            plan(self.before[index], unarmed, sampled)
        };
        let mut looks = vec![PageLook::Hole; pages];
        let (mut index, mut hashed) = (0, 0);
        while index < pages {
            if let ReadPlan::Skip(look) = plan(index) {
                looks[index] = look;
                index += 1;
                continue;
            }
            let mut rest = index..pages;
            let end = rest.find(|index| plan(*index) != ReadPlan::Read);
            let end = end.unwrap_or(pages);
            let buffer = &mut self.buffer[..(end - index) * PAGE_SIZE as usize];
            let bytes = self.memory.read(address(index), buffer)?;
            let contents = buffer.chunks(PAGE_SIZE as usize);
            for (page, look) in contents.zip(&mut looks[index..end]) {
                *look = PageLook::Content(hash(page));
            }
            looks[index + bytes / PAGE_SIZE as usize..end]
                .fill(PageLook::Not(UnknownReason::Unreadable));
            hashed += bytes as u64;
            index = end;
        }
        read_entries(&self.pagemap, piece, &mut self.after[..pages])?;
        for (look, after) in looks.iter_mut().zip(self.after.iter()) {
            *look = confirmed(*look, *after, unarmed);
        }
        Ok((looks, hashed))
    }

    /// The entries of the piece that was looked at last, from before its pages were read and from
    /// after.
    pub(in crate::explain) fn entries(
        &self,
    ) -> impl Iterator<Item = (PagemapEntry, PagemapEntry)> + use<'_> {
        self.before.iter().copied().zip(self.after.iter().copied())
    }
}

/// Reads entries; beyond what can be read nothing is mapped.
fn read_entries(
    pagemap: &Pagemap,
    range: &Range<u64>,
    entries: &mut [PagemapEntry],
) -> Result<(), UffdError> {
    let read = pagemap.read(range, entries)?;
    entries[read..].fill(PagemapEntry::default());
    Ok(())
}

fn plan(before: PagemapEntry, unarmed: UnarmedPages, sampled: bool) -> ReadPlan {
    ReadPlan::Skip(if !sampled {
        PageLook::Not(UnknownReason::NotSampled)
    } else if before.present() && (before.armed() || unarmed == UnarmedPages::Read) {
        return ReadPlan::Read;
    } else if before.of_file() && unarmed == UnarmedPages::Unwritten {
        PageLook::Hole
    } else if before.present() {
        PageLook::Not(UnknownReason::WrittenAgain)
    } else if before.swapped() && !before.is_marker() {
        PageLook::Not(UnknownReason::Swapped)
    } else {
        PageLook::Hole
    })
}

/// A look at content holds if the page is still armed after it was read, unless nobody asks for
/// that.
fn confirmed(look: PageLook, after: PagemapEntry, unarmed: UnarmedPages) -> PageLook {
    let holds = after.present() && (after.armed() || unarmed == UnarmedPages::Read);
    match look {
        PageLook::Content(_) if !holds => PageLook::Not(UnknownReason::WrittenAgain),
        look => look,
    }
}

/// Whether a page's content is looked at.
fn is_sampled(sampling: PageSampling, page: u64) -> bool {
    // The high bits of a multiplicative hash (Fibonacci hashing): neighbours, and pages at equal
    // distances, are chosen independently.
    let spread = (page / PAGE_SIZE).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    sampling.one_of <= 1 || spread.is_multiple_of(sampling.one_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const ARMED: u64 = 1 << 57;

    fn entry(bits: u64) -> PagemapEntry {
        PagemapEntry(bits)
    }

    #[test]
    fn only_what_is_there_and_armed_is_read() {
        let skip = |reason| ReadPlan::Skip(PageLook::Not(reason));
        let cases = [
            (PRESENT | ARMED, true, ReadPlan::Read),
            (PRESENT | ARMED, false, skip(UnknownReason::NotSampled)),
            (PRESENT, true, skip(UnknownReason::WrittenAgain)),
            (SWAPPED | ARMED, true, skip(UnknownReason::Swapped)),
            (0, true, ReadPlan::Skip(PageLook::Hole)),
        ];
        for (bits, sampled, expected) in cases {
            let plan = plan(entry(bits), UnarmedPages::Written, sampled);
            assert_eq!(plan, expected, "{bits:#x}");
        }
    }

    #[test]
    fn what_the_file_has_in_a_private_mapping_was_not_written() {
        const OF_FILE: u64 = 1 << 61;
        let plan = |bits| plan(entry(bits), UnarmedPages::Unwritten, true);
        let again = PageLook::Not(UnknownReason::WrittenAgain);
        assert_eq!(plan(PRESENT | OF_FILE), ReadPlan::Skip(PageLook::Hole));
        assert_eq!(plan(PRESENT | OF_FILE | ARMED), ReadPlan::Read);
        assert_eq!(plan(PRESENT), ReadPlan::Skip(again), "a copy");
    }

    #[test]
    fn content_counts_if_the_page_is_still_armed() {
        let look = PageLook::Content(7);
        let confirmed = |look, after| confirmed(look, after, UnarmedPages::Written);
        assert_eq!(confirmed(look, entry(PRESENT | ARMED)), look);
        let again = PageLook::Not(UnknownReason::WrittenAgain);
        for bits in [PRESENT, ARMED, 0] {
            assert_eq!(confirmed(look, entry(bits)), again);
        }
        assert_eq!(confirmed(PageLook::Hole, entry(PRESENT)), PageLook::Hole);
    }

    #[test]
    fn what_is_read_as_it_is_need_not_be_armed() {
        let (as_it_is, look) = (UnarmedPages::Read, PageLook::Content(7));
        assert_eq!(plan(entry(PRESENT), as_it_is, true), ReadPlan::Read);
        assert_ne!(plan(entry(SWAPPED), as_it_is, true), ReadPlan::Read);
        assert_eq!(confirmed(look, entry(PRESENT), as_it_is), look);
        assert_ne!(confirmed(look, entry(0), as_it_is), look);
    }

    #[test]
    fn a_sample_is_about_as_large_as_it_says() {
        let sampling = PageSampling { one_of: 8 };
        let pages = (0..1_u64 << 16).map(|page| page * PAGE_SIZE);
        let sampled = pages.filter(|page| is_sampled(sampling, *page)).count();
        assert!(sampled.abs_diff(1 << 13) < 1 << 9, "{sampled}");
        assert!(is_sampled(PageSampling { one_of: 1 }, 0x1000));
    }
}
