//! Arithmetic of counters: what was gained, and sums.

use std::ops::AddAssign;

use super::sample::{MmSample, VmaCounters};

/// What one VMA series, or a sum of them, counted.
pub type Counts = VmaCounters;

impl VmaCounters {
    /// What `self` has more than `earlier`. A counter that went back gained nothing.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut gain = *self;
        gain.zip(earlier, u64::saturating_sub);
        gain
    }

    /// The larger of both, counter by counter.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        let mut larger = *self;
        larger.zip(other, u64::max);
        larger
    }

    /// Sum of all counters: how busy it was.
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

    fn zip(&mut self, other: &Self, mut f: impl FnMut(u64, u64) -> u64) {
        // Destructured, so that a new counter is a compile error here.
        let Self {
            faults,
            markers,
            tables,
        } = self;
        let mine = faults
            .as_flattened_mut()
            .iter_mut()
            .chain(markers)
            .chain(tables.as_flattened_mut());
        let theirs = (other.faults.as_flattened().iter())
            .chain(&other.markers)
            .chain(other.tables.as_flattened());
        for (a, b) in mine.zip(theirs) {
            *a = f(*a, *b);
        }
    }
}

impl AddAssign<&Self> for VmaCounters {
    fn add_assign(&mut self, gain: &Self) {
        self.zip(gain, u64::saturating_add);
    }
}

/// What is counted per process only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessCounts {
    /// Page tables freed, by `Level`.
    pub freed: [u64; 3],
    /// Time its threads waited for a handler, in nanoseconds.
    pub fault_wait_ns: u64,
}

impl ProcessCounts {
    /// What `self` has more than `earlier`. A counter that went back gained nothing.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut freed = self.freed;
        for (a, b) in freed.iter_mut().zip(earlier.freed) {
            *a = a.saturating_sub(b);
        }
        Self {
            freed,
            fault_wait_ns: self.fault_wait_ns.saturating_sub(earlier.fault_wait_ns),
        }
    }

    /// The larger of both, counter by counter.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        let mut freed = self.freed;
        for (a, b) in freed.iter_mut().zip(other.freed) {
            *a = (*a).max(b);
        }
        Self {
            freed,
            fault_wait_ns: self.fault_wait_ns.max(other.fault_wait_ns),
        }
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign<&Self> for ProcessCounts {
    fn add_assign(&mut self, gain: &Self) {
        for (a, b) in self.freed.iter_mut().zip(gain.freed) {
            *a = a.saturating_add(b);
        }
        self.fault_wait_ns = self.fault_wait_ns.saturating_add(gain.fault_wait_ns);
    }
}

impl MmSample {
    /// Its tables as counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            tables: self.tables,
            ..Counts::default()
        }
    }

    /// What is counted per process only.
    #[must_use]
    pub fn process_counts(&self) -> ProcessCounts {
        ProcessCounts {
            freed: self.freed,
            fault_wait_ns: self.fault_wait_ns,
        }
    }
}
