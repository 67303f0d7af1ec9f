//! tracker's end of a freeze: its helper holds the target.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::super::wire::{FreezeAnswer, ThawAnswer, ThawRequest};
use super::super::{InjectError, InjectNote};
use super::start::HelperHandle;

/// A process that a helper holds. Dropping it lets the process go.
pub(crate) struct HeldProcess {
    helper: HelperHandle,
    answer: FreezeAnswer,
}

impl HeldProcess {
    /// Held by a helper that has said so.
    pub(super) const fn new(helper: HelperHandle, answer: FreezeAnswer) -> Self {
        Self { helper, answer }
    }

    /// How many threads stand still.
    pub(crate) const fn threads(&self) -> usize {
        self.answer.threads
    }

    /// What its owner might notice.
    pub(crate) fn notes(&self) -> &[InjectNote] {
        &self.answer.notes
    }

    /// Lets it go, and tells for how long it stood still; `None`: not until now.
    pub(crate) fn release(mut self) -> Option<Duration> {
        let mut thaw = || -> Result<ThawAnswer, InjectError> {
            self.helper.say(&ThawRequest)?;
            Ok(self.helper.hear()?.0)
        };
        thaw().ok()?.stood_ns.map(Duration::from_nanos)
    }
}
