//! Whether the zero page may stand where another page was.
#![forbid(unsafe_code)]

use std::fs;

/// Whether KSM now puts the zero page in the place of pages full of zeroes: `use_zero_pages` in
/// Documentation/admin-guide/mm/ksm.rst.
pub(super) fn merges_to_zero() -> bool {
    merges(|file| fs::read_to_string(format!("/sys/kernel/mm/ksm/{file}")).ok())
}

/// As above, by the switches that `read` finds. A kernel without one does not do it.
fn merges(read: impl Fn(&str) -> Option<String>) -> bool {
    let is_on = |file| read(file).is_some_and(|text| text.trim() == "1");
    // `run` is 0 while KSM stands still, and 2 while it undoes everything.
    is_on("run") && is_on("use_zero_pages")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_switches_must_be_on() {
        let with = |run: Option<&str>, zero: Option<&str>| {
            merges(|file| {
                let text = if file == "run" { run } else { zero };
                text.map(|text| format!("{text}\n"))
            })
        };
        assert!(with(Some("1"), Some("1")));
        for (run, zero) in [
            (None, None),
            (Some("1"), None),
            (Some("1"), Some("0")),
            (Some("0"), Some("1")),
            (Some("2"), Some("1")),
        ] {
            assert!(!with(run, zero));
        }
    }
}
