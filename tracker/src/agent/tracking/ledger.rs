//! What came of tracking so far: counts by process and in all, who refuses, who is left out.
//!
//! Pure: the time and the costs are given. A process has one row for as long as it lives and some
//! time longer; its pid is unique among the rows, so that another process of the same pid never
//! goes on with its counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::budget;
use super::explained;
use super::find::SelectedProcess;
use super::refusal::{RefusalReason, backoff};
use crate::metrics::{ExplainedTotals, TrackedRow};
use crate::model::ProcessKey;
use crate::print::words::counted;
use pages::track::{TrackHeader, TrackRound, TrackedPages, UntrackedPages};

/// What CPU time goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackingWork {
    /// Reading and arming, again and again.
    Round,
    /// Getting a userfaultfd, and arming for the first time; the helper process included.
    Attach,
    /// Looking for processes.
    Select,
}

impl TrackingWork {
    /// All of it, in the order of the index.
    pub const ALL: [Self; 3] = [Self::Round, Self::Attach, Self::Select];

    /// As in `uffdwp_node_track_cpu_seconds_total{work}`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Round => "round",
            Self::Attach => "attach",
            Self::Select => "select",
        }
    }
}

/// What came of tracking so far.
#[derive(Debug)]
pub struct TrackingLedger {
    /// From one round to the next, as asked for.
    wanted: Duration,
    /// Share of one core for everything.
    budget: f64,
    /// Share that looking for processes and attaching to them take at the moment.
    reserved: f64,
    /// One line for each pid.
    lines: BTreeMap<u32, LedgerLine>,
    refused: BTreeMap<ProcessKey, TrackingRefusal>,
    over: Vec<SelectedProcess>,
    /// Processes asked for by number that `/proc` does not show.
    hidden: BTreeSet<u32>,
    totals: TrackingTotals,
}

/// All processes together, since the start; never goes down.
#[derive(Clone, Debug, Default)]
pub struct TrackingTotals {
    /// Pages of 4 KiB written.
    pub written: u64,
    /// CPU time, by [`TrackingWork`].
    pub cpu: [Duration; TrackingWork::ALL.len()],
    /// Failures, by [`RefusalReason`].
    pub failures: [u64; RefusalReason::ALL.len()],
}

/// One process: what it shows, and what only the ledger needs.
#[derive(Clone, Debug)]
struct LedgerLine {
    process: SelectedProcess,
    row: TrackedRow,
    /// What was last said about the interval, see [`order`].
    told: u32,
    /// Rounds in a row for which the interval was as asked for.
    calm: u32,
}

/// One process that cannot be tracked at the moment.
#[derive(Clone, Debug)]
pub struct TrackingRefusal {
    /// Its name; any bytes.
    pub comm: Vec<u8>,
    /// Why, in a word.
    pub reason: RefusalReason,
    /// Why, in a sentence.
    pub message: String,
    /// How often in a row.
    pub tries: u32,
    /// When it may be tried again.
    pub until: Duration,
}

/// What a round means for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRound {
    /// From the start of that round to the start of the next.
    pub interval: Duration,
    /// What people should hear of it.
    pub news: Option<IntervalNews>,
}

/// What people should hear of the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalNews {
    /// Rounds come less often than asked for, and less often than was said before.
    Longer,
    /// They have come as asked for, for a while now.
    AsAsked,
}

/// After this many rounds as asked for, that is said.
const CALM: u32 = 100;

impl TrackingLedger {
    /// A ledger in which nothing is tracked yet.
    pub fn new(wanted: Duration, budget: f64) -> Self {
        Self {
            wanted,
            budget,
            reserved: 0.0,
            lines: BTreeMap::new(),
            refused: BTreeMap::new(),
            over: Vec::new(),
            hidden: BTreeSet::new(),
            totals: TrackingTotals::default(),
        }
    }

    /// A process is attached to; `first` is its round 0. One that was tracked before goes on with
    /// its row.
    pub fn attached(
        &mut self,
        process: &SelectedProcess,
        header: &TrackHeader,
        first: &TrackRound,
    ) {
        self.refused.remove(&process.key);
        let known = self.lines.remove(&process.key.pid);
        let mut line = known
            .filter(|line| line.process.key == process.key)
            .unwrap_or_else(|| LedgerLine::new(process));
        line.attached(process, header, self.wanted);
        line.add(first);
        self.lines.insert(process.key.pid, line);
    }

    /// CPU time was spent; on a process, if it is about one.
    pub fn spent(&mut self, work: TrackingWork, cost: Duration, key: Option<ProcessKey>) {
        self.totals.cpu[work as usize] += cost;
        if let Some(line) = key.and_then(|key| self.line(key)) {
            line.row.cpu += cost;
        }
    }

