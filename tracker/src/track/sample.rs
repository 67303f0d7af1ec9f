//! Made-up recordings for tests: many mappings, many rounds, every oddity that a process can show.

use std::iter;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use uffd::Backing;

use pages::track::{
    MappingRound, PageExtent, SessionEvent, TrackEnd, TrackHeader, TrackNote, TrackRound,
    TrackSummary, TrackedMapping, TrackedPages, UntrackedPages, UntrackedReason,
};
use uffd::PAGE_SIZE;

/// A header of that process.
pub(crate) fn header(comm: &str) -> TrackHeader {
    TrackHeader {
        pid: 4242,
        comm: comm.to_owned(),
        command: vec![format!("/usr/bin/{comm}"), "--port".into(), "6379".into()],
        strategy: "markers".into(),
        reason: "exact, and this kernel has WP_ASYNC".into(),
        interval: Duration::from_millis(100),
        began: UNIX_EPOCH + Duration::from_millis(1_763_848_800_250),
        kernel: "6.12.0".into(),
        tracker: "0.1.0".into(),
        stopped: Some(Duration::from_micros(740)),
        notes: vec![TrackNote::Recorded(
            "[vdso] is passed over: no userfaultfd can have it".into(),
        )],
    }
}

/// What a mapping does with its pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WritingHabit {
    /// Writes none.
    Idle,
    /// Writes all, always.
    Hot,
    /// A window of a sixteenth moves through it, and starts again.
    Sweep,
    /// Single pages here and there, about so many.
    Scatter(u64),
    /// Grows to its size during the recording and writes what is new.
    Grows,
    /// Is there in the middle third only, and writes half of its pages.
    Visits,
    /// Its pages were there before: unknown in the first round, a few written later.
    Unknown,
}

/// A mapping that is `pages` 4 KiB pages large when it is largest.
#[derive(Clone, Debug)]
pub(crate) struct MappingPlan {
    pub start: u64,
    pub pages: u64,
    pub name: String,
    pub backing: Backing,
    pub page_size: u64,
    pub habit: WritingHabit,
}

impl MappingPlan {
    pub(crate) fn new(start: u64, pages: u64, name: &str, habit: WritingHabit) -> Self {
        let backing = if name.starts_with('/') {
            Backing::File
        } else {
            Backing::Anon
        };
        Self {
            start,
            pages,
            name: name.to_owned(),
            backing,
            page_size: PAGE_SIZE,
            habit,
        }
    }

    fn mapped(&self, round: u64, rounds: u64) -> u64 {
        match self.habit {
            WritingHabit::Grows => (self.pages * round / rounds).max(1),
            WritingHabit::Visits if !(rounds / 3..=rounds * 2 / 3).contains(&round) => 0,
            _ => self.pages,
        }
    }

