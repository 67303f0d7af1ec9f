//! What can be counted here, and how well: the unit of "a family whose hook is absent is not
//! exported".

use std::collections::BTreeMap;

use tracker_ebpf::{Entry, Level, MarkerEvent, Mode};

/// One thing that hooks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// `uffdwp_faults_total`.
    Fault(Mode, Entry),
    /// `uffdwp_markers_total`.
    Marker(MarkerEvent),
    /// `uffdwp_page_tables_allocated_total`.
    TableAllocated(Level),
    /// `uffdwp_page_tables_freed_total`.
    TableFreed(Level),
    /// `uffdwp_process_fault_wait_seconds_total` and `uffdwp_fault_wait_seconds`.
    FaultWait,
    /// `uffdwp_arm_seconds`.
    ArmTime,
    /// `uffdwp_scan_seconds`.
    ScanTime,
    /// `uffdwp_pages`.
    Pages,
}
