//! What happened to pages since they were armed: the kernel's events, by page.
//!
//! An event is told before it takes effect, under the lock that a scan takes too, where it is about
//! one page. So what a scan reports has its event in the history by the time the scan has returned.
//! Events that come while a scan is under way belong to this round or to the next one, and each
//! serves one report.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use rustix::time::{ClockId, clock_gettime};
use tracker_ebpf::EventKind;
use uffd::{PAGE_SIZE, PMD_SIZE};

use super::model::{EventMeaning, ReportCause, WatchedEvent};

/// Events that no round has settled.
#[derive(Default)]
pub(super) struct EventHistory {
    events: Vec<WatchedEvent>,
    /// When the last scan had armed everything: CLOCK_MONOTONIC in nanoseconds.
    armed: u64,
}

/// A scan that is under way: the arming of a round, and the report of it. Times are CLOCK_MONOTONIC
/// in nanoseconds, as the kernel's events have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunningScan {
    pub began: u64,
}

/// A scan that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScanSpan {
    pub began: u64,
    pub ended: u64,
}

/// A page that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageQuery {
    pub address: u64,
    /// Bytes that one report is about.
    pub unit: u64,
    /// Whether it counts as written when it is taken out of its page table: no marker is left.
    pub zaps_count: bool,
}

/// An event that took the protection off a page, if it had any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageDisarming {
    /// Its number among the events.
    pub event: usize,
    pub time: u64,
    pub cause: ReportCause,
    /// It is about this page alone, and the kernel tells of it only if the page is armed.
    pub of_armed: bool,
}

/// A move of pages: to where, and from where.
pub(super) type PageMove = (Range<u64>, u64);

/// Ranges of more huge pages than this are looked up one by one.
const WIDE: u64 = 64;

/// Pages that mremap(2) has moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MovedPages {
    pub from: Range<u64>,
    /// Where the first of them is now.
    pub to: u64,
    pub time: u64,
}

impl MovedPages {
    /// Where an address of before is now, if it has moved.
    pub(super) fn now(&self, address: u64) -> Option<u64> {
        let moved = self.from.contains(&address);
        moved.then(|| self.to + (address - self.from.start))
    }
}

impl RunningScan {
    pub(super) fn begin() -> Self {
        Self { began: now() }
    }

    pub(super) fn finish(self) -> ScanSpan {
        ScanSpan {
            began: self.began,
            ended: now(),
        }
    }
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

impl EventHistory {
    /// Adds what came since.
    pub(super) fn add(&mut self, events: Vec<WatchedEvent>) {
        self.events.extend(events);
    }

    /// Forgets events up to a time that are about none of these ranges, which are disjoint and by
    /// address; returns them.
    pub(super) fn keep(&mut self, ranges: &[Range<u64>], until: u64) -> Vec<WatchedEvent> {
        let touches = |range: &Range<u64>| overlaps_any(ranges, range);
        let is_other = |event: &mut WatchedEvent| {
            let touched = touches(&event.range) || event.left().is_some_and(|it| touches(&it));
            event.time <= until && !touched
        };
        self.events.extract_if(.., is_other).collect()
    }

    /// What mremap(2) has moved, by time.
    pub(super) fn moves(&self) -> Vec<MovedPages> {
        let moves = self.events.iter().filter(|it| it.kind == EventKind::Move);
        let moves = moves.filter_map(|event| {
            Some(MovedPages {
                from: event.left()?,
                to: event.range.start,
                time: event.time,
            })
        });
        let mut moves: Vec<_> = moves.collect();
        moves.sort_by_key(|moved| moved.time);
        moves
    }

    /// Pages have moved with their protection: what came to them before came to where they are
    /// now, and the move itself is nothing.
    pub(super) fn follow(&mut self, moved: &MovedPages) {
        let is_it =
            |event: &WatchedEvent| event.kind == EventKind::Move && event.time == moved.time;
        self.events.retain(|event| !is_it(event));
        for event in &mut self.events {
            let Some(start) = moved.now(event.range.start) else {
                continue;
            };
            if event.time < moved.time && event.range.end <= moved.from.end {
                let length = event.range.end - event.range.start;
                event.address = moved.now(event.address).unwrap_or(event.address);
                event.range = start..start + length;
            }
        }
    }

    /// What no round has settled: the pages of events about one, and the ranges of others.
    pub(super) fn touched(&self) -> impl Iterator<Item = Range<u64>> {
        let left = self.events.iter().filter_map(WatchedEvent::left);
        self.events.iter().map(|it| it.range.clone()).chain(left)
    }

