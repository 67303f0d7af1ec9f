//! Whether memory is so sparse that an observer of page faults costs less than markers: pure.
#![forbid(unsafe_code)]

use std::fmt;

/// What of a process's memory decides between `markers` and `fault-time`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryShape {
    /// Bytes that it may write and that are not there.
    pub absent: u64,
    /// Bytes that are there.
    pub present: u64,
    /// Bytes of hugetlb and shared files, which `fault-time` leaves alone.
    pub unobserved: u64,
}

impl MemoryShape {
    /// The least that is absent: less is not worth programs that every process passes. Its markers
    /// take 16 MiB of page tables.
    const LEAST_ABSENT: u64 = 8 << 30;
    /// How much more is absent than there. Rounds cost the same where it is as much
    /// (docs/benchmarks.md, "Sparse memory").
    const TIMES: u64 = 4;

    /// Whether `fault-time` is the better one by far.
    #[must_use]
    pub const fn is_sparse(&self) -> bool {
        self.unobserved == 0
            && self.absent >= Self::LEAST_ABSENT
            && self.absent / Self::TIMES >= self.present
    }
}

/// What markers would take: `markers would take 32 MiB of page tables, where 1 MiB is there`.
impl fmt::Display for MemoryShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A table of 4 KiB for each 2 MiB.
        let (tables, present) = ((self.absent >> 9).div_ceil(1 << 20), self.present >> 20);
        write!(
            f,
            "markers would take {tables} MiB of page tables, where {present} MiB is there"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_must_be_absent_and_all_of_it_observed() {
        let shape = MemoryShape {
            absent: 16 << 30,
            present: 1 << 20,
            unobserved: 0,
        };
        assert!(shape.is_sparse());
        let text = "markers would take 32 MiB of page tables, where 1 MiB is there";
        assert_eq!(shape.to_string(), text);
        for other in [
            MemoryShape {
                unobserved: 4096,
                ..shape
            },
            MemoryShape {
                present: 5 << 30,
                ..shape
            },
            MemoryShape {
                absent: 7 << 30,
                ..shape
            },
        ] {
            assert!(!other.is_sparse(), "{other:?}");
        }
    }
}
