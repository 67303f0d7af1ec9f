//! What the kernel's tracing files say: functions that ftrace can hook, functions that kprobes must
//! not touch, tracepoints.

use std::collections::HashSet;
use std::io::{self, BufRead};

/// The functions of `available_filter_functions`: those whose entry ftrace can patch. fentry needs
/// that; a kprobe is cheaper with it. Functions marked `notrace` are absent, and with them every
/// `static inline` function that the compiler emitted out of line.
pub struct FilterFunctions<'a>(HashSet<&'a [u8]>);

impl<'a> FilterFunctions<'a> {
    /// Reads the file: one function per line. Those of modules, followed by ` [module]`, are left
    /// out.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Self {
        let own = lines(bytes).filter(|line| !line.ends_with(b"]"));
        Self(own.filter_map(|line| words(line).next()).collect())
    }

    /// Whether ftrace can hook a function of that name.
    #[must_use]
    pub fn contains(&self, function: &str) -> bool {
        self.0.contains(function.as_bytes())
    }
}

/// The lines of `available_filter_functions` about these functions, in a file of which only one
/// line at a time is in memory.
///
/// # Errors
/// If the file cannot be read.
pub fn excerpt(mut file: impl BufRead, names: &HashSet<&str>) -> io::Result<Vec<u8>> {
    let (mut kept, mut line) = (Vec::new(), Vec::new());
    while file.read_until(b'\n', &mut line)? > 0 {
        let name = words(&line).next();
        if name.is_some_and(|name| str::from_utf8(name).is_ok_and(|name| names.contains(name))) {
            kept.extend_from_slice(&line);
        }
        line.clear();
    }
    Ok(kept)
}

/// The functions of `/sys/kernel/debug/kprobes/blacklist`, which refuse kprobes (`NOKPROBE_SYMBOL`
/// and the like).
pub struct KprobeBlacklist<'a>(HashSet<&'a [u8]>);

impl<'a> KprobeBlacklist<'a> {
    /// Reads the file: `0xSTART-0xEND<tab>function` on each line.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Self {
        Self(lines(bytes).filter_map(|line| words(line).nth(1)).collect())
    }

    /// Whether kprobes on it are refused.
    #[must_use]
    pub fn contains(&self, function: &str) -> bool {
        self.0.contains(function.as_bytes())
    }
}

/// The tracepoints of `available_events`, as `category:event`.
pub struct AvailableEvents<'a>(HashSet<&'a [u8]>);

impl<'a> AvailableEvents<'a> {
    /// Reads the file: `category:event` on each line.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Self {
        Self(lines(bytes).filter_map(|line| words(line).next()).collect())
    }

    /// Whether the tracepoint, written `category:event`, exists.
    #[must_use]
    pub fn contains(&self, tracepoint: &str) -> bool {
        self.0.contains(tracepoint.as_bytes())
    }
}

/// The type number of the perf PMU that creates kprobes,
/// `/sys/bus/event_source/devices/kprobe/type`; `None` if it is no number. The file exists where
/// the kernel has kprobes for perf (`CONFIG_KPROBE_EVENTS`).
#[must_use]
pub fn parse_pmu_type(bytes: &[u8]) -> Option<u32> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::{AvailableEvents, FilterFunctions, KprobeBlacklist, excerpt, parse_pmu_type};

    #[test]
    fn functions_of_modules_are_not_the_kernels() {
        let list = FilterFunctions::parse(b"do_wp_page\n__traceiter_x\nkvm_init [kvm]\n\n");
        assert!(list.contains("do_wp_page"));
        assert!(!list.contains("do_wp"));
        assert!(!list.contains("kvm_init"));
        assert!(!list.contains(""));
    }

    #[test]
    fn an_excerpt_has_the_lines_of_its_names() {
        let list = b"do_wp_page\nvm_area_free\nkvm_init [kvm]\n";
        let names = ["vm_area_free", "kvm_init", "absent"];
        let kept = excerpt(&list[..], &names.into()).unwrap();
        assert_eq!(kept, b"vm_area_free\nkvm_init [kvm]\n");
    }

    #[test]
    fn blacklist_names_follow_the_range() {
        let list =
            KprobeBlacklist::parse(b"0xffffffff8be02240-0xffffffff8be0224b\tparavirt_ret0\n");
        assert!(list.contains("paravirt_ret0"));
        assert!(!list.contains("0xffffffff8be02240-0xffffffff8be0224b"));
    }

    #[test]
    fn events_have_their_category() {
        let list = AvailableEvents::parse(b"ksm:ksm_merge_one_page\nkvm:kvm_entry\n");
        assert!(list.contains("ksm:ksm_merge_one_page"));
        assert!(!list.contains("ksm_merge_one_page"));
    }

    #[test]
    fn pmu_types_are_numbers() {
        assert_eq!(parse_pmu_type(b"8\n"), Some(8));
        assert_eq!(parse_pmu_type(b""), None);
        assert_eq!(parse_pmu_type(b"\xff"), None);
    }
}