    /// How much of the budget looking for processes and attaching to them take from now on.
    pub fn reserve(&mut self, share: f64) {
        self.reserved = share.min(self.budget * budget::OVERHEAD);
    }

    /// A round is over. Returns when the next is due; `None` if the row is another process's by
    /// now.
    pub fn round(
        &mut self,
        key: ProcessKey,
        round: &TrackRound,
        cost: Duration,
    ) -> Option<NextRound> {
        self.spent(TrackingWork::Round, cost, Some(key));
        let written = sum(round).written;
        let (wanted, left) = (self.wanted, self.budget - self.reserved);
        let line = self.line(key)?;
        line.row.rounds += 1;
        line.row.last_cost = cost;
        line.add(round);
        let live = self.rows().filter(|row| row.is_live());
        let needs: Vec<_> = live
            .map(|row| budget::need(row.last_cost, wanted))
            .collect();
        let share = budget::level(&needs, left);
        self.totals.written += written;
        let interval = budget::interval(cost, wanted, share);
        Some(self.line(key)?.next(interval, wanted))
    }

    /// What explaining a round came to.
    pub fn explained(&mut self, key: ProcessKey, round: &ExplainedTotals) {
        if let Some(line) = self.line(key) {
            explained::add(line.row.explained.get_or_insert_default(), round);
        }
    }

    /// A process is no longer tracked, at the latest since now.
    pub fn ended(&mut self, key: ProcessKey, now: Duration) {
        if let Some(line) = self.line(key) {
            line.row.ended.get_or_insert(now);
        }
    }

    /// A worker ended without a word, by a panic: its process is not to be tried again at once.
    pub fn lost(&mut self, key: ProcessKey, now: Duration, first: Duration) {
        let Some(line) = self.line(key).filter(|line| line.row.is_live()) else {
            return;
        };
        line.row.ended = Some(now);
        let process = line.process.clone();
        let message = "its thread panicked; the log has it".to_owned();
        self.refused(&process, RefusalReason::Unexpected, message, now, first);
    }

    /// No process can be tracked at all.
    pub fn cannot(&mut self, reason: RefusalReason) {
        self.totals.failures[reason as usize] += 1;
    }

    /// These live and `/proc` does not show them; returns those of which that is news.
    pub fn hidden(&mut self, hidden: BTreeSet<u32>) -> Vec<u32> {
        let new: Vec<u32> = hidden.difference(&self.hidden).copied().collect();
        self.totals.failures[RefusalReason::Hidden as usize] += new.len() as u64;
        self.hidden = hidden;
        new
    }

    /// A process refuses; returns whether that is news, at least for this reason.
    pub fn refused(
        &mut self,
        process: &SelectedProcess,
        reason: RefusalReason,
        message: String,
        now: Duration,
        first: Duration,
    ) -> bool {
        self.totals.failures[reason as usize] += 1;
        let known = self.refused.get(&process.key);
        let tries = known.map_or(0, |known| known.tries) + 1;
        let new = known.is_none_or(|known| known.reason != reason);
        let refusal = TrackingRefusal {
            comm: process.comm.clone(),
            reason,
            message,
            tries,
            until: now + backoff(tries, first),
        };
        self.refused.insert(process.key, refusal);
        new
    }

    /// The processes that match now: one that refused and is not among them is forgotten.
    pub fn matching(&mut self, matching: &[SelectedProcess]) {
        self.refused
            .retain(|key, _| matching.iter().any(|process| process.key == *key));
    }

    /// Those that are left out; returns those that were not before.
    pub fn leave_out(&mut self, over: Vec<SelectedProcess>) -> Vec<SelectedProcess> {
        let before: BTreeSet<_> = self.over.iter().map(|process| process.key).collect();
        let new = over.iter().filter(|process| !before.contains(&process.key));
        let new = new.cloned().collect();
        self.over = over;
        new
    }

    /// Drops rows that ended `linger` ago.
    pub fn forget(&mut self, now: Duration, linger: Duration) {
        let over = |ended| now.saturating_sub(ended) >= linger;
        self.lines
            .retain(|_, line| !line.row.ended.is_some_and(over));
    }

    /// The rows, by pid.
    pub fn rows(&self) -> impl Iterator<Item = &TrackedRow> {
        self.lines.values().map(|line| &line.row)
    }

    /// Those that refuse.
    pub const fn refusals(&self) -> &BTreeMap<ProcessKey, TrackingRefusal> {
        &self.refused
    }

    /// Those that are left out because there are too many.
    pub fn over(&self) -> &[SelectedProcess] {
        &self.over
    }

    /// All processes together.
    pub const fn totals(&self) -> &TrackingTotals {
        &self.totals
    }

    fn line(&mut self, key: ProcessKey) -> Option<&mut LedgerLine> {
        let line = self.lines.get_mut(&key.pid);
        line.filter(|line| line.process.key == key)
    }
}

