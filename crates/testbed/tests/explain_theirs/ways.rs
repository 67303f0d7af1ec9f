//! Ways in which trackers fill, move and lose memory: each with the table of what must be said,
//! written before.

use std::ops::Range;

use testbed::calls::{CallingTracker, part};
use testbed::script::{HUGETLB, SHMEM_THP, THP};
use uffd::UffdFeatures;

use super::*;

use ReportCause::{Filled, HugeUnit, Move, UserStore};
use ReportVerdict::{Changed, Gone, Unchanged};

/// Modes of UFFDIO_REGISTER.
const WP: u64 = 2;
const MISSING_WP: u64 = 3;
const MINOR_WP: u64 = 6;

/// What a tracker asks for that is told by the kernel.
const TOLD: UffdFeatures = UffdFeatures::WP_ASYNC;

fn everywhere() -> UffdFeatures {
    TOLD | UffdFeatures::WP_UNPOPULATED | UffdFeatures::WP_HUGETLBFS_SHMEM
}

/// A tracker with an area that it has armed, and who explains it.
struct ObservedTracker {
    tracker: CallingTracker,
    area: Range<u64>,
    explainer: Option<ProcessExplainer<'static>>,
}

impl ObservedTracker {
    /// Maps memory, of which the first pages hold something.
    fn map(target: ClientTarget, kind: ScriptMemory, pages: u64, filled: u64) -> Self {
        let mut tracker = CallingTracker::start(target);
        let area = tracker.map(kind, pages);
        if filled > 0 {
            tracker.tell(&format!("do store 0 {FIRST} 1 0-{}", filled - 1));
        }
        Self {
            tracker,
            area,
            explainer: None,
        }
    }

    /// Registers it and arms it with UFFDIO_WRITEPROTECT.
    fn armed(self, features: UffdFeatures, mode: u64) -> Self {
        let all = self.area.clone();
        self.armed_in_part(features, mode, &all)
    }

    /// The same, but arms only a part.
    fn armed_in_part(mut self, features: UffdFeatures, mode: u64, part: &Range<u64>) -> Self {
        self.tracker.register(features, &self.area, mode);
        self.tracker.on("arm", part, "");
        self
    }

    /// From now on it is explained.
    fn explained(mut self) -> Self {
        let (pid, page) = (self.tracker.pid(), self.area.start);
        self.explainer = Some(explained(pid, page, ReportsAsked::Theirs));
        self
    }

    fn store(&mut self, area: u64, value: u64, pages: &str) {
        self.tracker
            .tell(&format!("do store {area} {value} 1 {pages}"));
    }

    fn pages(&self, pages: Range<u64>) -> Range<u64> {
        part(&self.area, pages)
    }

    /// Looks: what is reported, if nothing is missed.
    fn look(&mut self) -> AnswerCounts {
        let round = step(self.explainer.as_mut().unwrap());
        assert!(round.missed.is_empty(), "{:x?}", round.missed);
        answers(&round)
    }

    /// The tracker asks for what is written; what is said of that.
    fn round(&mut self, pages: Range<u64>, told: u64) -> AnswerCounts {
        assert_eq!(self.look(), [].into(), "before it asks");
        let range = self.pages(pages);
        assert_eq!(self.tracker.scan(&range), told, "what it is told");
        self.look()
    }

    fn end(&mut self) -> ExplainFindings {
        of_theirs(self.explainer.take().unwrap().end().unwrap())
    }
}

const fn known(verdict: ReportVerdict, cause: ReportCause) -> AnswerKey {
    (verdict, cause, None)
}

type AnswerKey = (ReportVerdict, ReportCause, Option<UnknownReason>);

fn counts<const N: usize>(counts: [(AnswerKey, u64); N]) -> AnswerCounts {
    counts.into()
}

/// Whose memory it is, where everything is seen and this memory can be tracked.
fn targets(kind: ScriptMemory) -> impl Iterator<Item = ClientTarget> {
    let why = if sees_everything() {
        refused(StrategyName::Markers, kind)
    } else {
        Some("not everything is seen".to_owned())
    };
    if let Some(why) = &why {
        eprintln!("{} skipped: {why}", kind.0);
    }
    let is_right = why.is_none();
    ClientTarget::ALL.into_iter().filter(move |_| is_right)
}

