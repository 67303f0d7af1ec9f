//! Extents on disk: distances instead of addresses, in pages where they are pages.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use pages::track::PageExtent;

use super::cursor::{FrameCursor, FrameError};
use super::{FrameDamage, MemoryBudget};

/// log2 of a page: distances are counted in pages where all of them are whole.
const PAGE_SHIFT: u8 = 12;

/// The extents of one mapping in one round. Any list comes back as it was, also one that no kernel
/// would give.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct DiskExtents {
    /// log2 of the unit of the distances: 12, or 0 if some address is not a page's.
    shift: u8,
    /// Two for each extent: from the end of the one before (for the first: from the mapping's
    /// start), and its length.
    distances: Vec<u64>,
    /// Extents in a row with the same unit, all known or all unknown.
    kinds: Vec<ExtentKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct ExtentKind {
    count: u64,
    unit: u64,
    unknown: bool,
}

impl DiskExtents {
    /// Encodes those of a mapping that begins at `start`.
    pub(super) fn encode(start: u64, extents: &[PageExtent]) -> Self {
        let mut distances = Vec::with_capacity(extents.len() * 2);
        let mut kinds: Vec<ExtentKind> = Vec::new();
        let mut at = start;
        for PageExtent {
            range,
            unit,
            unknown,
        } in extents
        {
            // Wrapping, so that no input is refused: decoding wraps back.
            distances.push(range.start.wrapping_sub(at));
            distances.push(range.end.wrapping_sub(range.start));
            at = range.end;
            match kinds.last_mut() {
                Some(kind) if (kind.unit, kind.unknown) == (*unit, *unknown) => kind.count += 1,
                _ => kinds.push(ExtentKind {
                    count: 1,
                    unit: *unit,
                    unknown: *unknown,
                }),
            }
        }
        let pages = distances
            .iter()
            .all(|d| d.trailing_zeros() >= u32::from(PAGE_SHIFT));
        let shift = if pages { PAGE_SHIFT } else { 0 };
        distances.iter_mut().for_each(|d| *d >>= shift);
        Self {
            shift,
            distances,
            kinds,
        }
    }

    /// Decodes those of a mapping that begins at `start`.
    pub(super) fn decode(
        cursor: &mut FrameCursor<'_>,
        start: u64,
        budget: &MemoryBudget,
    ) -> Result<Vec<PageExtent>, FrameError> {
        let shift: u8 = cursor.take()?;
        if ![0, PAGE_SHIFT].contains(&shift) {
            return Err(FrameDamage::Unit.into());
        }
        let numbers = cursor.count()?;
        let mut distances = cursor.skip(numbers)?;
        let count = numbers / 2;
        budget.check((count * size_of::<PageExtent>()) as u64)?;
        let mut extents = Vec::with_capacity(count);
        let mut at = start;
        for _ in 0..cursor.count()? {
            let kind: ExtentKind = cursor.take()?;
            if kind.count > (count - extents.len()) as u64 {
                return Err(FrameDamage::Extents.into());
            }
            for _ in 0..kind.count {
                let from = at.wrapping_add(distances.take::<u64>()? << shift);
                at = from.wrapping_add(distances.take::<u64>()? << shift);
                extents.push(PageExtent {
                    range: Range {
                        start: from,
                        end: at,
                    },
                    unit: kind.unit,
                    unknown: kind.unknown,
                });
            }
        }
        if extents.len() * 2 != numbers {
            return Err(FrameDamage::Extents.into());
        }
        Ok(extents)
    }
}
