//! From what the kernel tells of a call to what was asked for: pure.

use std::ops::Range;

use rustix::io::Errno;
use tracker_ebpf::kernel::{
    PM_SCAN_WP_MATCHING, UFFDIO_CONTINUE_MODE_WP, UFFDIO_COPY_MODE_WP, UFFDIO_REGISTER_MODE_WP,
    UFFDIO_WRITEPROTECT_MODE_WP, VM_UFFD_WP,
};
use tracker_ebpf::{CALL_WORDS, CallKind, CallRecord};
use uffd::{PAGE_SIZE, PageCategories, UffdFeatures};

use crate::explain::PlaceId;
use crate::explain::model::{CallArguments, CallerThread, ScanArguments, TrackerCall};

/// A call as it was told; `None` if it is of a kind that we do not know, or has nothing to do with
/// tracking.
pub(in crate::explain) fn decode(
    record: &CallRecord,
    caller: CallerThread,
    place: Option<PlaceId>,
) -> Option<TrackerCall> {
    let kind = CallKind::from_number(record.kind)?;
    let returned = record.result as i64;
    let done = done(kind, record);
    if kind == CallKind::ClearRefs && !clears_soft_dirty(record.words[0]) {
        return None;
    }
    Some(TrackerCall {
        began: record.began,
        ended: record.ended,
        what: arguments(kind, record),
        // A command returns an int, of which the upper half says nothing.
        // What a call has done before it failed it tells in its struct.
        outcome: match i32::try_from(returned) {
            Ok(..0) if done > 0 => Ok(done),
            Ok(error @ ..0) => Err(Errno::from_raw_os_error(-error)),
            _ => Ok(record.result),
        },
        features: UffdFeatures(record.features.into()),
        caller,
        cpu: record.cpu,
        place,
    })
}

/// Bytes that a call has filled before it failed (`uffdio_copy.copy` and the like); 0 if it has not
/// failed, or in another way: the kernel returns EAGAIN for a part, and may leave the field as it was
/// for other errors.
fn done(kind: CallKind, record: &CallRecord) -> u64 {
    let [_, _, _, fourth, fifth, ..] = record.words;
    let told = match kind {
        CallKind::Copy | CallKind::Move => fifth,
        CallKind::ZeroPage | CallKind::Continue | CallKind::Poison => fourth,
        _ => 0,
    };
    let in_part = record.result as i64 == -i64::from(Errno::AGAIN.raw_os_error());
    match i64::try_from(told) {
        Ok(told) if in_part => told.unsigned_abs(),
        _ => 0,
    }
}

fn arguments(kind: CallKind, record: &CallRecord) -> CallArguments {
    let words = &record.words;
    let [first, second, third, fourth, ..] = *words;
    // How long what it was given is, as far as it was done.
    let part = |asked: u64| match done(kind, record) {
        0 => asked,
        done => done.min(asked),
    };
    let range = || span(first, part(second));
    match kind {
        CallKind::Scan => CallArguments::Scan(scan(words)),
        CallKind::Register => CallArguments::Register {
            range: range(),
            protects: third & UFFDIO_REGISTER_MODE_WP != 0,
        },
        CallKind::Unregister => CallArguments::Unregister(range()),
        CallKind::WriteProtect if third & UFFDIO_WRITEPROTECT_MODE_WP != 0 => {
            CallArguments::Arm(range())
        }
        CallKind::WriteProtect => CallArguments::Resolve(range()),
        // Destination, source, length, mode.
        CallKind::Copy | CallKind::Move => CallArguments::Fill {
            kind,
            range: span(first, part(third)),
            armed: kind == CallKind::Copy && fourth & UFFDIO_COPY_MODE_WP != 0,
        },
        CallKind::ZeroPage | CallKind::Continue | CallKind::Poison => CallArguments::Fill {
            kind,
            range: range(),
            armed: kind == CallKind::Continue && third & UFFDIO_CONTINUE_MODE_WP != 0,
        },
        CallKind::Pagemap => {
            const ENTRY: u64 = size_of::<uffd::PagemapEntry>() as u64;
            let pages = record.result.min(second) / ENTRY;
            CallArguments::Pagemap(span(
                (first / ENTRY).saturating_mul(PAGE_SIZE),
                pages.saturating_mul(PAGE_SIZE),
            ))
        }
        CallKind::ClearRefs => CallArguments::ClearSoftDirty,
        CallKind::Wait => CallArguments::Wait {
            page: first & !(PAGE_SIZE - 1),
            protected: third & VM_UFFD_WP != 0,
        },
    }
}

/// Whether what is written to `clear_refs` clears soft-dirty bits (`CLEAR_REFS_SOFT_DIRTY`): a 4,
/// with white space around it, as the kernel reads it.
fn clears_soft_dirty(written: u64) -> bool {
    let bytes = written.to_le_bytes();
    let end = bytes.iter().position(|byte| *byte == 0);
    let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    text.trim_ascii() == b"4"
}

/// size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, all of, any of, returned
fn scan(words: &[u64; CALL_WORDS]) -> ScanArguments {
    let [
        _,
        flags,
        start,
        end,
        walk_end,
        _,
        room,
        most,
        inverted,
        all,
        any,
        returned,
    ] = *words;
    ScanArguments {
        range: start..end.max(start),
        walk_end: walk_end.clamp(start, end.max(start)),
        room,
        most,
        inverted: PageCategories(inverted),
        all_of: PageCategories(all),
        any_of: PageCategories(any),
        returned: PageCategories(returned),
        arms: flags & PM_SCAN_WP_MATCHING != 0,
    }
}

fn span(start: u64, length: u64) -> Range<u64> {
    start..start.saturating_add(length)
}
