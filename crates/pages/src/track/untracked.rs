//! Memory that is not looked at, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustix::io::Errno;
use serde::{Serialize, Serializer};

use super::holder::UffdHolder;
use super::model::TrackedMapping;
use uffd::UffdError;

/// A mapping that is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UntrackedMapping {
    /// Which.
    pub mapping: Arc<TrackedMapping>,
    /// Why.
    pub reason: UntrackedReason,
    /// What else there is to say.
    pub detail: UntrackedDetail,
    /// How many of its pages of 4 KiB are not.
    pub pages: u64,
}

/// What is true of one mapping beyond the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UntrackedDetail {
    /// Nothing.
    #[default]
    None,
    /// The most bytes that are tracked.
    Limit(u64),
    /// The most bytes that arming may take of the memory of our control group.
    Memory(u64),
    /// Who holds the userfaultfd.
    Holder(UffdHolder),
}

/// Why memory is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UntrackedReason {
    /// It is registered with another userfaultfd, which may give it back.
    OtherUserfaultfd,
    /// The kernel does not register memory of this kind for what the strategy needs.
    NotRegistrable,
    /// The strategy takes memory for every page of it, there or not, and that is too much.
    TooLarge,
    /// memfd_secret(2): nobody else can read it, and the strategy reads.
    Secret,
    /// Shared, and this process has no right to write to it, now or later.
    SharedReadOnly,
    /// Nobody may write to it at the moment, and arming it would make the writes of debuggers fail.
    NotWritable,
    /// The memory of a device.
    Device,
    /// A ring or a buffer that the process shares with the kernel.
    KernelRing,
    /// What the kernel maps into every process.
    Kernel,
    /// All memory was given back, for a userfaultfd of the process's own.
    GivenBack,
    /// All memory was given back for good: the process came near `vm.max_map_count`.
    MappingLimit,
    /// The end of a mapping that grows, of which too many parts were registered one by one.
    Growing,
    /// The process changed the mapping while it was to be armed: the next round sees it as it is
    /// then.
    Changing,
    /// The process executed another program, and cannot be attached to at the moment.
    NotAttached,
}

impl UntrackedReason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::OtherUserfaultfd,
        Self::NotRegistrable,
        Self::TooLarge,
        Self::Secret,
        Self::SharedReadOnly,
        Self::NotWritable,
        Self::Device,
        Self::KernelRing,
        Self::Kernel,
        Self::GivenBack,
        Self::MappingLimit,
        Self::Growing,
        Self::Changing,
        Self::NotAttached,
    ];

    /// As it is written in JSON and in labels of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OtherUserfaultfd => "other_userfaultfd",
            Self::NotRegistrable => "not_registrable",
            Self::TooLarge => "too_large",
            Self::Secret => "secret",
            Self::SharedReadOnly => "shared_read_only",
            Self::NotWritable => "not_writable",
            Self::Device => "device",
            Self::KernelRing => "kernel_ring",
            Self::Kernel => "kernel",
            Self::GivenBack => "given_back",
            Self::MappingLimit => "mapping_limit",
            Self::Growing => "growing",
            Self::Changing => "changing",
            Self::NotAttached => "not_attached",
        }
    }

    /// In a few words, for people.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::OtherUserfaultfd => "belongs to another userfaultfd",
            Self::NotRegistrable => "of a kind that cannot be tracked by this strategy here",
            Self::TooLarge => {
                "in mappings too large (--max-mapping, or the memory that tracker may use)"
            }
            Self::Secret => "secret (memfd_secret)",
            Self::SharedReadOnly => "shared, and this process may not write it",
            Self::NotWritable => "not writable at the moment",
            Self::Device => "of devices",
            Self::KernelRing => "shared with the kernel",
            Self::Kernel => "the kernel's own",
            Self::GivenBack => "given back for a userfaultfd of the process itself",
            Self::MappingLimit => "of a process near its most mappings (vm.max_map_count)",
            Self::Growing => "at the end of mappings that grow",
            Self::Changing => "changed by the process while it was armed",
            Self::NotAttached => "of a program that could not be attached to",
        }
    }

    /// Why a mapping can never be tracked in this way, if that is what the kernel says.
    pub(super) fn of(error: &UffdError) -> Option<Self> {
        match error.errno()? {
            Errno::BUSY => Some(Self::OtherUserfaultfd),
            Errno::INVAL => Some(Self::NotRegistrable),
            Errno::PERM => Some(Self::SharedReadOnly),
            _ => None,
        }
    }

    /// Whether somebody has it who may give it back.
    pub(super) const fn may_pass(self) -> bool {
        matches!(self, Self::OtherUserfaultfd)
    }

    /// Whether each mapping is named. The others are many, and a count says enough.
    pub(super) const fn is_named(self) -> bool {
        matches!(
            self,
            Self::OtherUserfaultfd | Self::NotRegistrable | Self::TooLarge | Self::Secret
        )
    }
}

