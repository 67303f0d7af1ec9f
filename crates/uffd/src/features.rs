//! Feature bits of a userfaultfd (`UFFD_FEATURE_*` of linux/userfaultfd.h).

use std::fmt;
use std::ops::{BitAnd, BitOr};

/// A set of features, as its bits. Bits without a name here are kept and shown, never refused.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct UffdFeatures(pub u64);

impl UffdFeatures {
    /// The handler is told of each fork, and the child's memory stays registered (4.11).
    pub const EVENT_FORK: Self = Self(1 << 1);
    /// The handler is told of each mremap, and the moved range stays registered (4.11).
    pub const EVENT_REMAP: Self = Self(1 << 2);
    /// The handler is told of each range that is given back, as by `MADV_DONTNEED` (4.11).
    pub const EVENT_REMOVE: Self = Self(1 << 3);
    /// Nobody is asked about a fault: user code gets SIGBUS, a call of the kernel EFAULT (4.14).
    pub const SIGBUS: Self = Self(1 << 7);
    /// Write protection of hugetlb and shmem, with markers for pages that are not there (5.19).
    pub const WP_HUGETLBFS_SHMEM: Self = Self(1 << 12);
    /// Markers for anonymous pages that are not there (6.4).
    pub const WP_UNPOPULATED: Self = Self(1 << 13);
    /// The kernel resolves write-protect faults itself: nobody waits and no handler is told (6.7).
    /// Implies `WP_UNPOPULATED`.
    pub const WP_ASYNC: Self = Self(1 << 15);
    /// `UFFDIO_MOVE` (6.8).
    pub const MOVE: Self = Self(1 << 16);

    /// Whether every feature of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the kernel resolves write-protect faults itself ([`Self::WP_ASYNC`]).
    #[must_use]
    pub const fn is_async(self) -> bool {
        self.contains(Self::WP_ASYNC)
    }
}

impl BitOr for UffdFeatures {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for UffdFeatures {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// Names of the bits, in their order. Bit 31 is the kernel's own: `UFFD_FEATURE_INITIALIZED`.
const NAMES: &[(u32, &str)] = &[
    (0, "PAGEFAULT_FLAG_WP"),
    (1, "EVENT_FORK"),
    (2, "EVENT_REMAP"),
    (3, "EVENT_REMOVE"),
    (4, "MISSING_HUGETLBFS"),
    (5, "MISSING_SHMEM"),
    (6, "EVENT_UNMAP"),
    (7, "SIGBUS"),
    (8, "THREAD_ID"),
    (9, "MINOR_HUGETLBFS"),
    (10, "MINOR_SHMEM"),
    (11, "EXACT_ADDRESS"),
    (12, "WP_HUGETLBFS_SHMEM"),
    (13, "WP_UNPOPULATED"),
    (14, "POISON"),
    (15, "WP_ASYNC"),
    (16, "MOVE"),
    (31, "INITIALIZED"),
];

/// `WP_UNPOPULATED|WP_ASYNC`, with bits that have no name as a number.
impl fmt::Display for UffdFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMES.iter().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        let mut unnamed = self.0;
        let mut separator = "";
        for (bit, name) in named {
            write!(f, "{separator}{name}")?;
            separator = "|";
            unnamed &= !(1 << bit);
        }
        match (unnamed, separator) {
            (0, "") => f.write_str("none"),
            (0, _) => Ok(()),
            _ => write!(f, "{separator}{unnamed:#x}"),
        }
    }
}

impl fmt::Debug for UffdFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_bits_are_shown_as_a_number() {
        assert_eq!(
            UffdFeatures(0x8000_a000).to_string(),
            "WP_UNPOPULATED|WP_ASYNC|INITIALIZED"
        );
        assert_eq!(
            UffdFeatures(1 << 40 | 1 << 15).to_string(),
            "WP_ASYNC|0x10000000000"
        );
        assert_eq!(UffdFeatures(0).to_string(), "none");
    }

    #[test]
    fn contains_asks_for_every_bit() {
        let both = UffdFeatures::EVENT_FORK | UffdFeatures::WP_ASYNC;
        assert!(both.contains(UffdFeatures::EVENT_FORK) && both.is_async());
        assert!(!UffdFeatures::EVENT_FORK.contains(both));
    }
}
