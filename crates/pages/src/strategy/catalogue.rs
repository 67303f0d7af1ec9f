//! What everybody asks about a strategy: answers of its entry.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use uffd::KernelBehaviour;

use super::StrategyName;
use super::entry::{AbsentPages, TargetWait};
use super::limit::StrategyLimit;
use super::start::{StrategyStart, can_scan};

/// Makes [`StrategyName`] of the list of strategies, a row each: its name, and the module with its
/// `ENTRY`.
macro_rules! catalogue {
    ($($name:ident: $module:ident,)*) => {
        /// A strategy.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum StrategyName {
            $(#[doc = concat!("As `strategy/", stringify!($module), "` says.")] $name,)*
        }

        impl StrategyName {
            /// All, in the order in which `auto` prefers those it may take.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];

            const fn entry(self) -> &'static entry::StrategyEntry {
                match self {
                    $(Self::$name => &$module::ENTRY,)*
                }
            }
        }
    };
}

impl StrategyName {
    /// Those that can track another process, in the same order.
    pub fn outside() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|name| !name.is_in_process())
    }

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// Why one would take it, in a few words.
    #[must_use]
    pub const fn merit(self) -> &'static str {
        self.entry().merit
    }

    /// What whoever else watches the process should know.
    #[must_use]
    pub(crate) const fn caveat(self) -> Option<&'static str> {
        self.entry().caveat
    }

    /// What was proposed to the kernel's developers and never built, which it stands for, and how
    /// that would differ.
    #[must_use]
    pub const fn stands_for(self) -> Option<&'static str> {
        self.entry().stands_for
    }

    /// What it cannot do, or not without a price, on this kernel.
    #[must_use]
    pub fn limits(self, kernel: &KernelBehaviour) -> Vec<StrategyLimit> {
        StrategyLimit::of(self, kernel)
    }

    /// Whether it acts through a userfaultfd of the target, which arms pages.
    #[must_use]
    pub const fn needs_descriptor(self) -> bool {
        matches!(self.entry().start, StrategyStart::Descriptor(_))
    }

    /// Whether it tracks only the process it runs in.
    #[must_use]
    pub const fn is_in_process(self) -> bool {
        matches!(self.entry().start, StrategyStart::OwnProcess(_))
    }

    /// Whether it takes memory for pages that are not there: page tables of the process, or hashes.
    #[must_use]
    pub const fn pays_for_absent(self) -> bool {
        matches!(self.entry().absent, AbsentPages::Paid)
    }

    /// Whether it arms pages that are not there, or sees their first access.
    #[must_use]
    pub const fn watches_absent(self) -> bool {
        !matches!(self.entry().absent, AbsentPages::Ignored)
    }

    /// Whether a page that is not there is armed before its first write.
    #[must_use]
    pub const fn arms_absent(self) -> bool {
        self.watches_absent() && !self.is_observed()
    }

    /// Whether it compares content, for which it reads all memory in each round.
    #[must_use]
    pub const fn reads_content(self) -> bool {
        self.entry().reads_content
    }

    /// Whether it asks an observer of the kernel's page faults.
    #[must_use]
    pub const fn is_observed(self) -> bool {
        self.entry().observed
    }

    /// Whether `auto` may take it.
    #[must_use]
    pub const fn is_auto(self) -> bool {
        self.entry().auto
    }

    /// Whether first writes of the process wait for an answer of the tracker, on any kernel.
    #[must_use]
    pub const fn always_waits(self) -> bool {
        matches!(self.entry().waits, TargetWait::Always)
    }

    /// Whether they wait on this kernel.
    #[must_use]
    pub const fn waits(self, kernel: &KernelBehaviour) -> bool {
        match self.entry().waits {
            TargetWait::Never => false,
            TargetWait::Always => true,
            TargetWait::WithoutScan => !can_scan(kernel),
        }
    }
}

impl fmt::Display for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// There is no strategy of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no strategy {name:?}; there are {}",
    StrategyName::ALL.map(StrategyName::as_str).join(", ")
)]
pub struct UnknownStrategy {
    /// The name that was asked for.
    pub name: String,
}

impl FromStr for StrategyName {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, UnknownStrategy> {
        let found = Self::ALL.into_iter().find(|name| name.as_str() == text);
        found.ok_or_else(|| UnknownStrategy {
            name: text.to_owned(),
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
            .map_err(|e| e.to_string().contains("markers, sync"));
        assert_eq!(error, Err(true));
    }
}