    /// The events that were added last.
    pub(super) fn newest(&self, count: u64) -> &[WatchedEvent] {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        &self.events[self.events.len().saturating_sub(count)..]
    }

    /// Forgets everything: another address space.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The events by page, for the reports of a scan. Ends with [`EventIndex::settle`].
    pub(super) fn index(&mut self, scan: ScanSpan) -> EventIndex<'_> {
        self.events.sort_by_key(|event| event.time);
        let mut index = EventIndex {
            scan,
            single: Vec::new(),
            chunks: HashMap::new(),
            wide: Vec::new(),
            used: HashSet::new(),
            events: &mut self.events,
            armed: &mut self.armed,
        };
        for (number, event) in index.events.iter().enumerate() {
            if event.time > scan.ended {
                break;
            }
            if is_single(event) {
                index.single.push((event.range.start, number));
                continue;
            }
            if event.range.end - event.range.start > WIDE * PMD_SIZE {
                index.wide.push(number);
                continue;
            }
            for range in [Some(event.range.clone()), event.left()] {
                for chunk in range.into_iter().flat_map(chunks) {
                    index.chunks.entry(chunk).or_default().push(number);
                }
            }
        }
        // The sort is stable: those of one page stay by time.
        index.single.sort_by_key(|(page, _)| *page);
        index
    }
}

/// Whether a range overlaps one of these, which are disjoint and by address.
pub(super) fn overlaps_any(ranges: &[Range<u64>], range: &Range<u64>) -> bool {
    let next = ranges.partition_point(|it| it.end <= range.start);
    ranges.get(next).is_some_and(|it| it.start < range.end)
}

/// Numbers of the huge pages that a range touches.
fn chunks(range: Range<u64>) -> Range<u64> {
    range.start / PMD_SIZE..range.end.div_ceil(PMD_SIZE)
}

/// Whether an event is about one page, and thus for one report.
fn is_single(event: &WatchedEvent) -> bool {
    event.range.end - event.range.start <= PAGE_SIZE && event.left().is_none()
}

/// The events of a round by page.
pub(super) struct EventIndex<'a> {
    scan: ScanSpan,
    events: &'a mut Vec<WatchedEvent>,
    armed: &'a mut u64,
    /// Events about one page: its address and the event's number.
    single: Vec<(u64, usize)>,
    /// Others by the 2 MiB they touch.
    chunks: HashMap<u64, Vec<usize>>,
    wide: Vec<usize>,
    /// Events about one page that have served a report.
    used: HashSet<usize>,
}

