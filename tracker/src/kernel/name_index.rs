//! A compact index from a name to the positions of the things that carry it.

use std::hash::{DefaultHasher, Hasher};

/// Pairs of name hash and position, sorted. Kernels have 100,000 types and 200,000 symbols;
/// sorting two integers each is faster than filling a map of strings, and allocates once.
#[derive(Default)]
pub(crate) struct NameIndex(Vec<(u32, u32)>);

impl NameIndex {
    /// Indexes each name by its position in the iteration. Empty names are left out.
    pub fn build<'a>(names: impl Iterator<Item = &'a [u8]>) -> Self {
        let named = (0u32..).zip(names).filter(|(_, name)| !name.is_empty());
        let mut entries: Vec<_> = named
            .map(|(position, name)| (hash(name), position))
            .collect();
        entries.sort_unstable();
        Self(entries)
    }

    /// The positions of names with the same hash, lowest first; the caller compares the names.
    pub fn candidates(&self, name: &[u8]) -> impl Iterator<Item = u32> {
        let wanted = hash(name);
        let from = self.0.partition_point(|(hash, _)| *hash < wanted);
        let entries = self.0.get(from..).unwrap_or_default();
        entries
            .iter()
            .take_while(move |(hash, _)| *hash == wanted)
            .map(|(_, position)| *position)
    }
}

fn hash(name: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    // Half the bits are enough: equal hashes are told apart by their names.
    (hasher.finish() >> 32) as u32
}