impl Serialize for UntrackedReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for UntrackedMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.mapping.end - self.mapping.start;
        write!(f, "passed over {}: ", self.mapping.place())?;
        match (self.reason, &self.detail) {
            (UntrackedReason::OtherUserfaultfd, UntrackedDetail::Holder(holder)) => write!(
                f,
                "it belongs to a userfaultfd already, {holder} (userfaultfd cannot be nested); \
                 `tracker agent` still observes it"
            ),
            (UntrackedReason::OtherUserfaultfd, _) => f.write_str(
                "it belongs to a userfaultfd already (userfaultfd cannot be nested); \
                 `tracker agent` still observes it",
            ),
            (UntrackedReason::TooLarge, UntrackedDetail::Memory(spare)) => write!(
                f,
                "arming it would take up to {} MiB of page tables, which the kernel charges to the \
                 control group of tracker, and that has {} MiB to spare for them: give it more, or \
                 take a strategy that needs none (none-is-clean)",
                bytes >> 29,
                spare >> 20
            ),
            (UntrackedReason::NotRegistrable, _) => {
                f.write_str("this kernel cannot write-protect memory of this kind")
            }
            (UntrackedReason::TooLarge, UntrackedDetail::Limit(most)) => write!(
                f,
                "larger than --max-mapping {} GiB: arming it would take up to {} MiB of page \
                 tables, whatever is in it",
                most >> 30,
                bytes >> 29
            ),
            (UntrackedReason::Secret, _) => f.write_str(
                "it is secret (memfd_secret), and cannot be read; strategies that write-protect \
                 track it",
            ),
            (UntrackedReason::SharedReadOnly, _) => {
                f.write_str("the file is not open for writing, or sealed against it")
            }
            (reason, _) => f.write_str(reason.about()),
        }
    }
}

/// Pages of 4 KiB that are not looked at, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UntrackedPages(BTreeMap<UntrackedReason, u64>);

impl UntrackedPages {
    /// Adds pages.
    pub fn add(&mut self, reason: UntrackedReason, pages: u64) {
        if pages != 0 {
            let sum = self.0.entry(reason).or_default();
            *sum = sum.saturating_add(pages);
        }
    }

    /// How many are not, for this reason.
    #[must_use]
    pub fn of(&self, reason: UntrackedReason) -> u64 {
        self.0.get(&reason).copied().unwrap_or_default()
    }

    /// Every reason that there is, with its pages.
    pub fn iter(&self) -> impl Iterator<Item = (UntrackedReason, u64)> + use<'_> {
        self.0.iter().map(|(reason, pages)| (*reason, *pages))
    }

    /// For whatever reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        let all = self.0.values();
        all.fold(0, |sum, pages| sum.saturating_add(*pages))
    }

    /// For each reason the larger number of two.
    #[must_use]
    pub fn most(&self, other: &Self) -> Self {
        let mut most = self.clone();
        for (reason, pages) in other.iter() {
            let old = most.0.entry(reason).or_default();
            *old = pages.max(*old);
        }
        most
    }
}

impl FromIterator<(UntrackedReason, u64)> for UntrackedPages {
    fn from_iter<I: IntoIterator<Item = (UntrackedReason, u64)>>(counts: I) -> Self {
        let mut pages = Self::default();
        counts
            .into_iter()
            .for_each(|(reason, count)| pages.add(reason, count));
        pages
    }
}

impl Serialize for UntrackedPages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl fmt::Display for UntrackedPages {
    /// `12 pages of devices, 3 pages secret (memfd_secret)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (reason, pages)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let noun = if pages == 1 { "page" } else { "pages" };
            write!(f, "{comma}{pages} {noun} {}", reason.about())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_reason() {
        use UntrackedReason::{Device, Kernel, Secret};
        let mut pages: UntrackedPages = [(Kernel, 3), (Secret, 0), (Kernel, 1)]
            .into_iter()
            .collect();
        pages.add(Device, 2);
        assert_eq!(pages.iter().collect::<Vec<_>>(), [(Device, 2), (Kernel, 4)]);
        assert_eq!((pages.total(), pages.of(Secret)), (6, 0));
        let other = [(Device, 5), (Secret, 1)].into_iter().collect();
        let most = pages.most(&other);
        assert_eq!(
            (most.of(Device), most.of(Kernel), most.of(Secret)),
            (5, 4, 1)
        );
        assert_eq!(
            pages.to_string(),
            "2 pages of devices, 4 pages the kernel's own"
        );
    }

    #[test]
    fn the_docs_have_a_row_for_each_reason() {
        let docs = include_str!("../../../../docs/strategies.md");
        for reason in UntrackedReason::ALL {
            let row = format!("\n| `{}` | ", reason.as_str());
            assert_eq!(docs.matches(&row).count(), 1, "{}", reason.as_str());
        }
    }

    #[test]
    fn words_are_different() {
        let words: std::collections::BTreeSet<_> = UntrackedReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .collect();
        assert_eq!(words.len(), UntrackedReason::ALL.len());
    }
}
