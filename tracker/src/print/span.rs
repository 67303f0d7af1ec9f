//! Mappings over many rounds.
//!
//! A mapping may grow, shrink, be split and merged. So mappings that overlap, in one round or in
//! different ones, are one span: from the lowest start to the highest end.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use pages::track::TrackedMapping;
use uffd::{Backing, PAGE_SIZE, pages_in};

use super::words::size;

/// A mapping, or several at the same addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MappingSpan {
    /// From the lowest start to the highest end.
    pub range: Range<u64>,
    /// The names it had, as somebody else wrote them.
    pub names: Vec<String>,
    /// What its pages come from.
    pub backing: Backing,
    /// Bytes of one page.
    pub page_size: u64,
}

/// Names kept of one span: more are of no help.
const NAMES: usize = 3;

impl MappingSpan {
    fn new(mapping: &TrackedMapping) -> Self {
        Self {
            range: mapping.start..mapping.end,
            names: [&mapping.name]
                .into_iter()
                .filter(|name| !name.is_empty())
                .cloned()
                .collect(),
            backing: mapping.backing,
            page_size: mapping.page_size,
        }
    }

    /// Its pages of 4 KiB, if all were mapped at once.
    pub(crate) fn pages(&self) -> u64 {
        pages_in(&self.range)
    }

    /// Its names as one.
    pub(crate) fn name(&self) -> String {
        match self.names.as_slice() {
            [] => "[anon]".to_owned(),
            names => names.join(", "),
        }
    }

    /// How large its pages are, if that is not 4 KiB.
    pub(crate) fn huge_pages(&self) -> Option<String> {
        let pages = self.page_size as f64 / PAGE_SIZE as f64;
        (self.page_size != PAGE_SIZE).then(|| size(pages))
    }

    /// Takes in what overlaps it and begins no lower.
    fn merge(&mut self, other: Self) {
        self.range.end = self.range.end.max(other.range.end);
        for name in other.names {
            if !self.names.contains(&name) && self.names.len() < NAMES {
                self.names.push(name);
            }
        }
    }

    fn name_bytes(&self) -> usize {
        self.names.iter().map(String::len).sum()
    }
}

/// Spans that grow together as mappings come, by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpanBook {
    by_start: BTreeMap<u64, MappingSpan>,
    /// Bytes of all names.
    names: usize,
}

impl SpanBook {
    /// Takes a mapping in.
    pub(crate) fn add(&mut self, mapping: &TrackedMapping) {
        // A recording may claim mappings that end before they start.
        if mapping.start >= mapping.end {
            return;
        }
        let mut new = MappingSpan::new(mapping);
        let mut overlapping = Vec::new();
        for (start, span) in self.by_start.range(..mapping.end).rev() {
            if span.range.end <= mapping.start {
                break;
            }
            overlapping.push(*start);
        }
        for start in overlapping.into_iter().rev() {
            let Some(mut known) = self.by_start.remove(&start) else {
                continue;
            };
            self.names -= known.name_bytes();
            if known.range.start <= new.range.start {
                std::mem::swap(&mut known, &mut new);
            }
            new.merge(known);
        }
        self.names += new.name_bytes();
        self.by_start.insert(new.range.start, new);
    }

    /// Bytes that they take.
    pub(crate) fn held(&self) -> u64 {
        let span = size_of::<(u64, MappingSpan)>() * 2;
        (self.by_start.len() * span + self.names) as u64
    }

    /// By address.
    pub(crate) fn into_vec(self) -> Vec<MappingSpan> {
        self.by_start.into_values().collect()
    }
}

/// The spans of all these mappings, by address.
pub(crate) fn spans<'a>(
    mappings: impl Iterator<Item = &'a Arc<TrackedMapping>>,
) -> Vec<MappingSpan> {
    let mut mappings: Vec<_> = mappings.collect();
    mappings.sort_unstable_by_key(|m| (m.start, m.end, Arc::as_ptr(m)));
    mappings.dedup_by_key(|m| Arc::as_ptr(m));
    let mut spans = SpanBook::default();
    mappings.iter().for_each(|mapping| spans.add(mapping));
    spans.into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, name: &str) -> Arc<TrackedMapping> {
        Arc::new(TrackedMapping {
            start,
            end,
            name: name.to_owned(),
            backing: Backing::Anon,
            page_size: PAGE_SIZE,
            shared: None,
        })
    }

    #[test]
    fn what_overlaps_at_any_time_is_one() {
        let all = [
            mapping(0x9000, 0xb000, "b"),
            mapping(0x1000, 0x4000, ""),
            mapping(0x3000, 0x6000, "a"),
            mapping(0x6000, 0x7000, "next to it"),
            mapping(0xa000, 0x9000, "backwards"),
        ];
        let told: Vec<_> = spans(all.iter())
            .iter()
            .map(|span| (span.range.clone(), span.name(), span.pages()))
            .collect();
        let expected = [
            (0x1000..0x6000, "a", 5),
            (0x6000..0x7000, "next to it", 1),
            (0x9000..0xb000, "b", 2),
        ];
        assert_eq!(
            told,
            expected.map(|(range, name, pages)| (range, name.to_owned(), pages))
        );
    }
}
