//! Reading the content of pages while they are armed.

use std::ops::Range;

use uffd::{MemoryFile, PAGE_SIZE, PMD_SIZE, Pagemap, PagemapEntry, UffdError};

use super::PageLook;
use super::store::CHUNK;
use super::verdict::hash;
use crate::explain::model::{PageSampling, UnknownReason};

/// Reads pages of a process, a piece of one chunk at a time.
pub(super) struct PageReader {
    pagemap: Pagemap,
    memory: MemoryFile,
    before: Box<[PagemapEntry; CHUNK]>,
    after: Box<[PagemapEntry; CHUNK]>,
    buffer: Vec<u8>,
}

/// What pages of a file are that are not armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnarmedFilePages {
    /// Written since.
    Written,
    /// Never armed: in a private mapping only the process's own copies are written.
    Unwritten,
}

/// What becomes of a page, by its entry before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadPlan {
    Read,
    Skip(PageLook),
}

impl PageReader {
    pub(super) fn open(pid: u32) -> Result<Self, UffdError> {
        Ok(Self {
            pagemap: Pagemap::open(pid)?,
            memory: MemoryFile::open(pid)?,
            before: Box::new([PagemapEntry::default(); CHUNK]),
            after: Box::new([PagemapEntry::default(); CHUNK]),
            buffer: vec![0; PMD_SIZE as usize],
        })
    }

    /// Looks at every page of a piece; returns the looks and how many bytes were hashed.
    pub(super) fn piece(
        &mut self,
        piece: &Range<u64>,
        unarmed: UnarmedFilePages,
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
            *look = confirmed(*look, *after);
        }
        Ok((looks, hashed))
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

fn plan(before: PagemapEntry, unarmed: UnarmedFilePages, sampled: bool) -> ReadPlan {
    ReadPlan::Skip(if !sampled {
        PageLook::Not(UnknownReason::NotSampled)
    } else if before.present() && before.armed() {
        return ReadPlan::Read;
    } else if before.of_file() && unarmed == UnarmedFilePages::Unwritten {
        PageLook::Hole
    } else if before.present() {
        PageLook::Not(UnknownReason::WrittenAgain)
    } else if before.swapped() && !before.is_marker() {
        PageLook::Not(UnknownReason::Swapped)
    } else {
        PageLook::Hole
    })
}

/// A look at content holds if the page is still armed after it was read.
fn confirmed(look: PageLook, after: PagemapEntry) -> PageLook {
    match look {
        PageLook::Content(_) if !(after.present() && after.armed()) => {
            PageLook::Not(UnknownReason::WrittenAgain)
        }
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
            let plan = plan(entry(bits), UnarmedFilePages::Written, sampled);
            assert_eq!(plan, expected, "{bits:#x}");
        }
    }

    #[test]
    fn what_the_file_has_in_a_private_mapping_was_not_written() {
        const OF_FILE: u64 = 1 << 61;
        let plan = |bits| plan(entry(bits), UnarmedFilePages::Unwritten, true);
        let again = PageLook::Not(UnknownReason::WrittenAgain);
        assert_eq!(plan(PRESENT | OF_FILE), ReadPlan::Skip(PageLook::Hole));
        assert_eq!(plan(PRESENT | OF_FILE | ARMED), ReadPlan::Read);
        assert_eq!(plan(PRESENT), ReadPlan::Skip(again), "a copy");
    }

    #[test]
    fn content_counts_if_the_page_is_still_armed() {
        let look = PageLook::Content(7);
        assert_eq!(confirmed(look, entry(PRESENT | ARMED)), look);
        let again = PageLook::Not(UnknownReason::WrittenAgain);
        for bits in [PRESENT, ARMED, 0] {
            assert_eq!(confirmed(look, entry(bits)), again);
        }
        assert_eq!(confirmed(PageLook::Hole, entry(PRESENT)), PageLook::Hole);
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