#[test]
fn what_is_copied_in_is_written_unless_it_is_armed() {
    for target in targets(ANON) {
        // Nothing is there: markers.
        let it = ObservedTracker::map(target, ANON, 64, 0);
        let mut it = it.armed(everywhere(), MISSING_WP).explained();
        let (plain, zero) = (it.pages(0..16), it.pages(16..20));
        it.tracker.on("copy", &plain, "9 0");
        it.tracker.on("copy", &zero, "0 0");
        let expected = counts([(known(Changed, Filled), 16), (known(Unchanged, Filled), 4)]);
        assert_eq!(it.round(0..64, 20), expected);
        let armed = it.pages(32..48);
        it.tracker.on("copy", &armed, "9 1");
        assert_eq!(it.round(0..64, 0), [].into());
        it.store(0, 9, "32-35");
        it.store(0, 8, "36-38");
        let expected = counts([
            (known(Unchanged, UserStore), 4),
            (known(Changed, UserStore), 3),
        ]);
        assert_eq!(it.round(0..64, 7), expected);
        // Nobody has read what was copied in before it was written.
        let armed = it.pages(48..52);
        it.tracker.on("copy", &armed, "9 1");
        it.store(0, 9, "48-51");
        let range = it.area.clone();
        assert_eq!(it.tracker.scan(&range), 4);
        let expected = counts([(unknown(UserStore, UnknownReason::ShortRound), 4)]);
        assert_eq!(it.look(), expected);
    }
}

#[test]
fn what_maps_the_zero_page_is_written_and_unchanged() {
    for target in targets(ANON) {
        let it = ObservedTracker::map(target, ANON, 64, 32);
        // UFFDIO_ZEROPAGE finds no room where there is a marker.
        let there = it.pages(0..32);
        let it = it.armed_in_part(TOLD, MISSING_WP, &there);
        let mut it = it.explained();
        let zero = it.pages(32..40);
        it.tracker.on("zero", &zero, "");
        let expected = counts([(known(Unchanged, Filled), 8)]);
        assert_eq!(it.round(32..40, 8), expected);
    }
}

#[test]
fn what_is_continued_is_written_unless_it_is_armed() {
    for target in targets(MEMFD) {
        let mut it = ObservedTracker::map(target, MEMFD, 32, 32);
        // The file keeps it.
        it.tracker.tell("do zap 0 0-31");
        let mut it = it.armed(everywhere(), MINOR_WP).explained();
        let (plain, armed) = (it.pages(0..8), it.pages(8..16));
        it.tracker.on("continue", &plain, "0");
        it.tracker.on("continue", &armed, "1");
        // Reading it before would have mapped it.
        let expected = counts([(unknown(Filled, UnknownReason::NotMapped), 8)]);
        assert_eq!(it.round(0..16, 8), expected);
        it.store(0, FIRST, "8-12");
        let expected = counts([(known(Unchanged, UserStore), 5)]);
        assert_eq!(it.round(0..16, 5), expected);
    }
}

#[test]
fn what_is_moved_in_is_written() {
    // The kernel moves no pages of another process (`userfaultfd_move`, "cross-mm").
    for target in targets(ANON).filter(|target| *target == ClientTarget::Inside) {
        let it = ObservedTracker::map(target, ANON, 64, 32);
        // Nor does UFFDIO_MOVE.
        let there = it.pages(0..32);
        let it = it.armed_in_part(TOLD, MISSING_WP, &there);
        let mut it = it.explained();
        let from = it.tracker.map(ANON, 16);
        it.store(1, 9, "0-15");
        let to = it.pages(32..40);
        it.tracker.on("move", &to, &format!("{:x}", from.start));
        let expected = counts([(known(Changed, Move), 8)]);
        assert_eq!(it.round(32..40, 8), expected);
    }
}

