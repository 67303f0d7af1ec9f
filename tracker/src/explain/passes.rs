//! The two passes of a round over content: what is reported, then what is not.
//!
//! What was reported may be written again at any moment: it is read first, and only then does a
//! process that stands still go on.

use std::sync::Arc;

use pages::track::{MappingRound, PageExtent, TrackRound};
use uffd::{PAGE_SIZE, UffdError};

use super::content::{PageContent, PageImage, PageLook, SeenPage};
use super::join::AnswerJoin;
use super::model::{ByMapping, MissedPages, ReportedPages, RoundKind, UnknownReason};

/// What the first pass found.
#[derive(Debug)]
pub(super) struct ReportedPass {
    pub reported: ByMapping<ReportedPages>,
    /// Pages that were written again before they could be read.
    pub busy: u64,
}

/// Looks at everything that a round reports.
pub(super) fn reported_pass(
    content: &mut impl PageContent,
    round: &TrackRound,
    kind: RoundKind,
    join: &mut AnswerJoin<'_, '_>,
) -> Result<ReportedPass, UffdError> {
    let mut pass = ReportedPass {
        reported: Vec::new(),
        busy: 0,
    };
    for row in &round.mappings {
        let mut each = |extent: &PageExtent, seen: SeenPage| {
            pass.busy += u64::from(seen.look == PageLook::Not(UnknownReason::WrittenAgain));
            if kind == RoundKind::Counted {
                join.report(&row.mapping, extent, seen);
            }
        };
        if is_gone(row) {
            look_at_gone(&row.written, &mut each);
        } else {
            content.look(&row.written, &mut each)?;
        }
        let reported = join.take_reported();
        if !reported.is_empty() {
            pass.reported.push((Arc::clone(&row.mapping), reported));
        }
    }
    Ok(pass)
}

/// Looks at everything that a round does not report; returns what changed nevertheless.
pub(super) fn missed_pass(
    content: &mut impl PageContent,
    round: &TrackRound,
    kind: RoundKind,
    join: &mut AnswerJoin<'_, '_>,
) -> Result<ByMapping<MissedPages>, UffdError> {
    let mut missed = Vec::new();
    for row in round.mappings.iter().filter(|row| !is_gone(row)) {
        let mut each = |seen: SeenPage| {
            if kind == RoundKind::Counted {
                join.verify(&row.mapping, seen);
            }
        };
        content.verify(&row.mapping, &row.written, &mut each)?;
        let found = join.take_missed();
        if !found.is_empty() {
            missed.push((Arc::clone(&row.mapping), found));
        }
    }
    Ok(missed)
}

/// Whether it tells only what was reported of a mapping that is gone.
fn is_gone(row: &MappingRound) -> bool {
    row.pages.tracked == 0 && row.pages.vanished != 0
}

