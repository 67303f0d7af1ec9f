//! What can fail in this layer, told as what, on what, why, and what to do about it.

use std::io;

/// An answer of the kernel that is not the one asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what} {on}: {source}{}", advice(.source))]
    System {
        /// The operation, such as `cannot read`.
        what: &'static str,
        /// The file, range or process it was done on.
        on: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A `/proc` file holds something this program does not understand.
    #[error(
        "cannot understand {on}: unexpected {text:?}; please report it with the kernel version"
    )]
    Format {
        /// The file.
        on: String,
        /// The text that did not fit, at most 200 bytes, invalid UTF-8 replaced.
        text: String,
    },
    /// `PAGEMAP_SCAN` returned without walking a single page.
    #[error("PAGEMAP_SCAN of {on} makes no progress at {at:#x}; align the range to its huge pages")]
    Stuck {
        /// The range scanned.
        on: String,
        /// The address at which the walk stays.
        at: u64,
    },
}

/// The result of this layer.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failed system call: `what` on `on`.
    pub fn system(what: &'static str, on: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            what,
            on: on.into(),
            source: source.into(),
        }
    }

    /// Text that does not parse, shortened.
    pub fn format(on: impl Into<String>, text: &[u8]) -> Self {
        let shown = &text[..text.len().min(200)];
        Self::Format {
            on: on.into(),
            text: String::from_utf8_lossy(shown).into_owned(),
        }
    }

    /// The errno behind it, if a system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::System { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// What a human can do about an errno; empty where the errno says it all.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            " (run as root, or with CAP_SYS_PTRACE; for userfaultfd see /proc/sys/vm/unprivileged_userfaultfd)"
        }
        io::ErrorKind::Unsupported => " (this kernel was built without it)",
        _ => "",
    }
}

/// Turns "no such process" into `None`: `/proc/PID` files answer ENOENT when opened after the end
/// of the process and ESRCH when read after it.
pub fn unless_gone<T>(
    result: io::Result<T>,
    what: &'static str,
    on: impl Into<String>,
) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(Error::system(what, on, error)),
    }
}

/// Whether an error says that the process has ended.
pub fn is_gone(error: &io::Error) -> bool {
    const ENOENT: i32 = rustix::io::Errno::NOENT.raw_os_error();
    const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();
    matches!(error.raw_os_error(), Some(ENOENT | ESRCH))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_gone_process_is_none_and_not_an_error() {
        let esrch = io::Error::from_raw_os_error(3);
        assert_eq!(
            unless_gone::<()>(Err(esrch), "cannot read", "x").unwrap(),
            None
        );
    }

    #[test]
    fn a_refusal_names_what_on_what_and_what_to_do() {
        let eperm = io::Error::from_raw_os_error(1);
        let error = unless_gone::<()>(Err(eperm), "cannot open", "/proc/1/pagemap").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cannot open /proc/1/pagemap: "), "{text}");
        assert!(text.contains("CAP_SYS_PTRACE"), "{text}");
        assert_eq!(error.errno(), Some(1));
    }
}
