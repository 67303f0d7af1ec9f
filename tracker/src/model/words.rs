//! The words that labels, tables and reports use for what is counted.

use tracker_ebpf::{Backing, Cause, Entry, Level, Loss, MarkerEvent, Mode};

/// `mode=`
#[must_use]
pub const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Sync => "sync",
        Mode::Async => "async",
    }
}

/// `entry=`
#[must_use]
pub const fn entry(entry: Entry) -> &'static str {
    match entry {
        Entry::Pte => "pte",
        Entry::Marker => "marker",
        Entry::Huge => "huge",
    }
}

/// `event=`
#[must_use]
pub const fn marker_event(event: MarkerEvent) -> &'static str {
    match event {
        MarkerEvent::Installed => "installed",
        MarkerEvent::Consumed => "consumed",
        MarkerEvent::Dropped => "dropped",
    }
}

/// `level=` of page tables.
#[must_use]
pub const fn level(level: Level) -> &'static str {
    match level {
        Level::Pte => "pte",
        Level::Pmd => "pmd",
        Level::Pud => "pud",
    }
}

/// `cause=`
#[must_use]
pub const fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Fault => "fault",
        Cause::Arm => "arm",
        Cause::Scan => "scan",
        Cause::Copy => "copy",
        Cause::Fork => "fork",
        Cause::Move => "move",
        Cause::Populate => "populate",
        Cause::Other => "other",
    }
}

/// `backing=`
#[must_use]
pub const fn backing(backing: Backing) -> &'static str {
    match backing {
        Backing::Anon => "anon",
        Backing::Shmem => "shmem",
        Backing::Hugetlb => "hugetlb",
        Backing::File => "file",
    }
}

/// `reason=` why a hook had no record to count in.
#[must_use]
pub const fn loss(loss: Loss) -> &'static str {
    match loss {
        Loss::VmaRecordsFull => "vma_records_full",
        Loss::MmRecordsFull => "mm_records_full",
        Loss::MapUpdateFailed => "map_update_failed",
        Loss::VmaUnknown => "vma_unknown",
    }
}