impl LedgerLine {
    fn new(process: &SelectedProcess) -> Self {
        let row = TrackedRow {
            process: process.key,
            comm: process.comm.clone(),
            selector: String::new(),
            strategy: String::new(),
            stopped: None,
            notes: Vec::new(),
            ended: None,
            rounds: 0,
            tracked_pages: 0,
            shared_pages: 0,
            not_looked_at: UntrackedPages::default(),
            mapping_count: None,
            written_pages: 0,
            unknown_pages: 0,
            vanished_pages: 0,
            in_doubt_pages: 0,
            interval: Duration::ZERO,
            over_budget: false,
            last_cost: Duration::ZERO,
            cpu: Duration::ZERO,
            explained: None,
        };
        Self {
            process: process.clone(),
            row,
            told: 0,
            calm: 0,
        }
    }

    /// Notes how it is tracked from now on.
    fn attached(&mut self, process: &SelectedProcess, header: &TrackHeader, wanted: Duration) {
        self.process = process.clone();
        self.row.selector = process.selector.to_string();
        self.row.strategy.clone_from(&header.strategy);
        self.row.stopped = header.stopped;
        self.row.notes = counted(header.notes.iter().map(ToString::to_string));
        self.row.ended = None;
        self.row.interval = wanted;
        self.row.over_budget = false;
        self.row.last_cost = Duration::ZERO;
    }

    fn add(&mut self, round: &TrackRound) {
        let pages = sum(round);
        self.row.not_looked_at.clone_from(&round.not_looked_at);
        self.row.mapping_count = round.mapping_count;
        self.row.tracked_pages = round.tracked();
        self.row.shared_pages = round.shared();
        self.row.written_pages += pages.written;
        self.row.unknown_pages += pages.unknown;
        self.row.vanished_pages += pages.vanished;
        self.row.in_doubt_pages += round.in_doubt();
    }

    /// Notes the interval to the next round, and decides what to say about it.
    fn next(&mut self, interval: Duration, wanted: Duration) -> NextRound {
        self.row.interval = interval;
        self.row.over_budget = interval > wanted;
        let order = order(interval, wanted);
        self.calm = if order == 0 { self.calm + 1 } else { 0 };
        let news = if order > self.told {
            self.told = order;
            Some(IntervalNews::Longer)
        } else if self.told > 0 && self.calm >= CALM {
            self.told = 0;
            Some(IntervalNews::AsAsked)
        } else {
            None
        };
        NextRound { interval, news }
    }
}

/// What all mappings counted together.
fn sum(round: &TrackRound) -> TrackedPages {
    let mut sum = TrackedPages::default();
    for mapping in &round.mappings {
        sum.written += mapping.pages.written;
        sum.unknown += mapping.pages.unknown;
        sum.vanished += mapping.pages.vanished;
    }
    sum
}

