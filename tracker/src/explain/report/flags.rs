//! The flags of a VMA that matter for what is reported.

/// Flags of `VmFlags`, and what they mean for write tracking.
const FLAGS: [(&str, &str); 12] = [
    ("sh", "shared: other mappings of it are not seen"),
    ("lo", "locked"),
    ("io", "memory of a device"),
    ("pf", "memory of a device, without pages"),
    ("ht", "huge pages that are never split"),
    ("hg", "huge pages wanted"),
    ("nh", "no huge pages"),
    ("mg", "KSM may merge it"),
    ("dc", "not passed on by fork"),
    ("wf", "zeroed for a child"),
    ("um", "userfaultfd tracks missing pages"),
    ("ui", "userfaultfd tracks minor faults"),
];

/// The flags that say something about write tracking, and what. That a VMA is tracked goes without
/// saying.
pub(super) fn telling(flags: &str) -> Vec<(&'static str, &'static str)> {
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    FLAGS.into_iter().filter(|(flag, _)| has(flag)).collect()
}
