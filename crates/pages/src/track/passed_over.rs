//! Mappings that cannot be tracked, and why.

use std::fmt;
use std::sync::Arc;

use rustix::io::Errno;

use super::model::Mapping;
use uffd::Error;

/// How texts about a mapping that cannot be tracked begin.
pub const PASSED_OVER: &str = "passed over";

/// A mapping that cannot be tracked.
pub struct PassedOver {
    /// Which.
    pub mapping: Arc<Mapping>,
    /// Why.
    pub reason: String,
    /// Somebody has it who may give it back.
    pub may_be_freed: bool,
}

impl PassedOver {
    /// Where it is and what it is called.
    pub fn name(&self) -> String {
        let Mapping { start, end, .. } = *self.mapping;
        let name = if self.mapping.name.is_empty() {
            self.mapping.backing.as_str()
        } else {
            &self.mapping.name
        };
        format!("{start:#x}-{end:#x} {name}")
    }
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PASSED_OVER} {}: {}", self.name(), self.reason)
    }
}

/// Why a mapping can never be tracked in this way, if that is what the kernel says.
pub fn refusal(error: &Error) -> Option<&'static str> {
    let errno = error.errno()?;
    let reason = if errno == Errno::BUSY.raw_os_error() {
        "it belongs to a userfaultfd already (userfaultfd cannot be nested); `tracker agent` still observes it"
    } else if errno == Errno::INVAL.raw_os_error() {
        "this kernel cannot write-protect memory of this kind"
    } else if errno == Errno::PERM.raw_os_error() {
        "the file is not open for writing, or sealed against it"
    } else {
        return None;
    };
    Some(reason)
}
