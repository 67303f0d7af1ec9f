//! Kernel lockdown: what even root may not do.

use serde::{Deserialize, Serialize};

/// The lockdown level, `/sys/kernel/security/lockdown` (kernel_lockdown(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lockdown {
    /// Nothing is locked.
    None,
    /// User space may not change the running kernel. Tracing works; debugfs is closed
    /// (`LOCKDOWN_DEBUGFS`).
    Integrity,
    /// Nor read confidential data out of it: no kprobes (`LOCKDOWN_KPROBES`), no tracefs
    /// (`LOCKDOWN_TRACEFS`), and BPF programs have no `bpf_probe_read_kernel`
    /// (`LOCKDOWN_BPF_READ_KERNEL`).
    Confidentiality,
}

impl Lockdown {
    /// Reads the file: `none [integrity] confidentiality`, the level in force in brackets. `None`
    /// if it is not of that form.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (_, rest) = text.split_once('[')?;
        match rest.split_once(']')?.0 {
            "none" => Some(Self::None),
            "integrity" => Some(Self::Integrity),
            "confidentiality" => Some(Self::Confidentiality),
            _ => None,
        }
    }

    /// Whether kprobes are refused.
    #[must_use]
    pub fn forbids_kprobes(self) -> bool {
        self == Self::Confidentiality
    }

    /// Whether BPF programs are refused `bpf_probe_read_kernel`.
    #[must_use]
    pub fn forbids_kernel_reads(self) -> bool {
        self == Self::Confidentiality
    }
}

#[cfg(test)]
mod tests {
    use super::Lockdown;

    #[test]
    fn the_level_in_brackets_counts() {
        let parse = |text: &str| Lockdown::parse(text.as_bytes());
        assert_eq!(
            parse("[none] integrity confidentiality\n"),
            Some(Lockdown::None)
        );
        assert_eq!(
            parse("none [integrity] confidentiality\n"),
            Some(Lockdown::Integrity)
        );
        assert_eq!(
            parse("none integrity [confidentiality]"),
            Some(Lockdown::Confidentiality)
        );
        assert_eq!(parse("none integrity"), None);
        assert_eq!(parse("[none"), None);
        assert_eq!(Lockdown::parse(b"\xff[none]"), None);
    }

    #[test]
    fn only_confidentiality_stops_tracing() {
        assert!(!Lockdown::Integrity.forbids_kprobes());
        assert!(Lockdown::Confidentiality.forbids_kprobes());
        assert!(Lockdown::Confidentiality.forbids_kernel_reads());
    }
}
