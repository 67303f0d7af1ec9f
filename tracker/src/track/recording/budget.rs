//! One budget for all that reading and counting a recording allocates.
//!
//! What a file of a few bytes unpacks to may be any amount. So the budget follows from what the
//! file holds, never from what it promises.

use super::RecordingError;

/// Bytes that may be allocated for each byte of the file: what a recording holds of random pages
/// is a byte for each of two distances, and becomes two steps of a count for each address.
const FOR_EACH_BYTE: u64 = 32;

/// How much may be allocated, and how much is.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBudget {
    /// Bytes that may be allocated whatever the file holds.
    base: u64,
    /// Bytes of the file that were read.
    pub(super) file: u64,
    /// Bytes that the reader holds beyond a round.
    pub(super) kept: u64,
    /// Bytes that the reader's caller holds.
    pub(super) caller: u64,
}

/// More would be allocated than the budget has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverBudget {
    limit: u64,
    file: u64,
}

impl MemoryBudget {
    /// What is allocated unless asked for otherwise: 128 MiB.
    pub const DEFAULT: Self = Self::new(128 << 20);

    /// So many bytes beside those that the size of the file allows.
    #[must_use]
    pub const fn new(base: u64) -> Self {
        Self {
            base,
            file: 0,
            kept: 0,
            caller: 0,
        }
    }

    fn limit(&self) -> u64 {
        let held = self.file.saturating_mul(FOR_EACH_BYTE);
        self.base.saturating_add(held)
    }

    /// Whether there is room for so many bytes more.
    pub(crate) fn check(&self, more: u64) -> Result<(), OverBudget> {
        let (limit, file) = (self.limit(), self.file);
        let all = self.kept.saturating_add(self.caller).saturating_add(more);
        if all > limit {
            return Err(OverBudget { limit, file });
        }
        Ok(())
    }
}

impl From<OverBudget> for RecordingError {
    fn from(over: OverBudget) -> Self {
        Self::Memory {
            limit: over.limit,
            file: over.file,
        }
    }
}
