//! What can be counted here, and how well: the unit of "a family whose hook is absent is not
//! exported".

use std::{collections::BTreeMap, fmt};

use tracker_ebpf::{FaultEntry, MarkerEvent, TableLevel, WpMode};

use super::words;

/// One thing that hooks count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// `uffdwp_faults_total`.
    Fault(WpMode, FaultEntry),
    /// `uffdwp_markers_total`.
    Marker(MarkerEvent),
    /// `uffdwp_page_tables_allocated_total`.
    TableAllocated(TableLevel),
    /// `uffdwp_page_tables_freed_total`.
    TableFreed(TableLevel),
    /// `uffdwp_process_fault_wait_seconds_total` and `uffdwp_fault_wait_seconds`.
    FaultWait,
    /// `uffdwp_arm_seconds`.
    ArmTime,
    /// `uffdwp_scan_seconds`.
    ScanTime,
    /// `uffdwp_pages`.
    Pages,
}

/// How well a signal can be counted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// To the unit.
    Exact,
    /// Not to the unit, for this reason.
    Estimated(String),
    /// Not at all: its series are not exported.
    Absent,
}

/// What can be counted on this kernel and with this privilege. A signal that was not set is
/// absent: nothing is silently zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Availability(BTreeMap<Signal, Exactness>);

impl Availability {
    /// Everything, exactly.
    #[must_use]
    pub fn all_exact() -> Self {
        Self(
            Signal::all()
                .into_iter()
                .map(|s| (s, Exactness::Exact))
                .collect(),
        )
    }

    /// Says how well `signal` is counted.
    pub fn set(&mut self, signal: Signal, exactness: Exactness) {
        self.0.insert(signal, exactness);
    }

    /// How well `signal` is counted.
    #[must_use]
    pub fn get(&self, signal: Signal) -> &Exactness {
        self.0.get(&signal).unwrap_or(&Exactness::Absent)
    }

    /// Whether `signal` is counted at all.
    #[must_use]
    pub fn has(&self, signal: Signal) -> bool {
        *self.get(signal) != Exactness::Absent
    }
}

impl Signal {
    /// All signals.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::FaultWait, Self::ArmTime, Self::ScanTime, Self::Pages];
        for mode in WpMode::ALL {
            all.extend(FaultEntry::ALL.map(|entry| Self::Fault(mode, entry)));
        }
        all.extend(MarkerEvent::ALL.map(Self::Marker));
        all.extend(TableLevel::ALL.map(Self::TableAllocated));
        all.extend(TableLevel::ALL.map(Self::TableFreed));
        all
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(mode, entry) => {
                write!(
                    f,
                    "mode={} entry={}",
                    words::mode(*mode),
                    words::entry(*entry)
                )
            }
            Self::Marker(event) => write!(f, "event={}", words::marker_event(*event)),
            Self::TableAllocated(level) => write!(f, "level={}", words::level(*level)),
            Self::TableFreed(level) => write!(f, "level={}", words::level(*level)),
            Self::FaultWait => f.write_str("waiting time"),
            Self::ArmTime => f.write_str("arm time"),
            Self::ScanTime => f.write_str("scan time"),
            Self::Pages => f.write_str("pages"),
        }
    }
}
