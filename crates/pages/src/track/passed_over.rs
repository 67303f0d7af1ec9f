//! Mappings that cannot be tracked, and why.

use std::fmt;
use std::sync::Arc;

use rustix::io::Errno;

use super::model::TrackedMapping;
use uffd::UffdError;

/// A mapping that cannot be tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOverMapping {
    /// Which.
    pub mapping: Arc<TrackedMapping>,
    /// Why.
    pub reason: PassedOverReason,
}

/// Why a mapping cannot be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassedOverReason {
    /// EBUSY: it is registered with another userfaultfd, which may give it back.
    Registered,
    /// EINVAL: the kernel cannot write-protect its pages.
    Unprotectable,
    /// EPERM: its file cannot be written to.
    Unwritable,
    /// The strategy takes memory for every page of it, there or not.
    TooLarge {
        /// Bytes of the mapping.
        bytes: u64,
        /// The most that is tracked.
        most: u64,
    },
}

impl PassedOverReason {
    /// Why a mapping can never be tracked in this way, if that is what the kernel says.
    pub(super) fn of(error: &UffdError) -> Option<Self> {
        match error.errno()? {
            Errno::BUSY => Some(Self::Registered),
            Errno::INVAL => Some(Self::Unprotectable),
            Errno::PERM => Some(Self::Unwritable),
            _ => None,
        }
    }

    /// Whether somebody has it who may give it back.
    pub(super) const fn may_pass(self) -> bool {
        matches!(self, Self::Registered)
    }
}

impl fmt::Display for PassedOverMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "passed over {}: {}", self.mapping.place(), self.reason)
    }
}

impl fmt::Display for PassedOverReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered => f.write_str("it belongs to a userfaultfd already (userfaultfd cannot be nested); `tracker agent` still observes it"),
            Self::Unprotectable => f.write_str("this kernel cannot write-protect memory of this kind"),
            Self::Unwritable => f.write_str("the file is not open for writing, or sealed against it"),
            Self::TooLarge { bytes, most } => write!(f, "larger than --max-mapping {} GiB: arming it would take up to {} MiB of page tables, whatever is in it", most >> 30, bytes >> 29),
        }
    }
}
