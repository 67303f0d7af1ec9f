//! The flags of a VMA that matter for what is reported.

/// What a flag of `VmFlags` means for write tracking.
const FLAGS: [(&str, &str); 13] = [
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
    ("uw", "userfaultfd tracks writes"),
    ("ui", "userfaultfd tracks minor faults"),
];

/// Those of `flags` that tell something here, with what; that it is tracked goes without saying.
pub fn telling(flags: &str) -> Vec<(&'static str, &'static str)> {
    let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
    let told = FLAGS.iter().filter(|(flag, _)| *flag != "uw" && has(flag));
    told.copied().collect()
}