#[test]
fn huge_pages_lose_what_their_kind_loses() {
    let (pages, all) = (1024, 0..1024);
    for target in targets(THP) {
        let it = ObservedTracker::map(target, THP, pages, pages);
        let mut it = it.armed(everywhere(), WP).explained();
        it.store(0, FIRST, "3-7");
        it.store(0, 9, "600-602");
        let expected = counts([
            (known(Unchanged, UserStore), 5),
            (known(Changed, UserStore), 3),
        ]);
        assert_eq!(it.round(all.clone(), 8), expected);
    }
    for target in targets(SHMEM_THP) {
        let it = ObservedTracker::map(target, SHMEM_THP, pages, pages);
        // UFFDIO_WRITEPROTECT splits huge pages: nothing is mapped then, and reading would map it.
        let mut it = it.armed(everywhere(), WP).explained();
        it.store(0, 9, "3-7");
        let expected = counts([(unknown(UserStore, UnknownReason::NotMapped), 5)]);
        assert_eq!(it.round(all.clone(), 5), expected);
        it.store(0, 9, "3-4");
        it.store(0, 8, "5-7");
        let expected = counts([
            (known(Unchanged, UserStore), 2),
            (known(Changed, UserStore), 3),
        ]);
        assert_eq!(it.round(all.clone(), 5), expected);
        // PAGEMAP_SCAN does not.
        let mut it = ObservedTracker::map(target, SHMEM_THP, pages, pages);
        let area = it.area.clone();
        it.tracker.register(everywhere(), &area, WP);
        assert_eq!(it.tracker.scan(&area), pages);
        let mut it = it.explained();
        it.store(0, 9, "3");
        it.store(0, FIRST, "4");
        let expected = counts([
            (known(Changed, UserStore), 1),
            (known(Unchanged, HugeUnit), 511),
        ]);
        assert_eq!(it.round(all.clone(), 512), expected);
    }
    for target in targets(HUGETLB) {
        let it = ObservedTracker::map(target, HUGETLB, pages, pages);
        let mut it = it.armed(everywhere(), WP).explained();
        it.store(0, 9, "600");
        let expected = counts([
            (known(Changed, UserStore), 1),
            (known(Unchanged, HugeUnit), 511),
        ]);
        assert_eq!(it.round(all.clone(), 512), expected);
    }
}

#[test]
fn a_fork_takes_nothing_from_the_parent() {
    for target in targets(ANON) {
        for event in [false, true] {
            if event && target == ClientTarget::Inside {
                // Its messages are read by a thread that the child has not.
                continue;
            }
            let mut it = ObservedTracker::map(target, ANON, 64, 64);
            let features = match event {
                true => everywhere() | UffdFeatures::EVENT_FORK,
                false => everywhere(),
            };
            let area = it.area.clone();
            it.tracker.register(features, &area, WP);
            if event {
                it.tracker.tell("listen");
            }
            it.tracker.on("arm", &area, "");
            let mut it = it.explained();
            it.store(0, FIRST, "3-7");
            it.tracker.tell("do fork 0 9 10-19");
            it.store(0, 8, "20-22");
            let expected = counts([
                (known(Unchanged, UserStore), 5),
                (known(Changed, UserStore), 3),
            ]);
            assert_eq!(it.round(0..64, 8), expected, "{event}");
        }
    }
}

/// Without its event, mremap(2) takes what it moves from the tracker.
#[test]
fn what_mremap_takes_away_is_gone() {
    for target in targets(ANON) {
        let it = ObservedTracker::map(target, ANON, 64, 64);
        let mut it = it.armed(everywhere(), WP).explained();
        it.store(0, 9, "3-7");
        assert_eq!(it.look(), [].into());
        it.tracker.move_area(0);
        let expected = counts([(known(Gone, UserStore), 5)]);
        assert_eq!(it.look(), expected);
        assert_eq!(it.end().never_observed, 0);
        // No look has seen it.
        let it = ObservedTracker::map(target, ANON, 64, 64);
        let mut it = it.armed(everywhere(), WP).explained();
        it.store(0, 9, "3-7");
        it.tracker.move_area(0);
        assert_eq!(it.look(), [].into());
        assert_eq!(it.end().never_observed, 5);
    }
}

#[test]
fn what_mremap_moves_with_its_event_is_known_where_it_is() {
    for target in targets(ANON) {
        for looks_before in [false, true] {
            let mut it = ObservedTracker::map(target, ANON, 64, 64);
            let area = it.area.clone();
            let features = everywhere() | UffdFeatures::EVENT_REMAP;
            it.tracker.register(features, &area, WP);
            it.tracker.tell("listen");
            it.tracker.on("arm", &area, "");
            let mut it = it.explained();
            it.store(0, 9, "3-7");
            if looks_before {
                assert_eq!(it.look(), [].into());
            }
            it.area = it.tracker.move_area(0);
            it.store(1, FIRST, "20-21");
            let expected = counts([
                (known(Changed, UserStore), 5),
                (known(Unchanged, UserStore), 2),
            ]);
            assert_eq!(it.round(0..64, 7), expected, "{looks_before}");
            let findings = it.end();
            assert_eq!((findings.never_observed, findings.not_rearmed), (0, 0));
        }
    }
}
