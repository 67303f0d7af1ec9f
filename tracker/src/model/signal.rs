//! What can be counted here, and how well: what is not counted is not exported.

use std::collections::BTreeMap;
use std::fmt;

use tracker_ebpf::{FaultEntry, MarkerEvent, TableLevel, WpMode};

/// One thing that hooks count. Metric families name the signals that they show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CountSignal {
    /// Write-protect faults of this mode that found this.
    Fault(WpMode, FaultEntry),
    /// What happened to pte markers.
    Marker(MarkerEvent),
    /// Page tables allocated.
    TableAllocated(TableLevel),
    /// Page tables freed.
    TableFreed(TableLevel),
    /// How long faults waited for a handler.
    FaultWait,
    /// How long arming took.
    ArmTime,
    /// How long `PAGEMAP_SCAN` took.
    ScanTime,
    /// Pages armed and written, as the background scan sees them.
    Pages,
}

impl CountSignal {
    /// Every kind of fault.
    pub const FAULTS: [Self; 6] = [
        Self::Fault(WpMode::Sync, FaultEntry::Pte),
        Self::Fault(WpMode::Sync, FaultEntry::Marker),
        Self::Fault(WpMode::Sync, FaultEntry::Huge),
        Self::Fault(WpMode::Async, FaultEntry::Pte),
        Self::Fault(WpMode::Async, FaultEntry::Marker),
        Self::Fault(WpMode::Async, FaultEntry::Huge),
    ];
    /// Everything that happens to markers.
    pub const MARKERS: [Self; 3] = [
        Self::Marker(MarkerEvent::Installed),
        Self::Marker(MarkerEvent::Consumed),
        Self::Marker(MarkerEvent::Dropped),
    ];
    /// Allocations at every level.
    pub const TABLES_ALLOCATED: [Self; 3] = [
        Self::TableAllocated(TableLevel::Pte),
        Self::TableAllocated(TableLevel::Pmd),
        Self::TableAllocated(TableLevel::Pud),
    ];
    /// Frees at every level.
    pub const TABLES_FREED: [Self; 3] = [
        Self::TableFreed(TableLevel::Pte),
        Self::TableFreed(TableLevel::Pmd),
        Self::TableFreed(TableLevel::Pud),
    ];
    const SINGLE: [Self; 4] = [Self::FaultWait, Self::ArmTime, Self::ScanTime, Self::Pages];

    /// All signals, in the order in which they are told.
    pub fn all() -> impl Iterator<Item = Self> {
        (Self::FAULTS.into_iter())
            .chain(Self::MARKERS)
            .chain(Self::TABLES_ALLOCATED)
            .chain(Self::TABLES_FREED)
            .chain(Self::SINGLE)
    }
}

/// Which part of its family it is.
impl fmt::Display for CountSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(mode, entry) => {
                write!(f, "mode={} entry={}", mode.as_str(), entry.as_str())
            }
            Self::Marker(event) => write!(f, "event={}", event.as_str()),
            Self::TableAllocated(level) | Self::TableFreed(level) => {
                write!(f, "level={}", level.as_str())
            }
            Self::FaultWait => f.write_str("waiting time"),
            Self::ArmTime => f.write_str("arm time"),
            Self::ScanTime => f.write_str("scan time"),
            Self::Pages => f.write_str("pages"),
        }
    }
}

/// How well a signal can be counted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountExactness {
    /// To the unit.
    Exact,
    /// Not to the unit, for this reason.
    Estimated(String),
    /// Not at all: its series are not exported.
    Absent,
}

/// What can be counted on this kernel and with this privilege. A signal that was not set is absent:
/// nothing is silently zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountAvailability(BTreeMap<CountSignal, CountExactness>);

impl CountAvailability {
    /// Everything can be counted, exactly.
    #[must_use]
    pub fn all_exact() -> Self {
        Self(
            CountSignal::all()
                .map(|s| (s, CountExactness::Exact))
                .collect(),
        )
    }

    /// Says how well `signal` is counted.
    pub fn set(&mut self, signal: CountSignal, exactness: CountExactness) {
        self.0.insert(signal, exactness);
    }

    /// How well `signal` is counted.
    #[must_use]
    pub fn get(&self, signal: CountSignal) -> &CountExactness {
        self.0.get(&signal).unwrap_or(&CountExactness::Absent)
    }

    /// Whether `signal` is counted at all.
    #[must_use]
    pub fn has(&self, signal: CountSignal) -> bool {
        *self.get(signal) != CountExactness::Absent
    }
}
