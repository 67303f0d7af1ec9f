//! Every family; each file has the list of its own.

mod agent;
mod explain;
mod faults;
mod markers;
mod memory;
mod tables;
mod times;
mod track;

use super::family::{FamilyChapter, FamilyRows, FamilySpec};
use super::tracked::TrackedField;

/// One list for each subject.
const SUBJECTS: [&[FamilySpec]; 9] = [
    faults::FAMILIES,
    markers::FAMILIES,
    tables::FAMILIES,
    times::FAMILIES,
    memory::FAMILIES,
    track::FAMILIES,
    explain::FAMILIES,
    track::NODE_FAMILIES,
    agent::FAMILIES,
];

/// All families, in the order of the exposition and of docs/metrics.md: by chapter, then by
/// subject.
pub fn families() -> impl Iterator<Item = &'static FamilySpec> {
    let chapters = FamilyChapter::ALL.into_iter();
    chapters.flat_map(|chapter| {
        let all = SUBJECTS.into_iter().flatten();
        all.filter(move |family| family.rows.chapter() == chapter)
    })
}

/// Everything that a tracked process shows in `/status`; what has a family comes first.
pub fn tracked_fields() -> impl Iterator<Item = &'static TrackedField> {
    let shown = families().filter_map(|family| match &family.rows {
        FamilyRows::Tracked(field) => Some(field),
        _ => None,
    });
    shown.chain(track::STATUS_ONLY)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem;

    use prometheus::core::Desc;

    use super::*;

    #[test]
    fn every_family_has_a_valid_descriptor() {
        for family in families() {
            let labels = family.labels.iter().map(ToString::to_string).collect();
            let (name, help) = (family.name.to_owned(), family.help.to_owned());
            let described = Desc::new(name, help, labels, Default::default());
            assert!(described.is_ok(), "{}", family.name);
        }
    }

    #[test]
    fn no_two_fields_of_a_section_of_a_tracked_process_have_one_key() {
        // Each kind of reading is a section of its own.
        let mut keys = HashSet::new();
        for field in tracked_fields() {
            let section = mem::discriminant(&field.read);
            assert!(keys.insert((section, field.key)), "{}", field.key);
        }
    }
}