/// Hands over reported pages whose content nobody can look at any more.
fn look_at_gone(reported: &[PageExtent], each: &mut dyn FnMut(&PageExtent, SeenPage)) {
    for extent in reported {
        for address in extent.range.clone().step_by(PAGE_SIZE as usize) {
            let seen = SeenPage {
                address,
                before: PageImage::None,
                look: PageLook::Unmapped,
            };
            each(extent, seen);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use pages::track::{TrackedMapping, TrackedPages};
    use uffd::Backing;

    use super::*;
    use crate::explain::aliases::AliasBook;
    use crate::explain::history::EventHistory;
    use crate::explain::join::{AbsentArming, JoinFacts, MemoryBefore, ZapReports};
    use crate::explain::model::ReportVerdict;
    use crate::explain::sample::{mapping_of, scan};

    /// Content that is made up: every page was 7, and is what these say, by its number.
    struct FakeContent {
        written: Vec<PageLook>,
        clean: Vec<PageLook>,
    }

    fn seen(start: u64, looks: &[PageLook]) -> impl Iterator<Item = SeenPage> {
        (0..).zip(looks).map(move |(number, look)| SeenPage {
            address: start + number * PAGE_SIZE,
            before: PageImage::Content(7),
            look: *look,
        })
    }

    impl PageContent for FakeContent {
        fn look(
            &mut self,
            reported: &[PageExtent],
            each: &mut dyn FnMut(&PageExtent, SeenPage),
        ) -> Result<(), UffdError> {
            for extent in reported {
                seen(extent.range.start, &self.written).for_each(|page| each(extent, page));
            }
            Ok(())
        }

        fn verify(
            &mut self,
            mapping: &TrackedMapping,
            _: &[PageExtent],
            each: &mut dyn FnMut(SeenPage),
        ) -> Result<(), UffdError> {
            seen(mapping.start, &self.clean).for_each(each);
            Ok(())
        }
    }

    /// A round in which one mapping of two reports its first pages.
    fn round(number: u64, pages: u64) -> TrackRound {
        let row = |start: u64, written: Vec<PageExtent>| MappingRound {
            mapping: Arc::new(mapping_of(start..start + 16 * PAGE_SIZE, Backing::Shmem)),
            pages: TrackedPages::default(),
            written,
        };
        let extent = PageExtent {
            range: 0x10_0000..0x10_0000 + pages * PAGE_SIZE,
            unit: PAGE_SIZE,
            unknown: false,
        };
        TrackRound {
            number,
            mappings: vec![row(0x10_0000, vec![extent]), row(0x20_0000, vec![])],
            ..TrackRound::default()
        }
    }

    fn passes(round: &TrackRound) -> (ReportedPass, ByMapping<MissedPages>, u64) {
        let mut content = FakeContent {
            written: vec![
                PageLook::Content(7),
                PageLook::Content(8),
                PageLook::Not(UnknownReason::WrittenAgain),
            ],
            clean: vec![PageLook::Content(7), PageLook::Content(9)],
        };
        let facts = JoinFacts {
            round: round.number,
            why_unseen: UnknownReason::NotSeen,
            absent: AbsentArming::Armed,
            zaps: ZapReports::OfAnonymous,
            moved: Vec::new(),
            memory: MemoryBefore::Kept,
        };
        let mut history = EventHistory::default();
        let mut index = history.index(scan());
        let mut aliases = AliasBook::default();
        let mut join = AnswerJoin::new(&mut index, &mut aliases, facts);
        let kind = RoundKind::of(round);
        let reported = reported_pass(&mut content, round, kind, &mut join).unwrap();
        let missed = missed_pass(&mut content, round, kind, &mut join).unwrap();
        (reported, missed, join.verified())
    }

    #[test]
    fn a_round_that_counts_has_answers_by_mapping() {
        let (pass, missed, verified) = passes(&round(1, 3));
        assert_eq!((pass.busy, verified), (1, 4));
        let [(mapping, told)] = &pass.reported[..] else {
            panic!("{:?}", pass.reported);
        };
        assert_eq!(mapping.start, 0x10_0000);
        let verdicts: Vec<_> = told.iter().map(|pages| pages.why.verdict).collect();
        let (changed, unchanged) = (ReportVerdict::Changed, ReportVerdict::Unchanged);
        assert_eq!(verdicts, [unchanged, changed, ReportVerdict::Unknown]);
        // Both mappings have a page that changed and was not reported.
        assert_eq!(missed.len(), 2);
        assert_eq!(missed[1].1[0].range.start, 0x20_0000 + PAGE_SIZE);
    }

    /// What is told of memory that is gone was reported before; nothing of it is compared.
    #[test]
    fn a_mapping_that_is_gone_is_not_looked_at() {
        let mut round = round(1, 2);
        for row in &mut round.mappings {
            row.pages.vanished = 16;
        }
        let (pass, missed, verified) = passes(&round);
        assert_eq!((pass.busy, verified, missed.len()), (0, 0, 0));
        let told: Vec<_> = pass.reported.iter().flat_map(|(_, told)| told).collect();
        let verdicts: Vec<_> = told.iter().map(|it| (it.pages(), it.why.verdict)).collect();
        assert_eq!(verdicts, [(2, ReportVerdict::Gone)]);
    }

    #[test]
    fn a_round_that_settles_only_looks() {
        let (pass, missed, verified) = passes(&round(0, 3));
        assert_eq!((pass.busy, verified), (1, 0));
        assert!(pass.reported.is_empty() && missed.is_empty());
    }
}
