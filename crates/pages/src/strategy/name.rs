//! The strategies by name, with what is always true of each.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StrategyName {
    /// Markers for every page that is not there; the kernel resolves the faults.
    Markers,
    /// A message for each fault, resolved by a handler thread.
    Sync,
    /// Every page is read first, so that there is something to arm.
    Prefault,
    /// The first access of a page is caught, and a zero page put there.
    MissingZeropage,
    /// Only what is there is armed; what is not there counts as clean.
    NoneIsClean,
    /// The soft-dirty bits of the page tables.
    SoftDirty,
    /// mprotect(2) and SIGSEGV, in the process itself.
    Mprotect,
    /// The content of every page before and after.
    Hash,
}

impl StrategyName {
    /// All, in the order in which `auto` prefers those it may choose.
    pub const ALL: [Self; 8] = [
        Self::Markers,
        Self::Sync,
        Self::Prefault,
        Self::MissingZeropage,
        Self::NoneIsClean,
        Self::Hash,
        Self::SoftDirty,
        Self::Mprotect,
    ];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Markers => "markers",
            Self::Sync => "sync",
            Self::Prefault => "prefault",
            Self::MissingZeropage => "missing-zeropage",
            Self::NoneIsClean => "none-is-clean",
            Self::SoftDirty => "soft-dirty",
            Self::Mprotect => "mprotect",
            Self::Hash => "hash",
        }
    }

    /// Why one would take it, in a few words.
    #[must_use]
    pub const fn merit(self) -> &'static str {
        match self {
            Self::Markers => "exact, and the kernel resolves its faults itself",
            Self::Sync => "exact, with a message for each first write",
            Self::Prefault => {
                "nothing is left to be touched first, at the price of its page tables"
            }
            Self::MissingZeropage => {
                "no page table before its first touch, at the price of a message each"
            }
            Self::NoneIsClean => "no page table for what is not there, and zaps go unseen",
            Self::Hash => "needs nothing but to read, and reads everything each round",
            Self::SoftDirty => "sees processes that use userfaultfd themselves",
            Self::Mprotect => "needs no userfaultfd",
        }
    }

    /// Whether it takes memory for pages that are not there: page tables of the process, or hashes.
    #[must_use]
    pub const fn pays_for_absent(self) -> bool {
        matches!(
            self,
            Self::Markers | Self::Sync | Self::Prefault | Self::Mprotect | Self::Hash
        )
    }

    /// Whether it acts through a userfaultfd of the target.
    #[must_use]
    pub const fn needs_descriptor(self) -> bool {
        !matches!(self, Self::SoftDirty | Self::Mprotect | Self::Hash)
    }
}

impl fmt::Display for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StrategyName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|name| name.as_str() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("there is no strategy {text:?}; there are {names}")
        })
    }
}

impl Serialize for StrategyName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_is_written() {
        for name in StrategyName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let error = "marker"
            .parse::<StrategyName>()
            .map_err(|e| e.contains("markers, sync"));
        assert_eq!(error, Err(true));
    }
}
