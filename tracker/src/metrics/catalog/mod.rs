//! Every family, in the order of the exposition and of docs/metrics.md; each file has its own list.

mod agent;
mod explain;
mod node;
mod process;
mod track;
mod vma;

use super::family::{FamilyRows, FamilySpec};
use super::tracked::TrackedField;

/// All families, in the order of the exposition.
pub fn families() -> impl Iterator<Item = &'static FamilySpec> {
    let chapters = [
        vma::FAMILIES,
        process::FAMILIES,
        node::FAMILIES,
        track::FAMILIES,
        explain::FAMILIES,
        track::NODE_FAMILIES,
        agent::FAMILIES,
    ];
    chapters.into_iter().flatten()
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
    fn no_two_fields_of_a_tracked_process_have_one_key() {
        let mut keys: Vec<_> = tracked_fields().map(|field| field.key).collect();
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
    }
}