/// How much longer than asked for: 0 hardly, 1 more than that, 2 from twice as long, 3 from four
/// times as long, ...
fn order(interval: Duration, wanted: Duration) -> u32 {
    if interval <= wanted + wanted / 4 {
        return 0;
    }
    let times = interval.as_nanos() / wanted.as_nanos().max(1);
    times.checked_ilog2().unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::SystemTime;

    use super::super::selector::ProcessSelector;
    use super::*;
    use pages::track::{MappingRound, TrackedMapping};

    const SECOND: Duration = Duration::from_secs(1);

    fn process(pid: u32, start: u64) -> SelectedProcess {
        SelectedProcess {
            key: ProcessKey {
                pid,
                start_boottime_ns: start,
            },
            comm: b"redis".to_vec(),
            uid: Some(0),
            selector: ProcessSelector::Pid(pid),
            explained: false,
        }
    }

    fn header() -> TrackHeader {
        TrackHeader {
            pid: 1,
            comm: "redis".to_owned(),
            command: Vec::new(),
            strategy: "markers".to_owned(),
            reason: String::new(),
            interval: SECOND,
            began: SystemTime::UNIX_EPOCH,
            kernel: String::new(),
            tracker: String::new(),
            stopped: None,
            notes: Vec::new(),
        }
    }

    fn round(written: u64, unknown: u64) -> TrackRound {
        let mapping = TrackedMapping {
            start: 0,
            end: 1 << 20,
            name: String::new(),
            backing: uffd::Backing::Anon,
            page_size: 4096,
            shared: None,
        };
        let pages = TrackedPages {
            tracked: 256,
            written,
            unknown,
            ..TrackedPages::default()
        };
        TrackRound {
            mappings: vec![MappingRound {
                mapping: mapping.into(),
                pages,
                written: Vec::new(),
            }],
            ..TrackRound::default()
        }
    }

    fn tracked(processes: &[&SelectedProcess]) -> TrackingLedger {
        let mut ledger = TrackingLedger::new(SECOND, 0.01);
        for process in processes {
            ledger.attached(process, &header(), &round(0, 5));
        }
        ledger
    }

    #[test]
    fn rounds_add_up() {
        let redis = process(1, 1);
        let mut ledger = tracked(&[&redis]);
        for written in [3, 4] {
            let next = ledger.round(redis.key, &round(written, 1), Duration::from_millis(1));
            assert_eq!(
                next,
                Some(NextRound {
                    interval: SECOND,
                    news: None
                })
            );
        }
        let row = ledger.rows().next().unwrap();
        assert_eq!(
            (
                row.rounds,
                row.written_pages,
                row.unknown_pages,
                row.tracked_pages
            ),
            (2, 7, 7, 256)
        );
        assert_eq!(
            (ledger.totals().written, row.cpu),
            (7, Duration::from_millis(2))
        );
    }

    #[test]
    fn another_process_of_the_same_number_begins_at_nothing() {
        let (old, new) = (process(1, 1), process(1, 2));
        let mut ledger = tracked(&[&old]);
        ledger.round(old.key, &round(3, 0), Duration::ZERO);
        ledger.attached(&new, &header(), &round(0, 0));
        // The old one's thread has not noticed yet.
        assert_eq!(ledger.round(old.key, &round(9, 0), Duration::ZERO), None);
        ledger.ended(old.key, SECOND);
        let row = ledger.rows().next().unwrap();
        assert_eq!(
            (row.process, row.written_pages, row.ended),
            (new.key, 0, None)
        );
    }

    #[test]
    fn one_that_is_attached_again_goes_on_and_one_that_ended_lingers() {
        let redis = process(1, 1);
        let mut ledger = tracked(&[&redis]);
        ledger.round(redis.key, &round(3, 0), Duration::ZERO);
        ledger.ended(redis.key, SECOND);
        ledger.forget(SECOND * 2, SECOND * 2);
        ledger.attached(&redis, &header(), &round(0, 2));
        let row = ledger.rows().next().unwrap();
        assert_eq!(
            (row.written_pages, row.unknown_pages, row.ended),
            (3, 7, None)
        );
        ledger.ended(redis.key, SECOND);
        // Told again later, it ended when it ended.
        ledger.ended(redis.key, SECOND * 3);
        ledger.forget(SECOND * 3, SECOND * 2);
        assert_eq!(ledger.rows().count(), 0);
        assert_eq!(ledger.totals().written, 3);
    }

    #[test]
    fn over_the_budget_is_said_once_for_each_doubling_and_when_it_is_over() {
        let redis = process(1, 1);
        let mut ledger = tracked(&[&redis]);
        let mut news = |ms| {
            ledger
                .round(redis.key, &round(0, 0), Duration::from_millis(ms))
                .unwrap()
        };
        assert_eq!(news(10).news, None);
        assert_eq!(
            news(15),
            NextRound {
                interval: Duration::from_millis(1500),
                news: Some(IntervalNews::Longer)
            }
        );
        assert_eq!(news(19).news, None);
        assert_eq!(news(25).news, Some(IntervalNews::Longer));
        assert_eq!(news(15).news, None);
        for _ in 1..CALM {
            assert_eq!(news(1).news, None);
        }
        assert_eq!(news(1).news, Some(IntervalNews::AsAsked));
        assert_eq!(news(15).news, Some(IntervalNews::Longer));
    }

    #[test]
    fn attaching_takes_its_part_of_the_budget() {
        let redis = process(1, 1);
        let mut ledger = tracked(&[&redis]);
        ledger.reserve(1.0);
        let cost = Duration::from_millis(10);
        let next = ledger.round(redis.key, &round(0, 0), cost).unwrap();
        assert_eq!(next.interval, SECOND * 2);
        ledger.reserve(0.0);
        assert_eq!(
            ledger
                .round(redis.key, &round(0, 0), cost)
                .unwrap()
                .interval,
            SECOND
        );
    }

    #[test]
    fn a_refusal_is_new_once_for_each_reason() {
        let redis = process(1, 1);
        let mut ledger = TrackingLedger::new(SECOND, 0.01);
        let mut refuse = |reason| ledger.refused(&redis, reason, String::new(), SECOND, SECOND);
        assert_eq!(
            [
                refuse(RefusalReason::Traced),
                refuse(RefusalReason::Traced),
                refuse(RefusalReason::Busy),
                refuse(RefusalReason::Busy)
            ],
            [true, false, true, false]
        );
        let refusal = &ledger.refusals()[&redis.key];
        assert_eq!((refusal.tries, refusal.until), (4, SECOND * 9));
        assert_eq!(ledger.totals().failures.iter().sum::<u64>(), 4);
        ledger.matching(&[]);
        assert!(ledger.refusals().is_empty());
    }
}
