//! Whether somebody has switched off what functions are hooked by, which attaching does not tell.

use std::fs;

use serde::{Deserialize, Serialize};

use super::mounts::MountPoints;

/// What the switches say; `None` where nobody may ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelSwitches {
    /// `kernel.ftrace_enabled`: what trampolines, and kprobes at the entry of a function, need.
    pub ftrace: Option<bool>,
    /// `kprobes/enabled` of debugfs.
    pub kprobes: Option<bool>,
}

impl KernelSwitches {
    /// As they are now.
    #[must_use]
    pub fn read(mounts: &MountPoints) -> Self {
        let debugfs = mounts.debugfs.as_deref().unwrap_or("/sys/kernel/debug");
        Self {
            ftrace: switch("/proc/sys/kernel/ftrace_enabled"),
            kprobes: switch(&format!("{debugfs}/kprobes/enabled")),
        }
    }

    /// Whether attaching anew can do no harm: nothing is known to be off, and ftrace is known to be
    /// on. A kernel on which kprobes are attached and detached while it is off takes its records for
    /// damaged later.
    #[must_use]
    pub fn allow_attaching_anew(self) -> bool {
        self.ftrace == Some(true) && self.on()
    }

    /// Whether what was off before is on now, so that more can be attached, without harm to ftrace.
    #[must_use]
    pub fn allow_more_than(self, before: Self) -> bool {
        let back = |now, before| before == Some(false) && now != Some(false);
        self.ftrace != Some(false)
            && (back(self.ftrace, before.ftrace) || back(self.kprobes, before.kprobes))
    }

    /// Whether neither is known to be off.
    #[must_use]
    pub fn on(self) -> bool {
        self.ftrace != Some(false) && self.kprobes != Some(false)
    }
}

fn switch(path: &str) -> Option<bool> {
    match fs::read(path).ok()?.trim_ascii() {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn switches(ftrace: Option<bool>, kprobes: Option<bool>) -> KernelSwitches {
        KernelSwitches { ftrace, kprobes }
    }

    #[test]
    fn nothing_is_attached_or_detached_while_ftrace_is_off() {
        let (on, off) = (Some(true), Some(false));
        let both_off = switches(off, off);
        assert!(switches(on, on).allow_more_than(both_off));
        assert!(switches(on, off).allow_more_than(both_off));
        assert!(!switches(off, on).allow_more_than(both_off));
        assert!(!switches(on, on).allow_more_than(switches(on, on)));
        assert!(!switches(on, off).allow_more_than(switches(on, on)));
        assert!(switches(on, on).allow_attaching_anew());
        assert!(switches(on, None).allow_attaching_anew());
        for unsure in [switches(None, on), switches(off, on), switches(on, off)] {
            assert!(!unsure.allow_attaching_anew(), "{unsure:?}");
        }
    }
}
