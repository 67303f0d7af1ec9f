//! The words that labels, tables and reports use for what is counted.

use tracker_ebpf::{FaultEntry, MarkerEvent, RecordLoss, TableCause, TableLevel, WpMode};

/// `mode=`
#[must_use]
pub const fn mode(mode: WpMode) -> &'static str {
    match mode {
        WpMode::Sync => "sync",
        WpMode::Async => "async",
    }
}

/// `entry=`
#[must_use]
pub const fn entry(entry: FaultEntry) -> &'static str {
    match entry {
        FaultEntry::Pte => "pte",
        FaultEntry::Marker => "marker",
        FaultEntry::Huge => "huge",
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
pub const fn level(level: TableLevel) -> &'static str {
    match level {
        TableLevel::Pte => "pte",
        TableLevel::Pmd => "pmd",
        TableLevel::Pud => "pud",
    }
}

/// `cause=`
#[must_use]
pub const fn cause(cause: TableCause) -> &'static str {
    match cause {
        TableCause::Fault => "fault",
        TableCause::Arm => "arm",
        TableCause::Scan => "scan",
        TableCause::Copy => "copy",
        TableCause::Fork => "fork",
        TableCause::Move => "move",
        TableCause::Populate => "populate",
        TableCause::Other => "other",
    }
}

/// `reason=` why a hook had no record to count in.
#[must_use]
pub const fn loss(loss: RecordLoss) -> &'static str {
    match loss {
        RecordLoss::VmaRecordsFull => "vma_records_full",
        RecordLoss::MmRecordsFull => "mm_records_full",
        RecordLoss::MapUpdateFailed => "map_update_failed",
        RecordLoss::VmaUnknown => "vma_unknown",
    }
}