impl EventIndex<'_> {
    /// What made a page be reported, and the event that tells.
    pub(super) fn cause(&mut self, page: &PageQuery) -> Option<(ReportCause, &WatchedEvent)> {
        let mut before: Option<(usize, ReportCause)> = None;
        let mut during: Option<(usize, ReportCause)> = None;
        let mut perhaps: Option<(usize, ReportCause)> = None;
        for number in self.single(page).chain(self.ranges(page.address)) {
            let event = &self.events[number];
            let Some(cause) = meaning(event, page) else {
                continue;
            };
            if is_uncertain(event, page) {
                perhaps = Some((number, cause));
            } else if event.time <= self.scan.began {
                if before.is_none_or(|(last, _)| self.is_likelier(number, last)) {
                    before = Some((number, cause));
                }
            } else if during.is_none_or(|(first, _)| number < first) {
                during = Some((number, cause));
            }
        }
        let (number, cause) = before.or(during).or(perhaps)?;
        self.serve(number);
        Some((cause, &self.events[number]))
    }

    /// Whether of two events before the scan the first one disarmed the page, and not the second:
    /// the later one, unless it may have found the page without protection.
    fn is_likelier(&self, number: usize, than: usize) -> bool {
        let (earlier, later) = (number.min(than), number.max(than));
        if self.is_repeated(earlier, later) {
            number == earlier
        } else {
            number == later
        }
    }

    /// Whether the later of two events may have found what the earlier one left: the hardware tells
    /// of a write to a page that is not writable, and after a zap and a new write fork makes such
    /// pages, too.
    fn is_repeated(&self, earlier: usize, later: usize) -> bool {
        self.events[earlier].time > *self.armed
            && self.events[later].kind == EventKind::HardwareFault
    }

    /// Events about single pages of the unit that a page is in.
    fn single(&self, page: &PageQuery) -> impl Iterator<Item = usize> {
        let unit = page.unit.max(PAGE_SIZE);
        let start = page.address / unit * unit;
        let from = self.single.partition_point(|(at, _)| *at < start);
        let within = move |(at, _): &&(u64, usize)| *at < start + unit;
        self.single[from..]
            .iter()
            .take_while(within)
            .map(|(_, number)| *number)
            .filter(move |number| !self.used.contains(number) || unit > PAGE_SIZE)
    }

    /// Other events that may be about an address.
    fn ranges(&self, address: u64) -> impl Iterator<Item = usize> {
        let chunk = self.chunks.get(&(address / PMD_SIZE));
        chunk.into_iter().flatten().chain(&self.wide).copied()
    }

    /// Whether such an event about a range came to a page, whenever it was.
    pub(super) fn tells(&self, page: u64, wanted: impl Fn(&WatchedEvent) -> bool) -> bool {
        let mut events = self.ranges(page).map(|number| &self.events[number]);
        events.any(|event| event.range.contains(&page) && wanted(event))
    }

    /// Whether such an event came to a page, about it alone or about a range, whenever it was.
    pub(super) fn came_to(&self, page: u64, wanted: impl Fn(&WatchedEvent) -> bool) -> bool {
        let from = self.single.partition_point(|(at, _)| *at < page);
        let single = self.single.get(from..).unwrap_or_default().iter();
        let alone = single.take_while(|(at, _)| *at == page);
        let mut alone = alone.map(|(_, number)| &self.events[*number]);
        alone.any(&wanted) || self.tells(page, wanted)
    }

    /// Forgets what has served, and nothing else: the scan was only of a part.
    pub(super) fn settle_part(self) {
        self.settle_unless(0, |_| false);
    }

    /// All events of the round, by time.
    pub(super) fn events(&self) -> &[WatchedEvent] {
        self.events
    }

    /// Takes out the moves that brought pages to ranges where they are seen now.
    pub(super) fn take_moves(&mut self, seen: impl Fn(&Range<u64>) -> bool) -> Vec<PageMove> {
        let events = self.events.iter().enumerate();
        let moves = events.filter(|(_, event)| {
            event.meaning == EventMeaning::Disarms(ReportCause::Move) && seen(&event.range)
        });
        let moves: Vec<_> = moves
            .map(|(number, event)| (number, (event.range.clone(), event.address)))
            .collect();
        self.used.extend(moves.iter().map(|(number, _)| *number));
        moves.into_iter().map(|(_, it)| it).collect()
    }

    /// How often the protection of a page was taken off until the scan ended, as events tell.
    pub(super) fn disarmings(&self, page: &PageQuery) -> usize {
        let numbers = self.single(page).chain(self.ranges(page.address));
        let events = numbers.map(|number| &self.events[number]);
        // A zap is told twice: before and after.
        let certain = |event: &&WatchedEvent| {
            event.kind != EventKind::Zapped
                && meaning(event, page).is_some()
                && !is_uncertain(event, page)
        };
        events.filter(certain).count()
    }

    /// What took the protection off a page until the scan ended, by time; nothing that has served.
    pub(super) fn disarmings_of(&self, page: &PageQuery) -> Vec<PageDisarming> {
        let numbers = self.single(page).chain(self.ranges(page.address));
        let found = numbers.filter_map(|number| {
            let event = &self.events[number];
            let cause = meaning(event, page)?;
            let counts = event.kind != EventKind::Zapped && !is_uncertain(event, page);
            let of_armed = event.kind == EventKind::Fault && page.unit == PAGE_SIZE;
            counts.then_some(PageDisarming {
                event: number,
                time: event.time,
                cause,
                of_armed,
            })
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|it| (it.time, it.event));
        found
    }

    /// An event by its number.
    pub(super) fn event(&self, number: usize) -> &WatchedEvent {
        &self.events[number]
    }

    /// An event has served: if it is about a single page, it is used up.
    pub(super) fn serve(&mut self, number: usize) {
        if is_single(&self.events[number]) {
            self.used.insert(number);
        }
    }

    /// Forgets what is past: what came before the scan, or served it.
    pub(super) fn settle(self) {
        let past = self.scan.began;
        self.settle_unless(past, |_| false);
    }

    /// Forgets what came by then, and what served the scan, but not events about single pages that
    /// wait.
    pub(super) fn settle_unless(self, past: u64, waits: impl Fn(u64) -> bool) {
        let Self {
            scan,
            events,
            armed,
            used,
            ..
        } = self;
        *armed = scan.ended;
        let mut number = 0;
        events.retain(|event| {
            let waits = || is_single(event) && waits(event.range.start);
            let settled = used.contains(&number) || (event.time <= past && !waits());
            number += 1;
            !settled
        });
    }
}

