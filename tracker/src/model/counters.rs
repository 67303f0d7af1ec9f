//! What is counted, and the arithmetic of it: gains and sums.

use std::ops::AddAssign;

use tracker_ebpf::{
    FaultEntry, MarkerEvent, MmRecord, TableCounts, TableLevel, VmaFaults, VmaRecord, WpMode,
};

/// Counters that are subtracted, compared and added one by one.
pub trait CounterSet: Copy + Default + PartialEq {
    /// Replaces each counter by what `f` makes of it and its counterpart in `other`.
    fn zip(&mut self, other: &Self, f: impl FnMut(u64, u64) -> u64);

    /// How much more `self` has than `earlier`. A counter that went back gained nothing.
    #[must_use]
    fn since(&self, earlier: &Self) -> Self {
        let mut gain = *self;
        gain.zip(earlier, u64::saturating_sub);
        gain
    }

    /// The larger of both, counter by counter.
    #[must_use]
    fn max(&self, other: &Self) -> Self {
        let mut larger = *self;
        larger.zip(other, u64::max);
        larger
    }

    /// Adds `gain`, counter by counter.
    fn add(&mut self, gain: &Self) {
        self.zip(gain, u64::saturating_add);
    }

    /// Whether nothing was counted.
    #[must_use]
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// What is counted per VMA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmaCounters {
    /// Faults by [`WpMode`] and [`FaultEntry`].
    pub faults: [[u64; FaultEntry::ALL.len()]; WpMode::ALL.len()],
    /// Markers by [`MarkerEvent`].
    pub markers: [u64; MarkerEvent::ALL.len()],
    /// Page tables allocated, by [`TableLevel`] and [`TableCause`](tracker_ebpf::TableCause).
    pub tables: TableCounts,
}

impl CounterSet for VmaCounters {
    fn zip(&mut self, other: &Self, f: impl FnMut(u64, u64) -> u64) {
        // Destructured, so that a new counter does not compile until it is dealt with.
        let Self {
            faults,
            markers,
            tables,
        } = self;
        let mine = (faults.as_flattened_mut().iter_mut())
            .chain(markers)
            .chain(tables.as_flattened_mut());
        let theirs = (other.faults.as_flattened().iter())
            .chain(&other.markers)
            .chain(other.tables.as_flattened());
        replace(mine, theirs, f);
    }
}

impl VmaCounters {
    /// What a record counted, with the shards that belong to it.
    #[must_use]
    pub fn of(record: &VmaRecord, shards: impl Iterator<Item = VmaFaults>) -> Self {
        let mut counters = Self {
            markers: record.markers,
            tables: record.tables,
            ..Self::default()
        };
        for shard in shards {
            let sums = counters.faults.as_flattened_mut().iter_mut();
            for (sum, part) in sums.zip(shard.faults.as_flattened()) {
                *sum += part;
            }
            counters.markers[MarkerEvent::Consumed as usize] += shard.consumed;
        }
        counters
    }

    /// Sum of all counters: how busy the VMA was.
    #[must_use]
    pub fn total(&self) -> u64 {
        let mut sum = 0_u64;
        let mut all = *self;
        all.zip(self, |value, _| {
            sum = sum.saturating_add(value);
            value
        });
        sum
    }

    /// Sum of the fault counters.
    #[must_use]
    pub fn total_faults(&self) -> u64 {
        self.faults.iter().flatten().sum()
    }
}

/// What is counted per process only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounters {
    /// Page tables freed, by [`TableLevel`].
    pub freed: [u64; TableLevel::ALL.len()],
    /// How long its threads waited for a handler, in nanoseconds.
    pub fault_wait_ns: u64,
}

impl From<&MmRecord> for ProcessCounters {
    fn from(record: &MmRecord) -> Self {
        Self {
            freed: record.freed,
            fault_wait_ns: record.fault_wait_ns,
        }
    }
}

impl CounterSet for ProcessCounters {
    fn zip(&mut self, other: &Self, f: impl FnMut(u64, u64) -> u64) {
        let Self {
            freed,
            fault_wait_ns,
        } = self;
        let mine = freed.iter_mut().chain([fault_wait_ns]);
        replace(mine, other.freed.iter().chain([&other.fault_wait_ns]), f);
    }
}

fn replace<'a>(
    mine: impl Iterator<Item = &'a mut u64>,
    theirs: impl Iterator<Item = &'a u64>,
    mut f: impl FnMut(u64, u64) -> u64,
) {
    for (a, b) in mine.zip(theirs) {
        *a = f(*a, *b);
    }
}

impl AddAssign<&Self> for VmaCounters {
    fn add_assign(&mut self, gain: &Self) {
        self.add(gain);
    }
}

impl AddAssign<&Self> for ProcessCounters {
    fn add_assign(&mut self, gain: &Self) {
        self.add(gain);
    }
}