    fn written(&self, round: u64, rounds: u64, random: &mut FixedRandom) -> Vec<Range<u64>> {
        let pages = self.mapped(round, rounds);
        let one = |from, to| iter::once(from..to).collect();
        let mut written: Vec<Range<u64>> = match self.habit {
            WritingHabit::Idle => vec![],
            WritingHabit::Hot => one(0, pages),
            WritingHabit::Sweep => {
                let width = (pages / 16).max(1);
                let at = (round * width / 2) % pages;
                one(at, (at + width).min(pages))
            }
            WritingHabit::Scatter(count) => (0..count)
                .map(|_| random.below(pages))
                .map(|p| p..p + 1)
                .collect(),
            WritingHabit::Grows => one(self.mapped(round - 1, rounds).min(pages - 1), pages),
            WritingHabit::Visits => one(0, pages / 2),
            WritingHabit::Unknown if round == 1 => one(pages / 4, pages),
            WritingHabit::Unknown => one(random.below(pages / 8), pages / 8),
        };
        let scale = self.page_size / PAGE_SIZE;
        for range in &mut written {
            *range = range.start / scale * scale..range.end.next_multiple_of(scale);
        }
        written.retain(|range| !range.is_empty());
        written.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in written {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        merged
    }

    fn round(&self, round: u64, rounds: u64, random: &mut FixedRandom) -> Option<MappingRound> {
        let tracked = self.mapped(round, rounds);
        if tracked == 0 {
            return None;
        }
        let unknown = matches!(self.habit, WritingHabit::Unknown) && round == 1;
        let extent = |range: Range<u64>| PageExtent {
            range: self.start + range.start * PAGE_SIZE..self.start + range.end * PAGE_SIZE,
            unit: self.page_size,
            unknown,
        };
        let written: Vec<_> = self
            .written(round, rounds, random)
            .into_iter()
            .map(extent)
            .collect();
        let count = written.iter().map(PageExtent::pages).sum();
        let pages = TrackedPages {
            tracked,
            armed: if round == 1 { tracked } else { count },
            written: if unknown { 0 } else { count },
            unknown: if unknown { count } else { 0 },
            touched: None,
            zapped: Some(count / 100),
            moved: None,
            vanished: 0,
        };
        let mapping = TrackedMapping {
            start: self.start,
            end: self.start + tracked * PAGE_SIZE,
            name: self.name.clone(),
            backing: self.backing,
            page_size: self.page_size,
            shared: None,
        };
        Some(MappingRound {
            mapping: Arc::new(mapping),
            pages,
            written,
        })
    }
}

/// The rounds of these mappings.
pub(crate) fn rounds(plans: &[MappingPlan], count: u64) -> Vec<TrackRound> {
    let mut random = FixedRandom(7);
    let round = |number: u64| TrackRound {
        number,
        at: Duration::from_millis(100 * number + number % 7),
        lasted: Duration::from_millis(100),
        took: Duration::from_micros(300 + 17 * (number % 5)),
        mappings: plans
            .iter()
            .filter_map(|plan| plan.round(number, count, &mut random))
            .collect(),
        children: Vec::new(),
        not_looked_at: [(UntrackedReason::Kernel, 2 + number / 3)]
            .into_iter()
            .collect(),
        events: if number == count / 2 + 1 {
            vec![SessionEvent::Recorded("a range was given back".into())]
        } else {
            vec![]
        },
        mapping_count: None,
    };
    (1..=count).map(round).collect()
}

/// A summary as tracking would give it, of those rounds.
pub(crate) fn summary(rounds: &[TrackRound]) -> TrackSummary {
    let all = || rounds.iter().flat_map(|round| &round.mappings);
    let tracked = |round: &TrackRound| round.mappings.iter().map(|m| m.pages.tracked).sum();
    let written = all().map(|m| m.pages.written).sum();
    TrackSummary {
        rounds: rounds.len() as u64,
        lasted: rounds.last().map_or(Duration::ZERO, |round| round.at),
        written_set: written / 2,
        written,
        unknown_set: all().map(|m| m.pages.unknown).sum(),
        tracked: rounds.iter().map(tracked).max().unwrap_or(0),
        shared: 0,
        not_looked_at: rounds
            .iter()
            .fold(UntrackedPages::default(), |most, round| {
                most.most(&round.not_looked_at)
            }),
        took: rounds.iter().map(|round| round.took).sum(),
        end: TrackEnd::Done,
        status: None,
        huge_pages: None,
    }
}

/// A database of 1.5 GiB in eleven mappings, some with names that nobody should print as they are.
pub(crate) fn database() -> Vec<MappingPlan> {
    use WritingHabit::{Grows, Hot, Idle, Scatter, Sweep, Unknown, Visits};
    let mut plans = vec![
        MappingPlan::new(
            0x5580_1000_0000,
            120,
            "/usr/bin/<redis> & \"friends\"",
            Idle,
        ),
        MappingPlan::new(0x5580_1007_8000, 9, "/usr/bin/<redis> & \"friends\"", Hot),
        MappingPlan::new(0x5580_1a00_0000, 2_600, "[heap]", Grows),
        MappingPlan::new(0x7f10_0000_0000, 262_144, "[anon:jemalloc arena]", Sweep),
        MappingPlan::new(0x7f10_8000_0000, 65_536, "", Scatter(400)),
        MappingPlan::new(0x7f20_0000_0000, 16_384, "/dev/hugepages/pool", Scatter(6)),
        MappingPlan::new(
            0x7f30_0000_0000,
            4_096,
            "/memfd:\u{202e}evil\u{1b}[31m\n (deleted)",
            Visits,
        ),
        MappingPlan::new(
            0x7f30_0100_0000,
            512,
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            Idle,
        ),
        MappingPlan::new(
            0x7f30_0120_0000,
            2,
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            Scatter(1),
        ),
        MappingPlan::new(
            0x7f40_0000_0000,
            32_768,
            "[anon:ring of the log, a name that goes on and on]",
            Unknown,
        ),
        MappingPlan::new(0x7ffd_1000_0000, 33, "[stack]", Scatter(2)),
    ];
    if let Some(huge) = plans.get_mut(5) {
        (huge.backing, huge.page_size) = (Backing::Hugetlb, 512 * PAGE_SIZE);
    }
    plans
}

/// So many mappings of all sizes and habits.
pub(crate) fn many(count: u64) -> Vec<MappingPlan> {
    use WritingHabit::{Hot, Idle, Scatter, Sweep};
    let plan = |i: u64| {
        let habit = match i % 5 {
            0 => Sweep,
            1 => Scatter(1 + i % 9),
            2 if i.is_multiple_of(4) => Hot,
            _ => Idle,
        };
        let pages = 1 << (i * 7 % 15);
        let start = 0x7f00_0000_0000 + i * 0x1000_0000 - (i % 3) * 0x100_0000;
        MappingPlan::new(start, pages, &format!("[anon:arena {i}]"), habit)
    };
    (0..count).map(plan).collect()
}

/// Numbers that look random and are the same every time.
struct FixedRandom(u64);

impl FixedRandom {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}