/// Whether an event may have left the page alone, so that whatever else is told of it counts
/// instead: UFFDIO_MOVE is told before it is known how many pages it takes away.
fn is_uncertain(event: &WatchedEvent, page: &PageQuery) -> bool {
    let takes_away = event.kind == EventKind::UffdMove && !event.range.contains(&page.address);
    takes_away || matches!(event.meaning, EventMeaning::DisarmsSome(_))
}

/// What an event means for a page; `None` if it is about others.
fn meaning(event: &WatchedEvent, page: &PageQuery) -> Option<ReportCause> {
    let hit = |at: u64| at / PAGE_SIZE == page.address / PAGE_SIZE;
    let covered = event.is_about(page.address);
    match event.meaning {
        EventMeaning::Disarms(cause) if covered => Some(cause),
        // Another page of the same unit.
        EventMeaning::Disarms(_) => {
            (page.unit > PAGE_SIZE && is_single(event)).then_some(ReportCause::HugeUnit)
        }
        EventMeaning::DisarmsUnit(cause) if covered => Some(if hit(event.address) {
            cause
        } else {
            ReportCause::HugeUnit
        }),
        EventMeaning::DisarmsUnit(_) => None,
        EventMeaning::DisarmsAnonymous(cause) | EventMeaning::DisarmsSome(cause) => {
            (covered && page.zaps_count).then_some(cause)
        }
        EventMeaning::Tells => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::sample::{event, scan};

    fn page(address: u64) -> PageQuery {
        PageQuery {
            address,
            unit: PAGE_SIZE,
            zaps_count: true,
        }
    }

    fn causes(index: &mut EventIndex<'_>, pages: &[u64]) -> Vec<Option<ReportCause>> {
        let cause = |at: &u64| index.cause(&page(*at)).map(|(cause, _)| cause);
        pages.iter().map(cause).collect()
    }

    #[test]
    fn a_move_is_about_where_pages_were_and_where_they_are() {
        let (to, from) = (7 * PMD_SIZE, 3 * PMD_SIZE);
        for pages in [1, 3, 600, 100_000] {
            let mut history = EventHistory::default();
            let length = pages * PAGE_SIZE;
            let moved = EventMeaning::Disarms(ReportCause::Move);
            history.add(vec![event(1, to..to + length, from, moved)]);
            let mut index = history.index(scan());
            let last = length - PAGE_SIZE;
            let ends = [from, from + last, to, to + last];
            assert_eq!(
                causes(&mut index, &ends),
                [Some(ReportCause::Move); 4],
                "{pages}"
            );
            let besides = [from - PAGE_SIZE, to + length];
            assert_eq!(causes(&mut index, &besides), [None; 2], "{pages}");
            // Nor is it lost for where they were, once their images have been taken along.
            assert_eq!(index.take_moves(|range| range.start == to).len(), 1);
            assert_eq!(causes(&mut index, &[from]), [Some(ReportCause::Move)]);
            index.settle();
            assert!(history.events.is_empty());
        }
    }

    #[test]
    fn what_came_to_pages_before_they_moved_is_told_where_they_are() {
        let (to, from) = (7 * PMD_SIZE, 3 * PMD_SIZE);
        let stored = EventMeaning::Disarms(ReportCause::UserStore);
        let at = |time, page: u64| event(time, page..page + PAGE_SIZE, page, stored);
        let moved = WatchedEvent {
            kind: EventKind::Move,
            ..event(
                5,
                to..to + PMD_SIZE,
                from,
                EventMeaning::Disarms(ReportCause::Move),
            )
        };
        let mut history = EventHistory::default();
        history.add(vec![at(4, from + PAGE_SIZE), moved, at(6, from), at(4, 0)]);
        let moves = history.moves();
        assert_eq!(moves.len(), 1);
        history.follow(&moves[0]);
        let expected = [at(4, to + PAGE_SIZE), at(6, from), at(4, 0)];
        assert_eq!(history.events, expected);
    }

    #[test]
    fn events_about_other_memory_are_forgotten_once_it_is_known_whose_it_is() {
        let stored = EventMeaning::Disarms(ReportCause::UserStore);
        let at = |time, page: u64| event(time, page..page + PAGE_SIZE, 0, stored);
        let mut history = EventHistory::default();
        history.add(vec![at(5, 0), at(5, PMD_SIZE), at(9, 2 * PMD_SIZE)]);
        let others = history.keep(std::slice::from_ref(&(0..PAGE_SIZE)), 8);
        assert_eq!(others, [at(5, PMD_SIZE)]);
        assert_eq!(history.events, [at(5, 0), at(9, 2 * PMD_SIZE)]);
    }

    #[test]
    fn what_may_have_left_a_page_alone_counts_if_nothing_else_is_told() {
        let (to, from) = (7 * PMD_SIZE, 3 * PMD_SIZE);
        let pages = 2 * PAGE_SIZE;
        let stored = event(
            1,
            from..from + PAGE_SIZE,
            0,
            EventMeaning::Disarms(ReportCause::UserStore),
        );
        let moved = WatchedEvent {
            kind: EventKind::UffdMove,
            ..event(
                2,
                to..to + pages,
                from,
                EventMeaning::Disarms(ReportCause::Move),
            )
        };
        let freed = event(
            2,
            from..from + pages,
            0,
            EventMeaning::DisarmsSome(ReportCause::Zap),
        );
        for (uncertain, cause) in [(moved, ReportCause::Move), (freed, ReportCause::Zap)] {
            let mut history = EventHistory::default();
            history.add(vec![stored.clone(), uncertain]);
            let found = causes(&mut history.index(scan()), &[from, from + PAGE_SIZE]);
            assert_eq!(found, [Some(ReportCause::UserStore), Some(cause)]);
        }
    }

    #[test]
    fn an_event_during_a_scan_serves_one_report() {
        let mut history = EventHistory::default();
        let range = PMD_SIZE..PMD_SIZE + PAGE_SIZE;
        let stored = EventMeaning::Disarms(ReportCause::UserStore);
        history.add(vec![event(105, range.clone(), 0, stored)]);
        let mut index = history.index(scan());
        assert_eq!(
            causes(&mut index, &[range.start]),
            [Some(ReportCause::UserStore)]
        );
        index.settle();
        assert!(history.events.is_empty());
        // One that no report has used may belong to the next scan.
        history.add(vec![event(105, range.clone(), 0, stored)]);
        history.index(scan()).settle();
        assert_eq!(history.events.len(), 1);
    }

    #[test]
    fn a_zap_disarms_once_though_it_is_told_twice() {
        let range = PMD_SIZE..PMD_SIZE + 2 * PAGE_SIZE;
        let zap = |kind, time| WatchedEvent {
            kind,
            ..event(
                time,
                range.clone(),
                0,
                EventMeaning::DisarmsAnonymous(ReportCause::Zap),
            )
        };
        let stored = EventMeaning::Disarms(ReportCause::UserStore);
        let mut history = EventHistory::default();
        history.add(vec![
            zap(EventKind::Zap, 1),
            zap(EventKind::Zapped, 2),
            event(3, range.start..range.start + PAGE_SIZE, 0, stored),
        ]);
        let index = history.index(scan());
        let disarmings = [range.start, range.start + PAGE_SIZE, range.end];
        let disarmings = disarmings.map(|at| index.disarmings(&page(at)));
        assert_eq!(disarmings, [2, 1, 0]);
    }

    #[test]
    fn the_last_of_several_before_a_scan_counts() {
        let mut history = EventHistory::default();
        let range = PMD_SIZE..PMD_SIZE + PAGE_SIZE;
        let wide = 0..512 * PMD_SIZE;
        history.add(vec![
            event(3, wide, 0, EventMeaning::Disarms(ReportCause::Zap)),
            event(
                2,
                range.clone(),
                0,
                EventMeaning::Disarms(ReportCause::UserStore),
            ),
        ]);
        let mut index = history.index(scan());
        assert_eq!(causes(&mut index, &[range.start]), [Some(ReportCause::Zap)]);
    }

    #[test]
    fn a_fault_that_may_have_found_no_protection_leaves_the_cause_before_it() {
        let range = PMD_SIZE..PMD_SIZE + PAGE_SIZE;
        let zap = |time| {
            event(
                time,
                0..512 * PMD_SIZE,
                0,
                EventMeaning::Disarms(ReportCause::Zap),
            )
        };
        let stored = |time| WatchedEvent {
            kind: EventKind::HardwareFault,
            ..event(
                time,
                range.clone(),
                0,
                EventMeaning::Disarms(ReportCause::UserStore),
            )
        };
        let mut history = EventHistory::default();
        history.add(vec![zap(2), stored(3)]);
        let mut index = history.index(scan());
        assert_eq!(causes(&mut index, &[range.start]), [Some(ReportCause::Zap)]);
        index.settle();
        // A zap while the page was armed may have come before that.
        let armed = scan().ended;
        history.add(vec![zap(armed), stored(armed + 1)]);
        let later = ScanSpan {
            began: armed + 2,
            ended: armed + 3,
        };
        let mut index = history.index(later);
        assert_eq!(
            causes(&mut index, &[range.start]),
            [Some(ReportCause::UserStore)]
        );
    }
}
