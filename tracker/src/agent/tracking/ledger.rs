//! What came of tracking so far: counts by process and of the node, who refuses, who is left out.
//!
//! Pure: the time and the costs are given. A process has one row for as long as it lives and some time longer; its
//! number is unique among the rows, so that another process of the same number never goes on with its counts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::budget;
use super::explanation::Explanation;
use super::find::Match;
use super::refusal::{REASONS, backoff};
use super::selector::Selector;
use crate::model::sample::ProcessKey;
use pages::track::{TrackHeader, TrackRound, TrackedPages};

/// What CPU time goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Reading and arming, again and again.
    Round,
    /// Getting a userfaultfd, and arming for the first time; the helper process included.
    Attach,
    /// Looking for processes.
    Select,
}

impl Work {
    /// All.
    pub const ALL: [Self; 3] = [Self::Round, Self::Attach, Self::Select];

    /// As the label has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Round => "round",
            Self::Attach => "attach",
            Self::Select => "select",
        }
    }
}

/// Everything.
#[derive(Debug)]
pub struct Ledger {
    /// From one round to the next, as asked for.
    wanted: Duration,
    /// Share of one core for everything.
    budget: f64,
    /// Share that looking for and attaching to processes take at the moment.
    reserved: f64,
    /// By number.
    rows: BTreeMap<u32, Row>,
    refused: BTreeMap<ProcessKey, Refusal>,
    over: Vec<Match>,
    node: Node,
}

/// Of all processes since the start; never goes down.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Pages of 4 KiB written.
    pub written: u64,
    /// CPU time, by [`Work`].
    pub cpu: [Duration; 3],
    /// By [`REASONS`].
    pub failures: [u64; REASONS.len()],
}

/// One process.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which.
    pub key: ProcessKey,
    /// Its name when it was attached to.
    pub comm: Vec<u8>,
    /// What selects it.
    pub selector: Selector,
    /// As tracking began.
    pub header: TrackHeader,
    /// Rounds, without the first arming.
    pub rounds: u64,
    /// Pages of 4 KiB, summed over rounds; `armed`, `tracked` as of the last.
    pub pages: TrackedPages,
    /// What explaining it came to; none if it is only tracked.
    pub explained: Option<Explanation>,
    /// CPU time of its rounds and of attaching.
    pub cpu: Duration,
    /// Of the last round.
    pub last_cost: Duration,
    /// From the last round to the next.
    pub interval: Duration,
    /// When it ended or was let go; none while it is tracked.
    pub ended: Option<Duration>,
    /// What was said about the interval last, see [`order`].
    told: u32,
    /// Rounds in a row for which it was as asked for.
    calm: u32,
}

/// One process that cannot be tracked at the moment.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Its name.
    pub comm: Vec<u8>,
    /// In a word.
    pub reason: &'static str,
    /// In a sentence.
    pub message: String,
    /// How often in a row.
    pub tries: u32,
    /// Before that it is not tried again.
    pub until: Duration,
}

/// What a round means for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// From the beginning of that round to the beginning of the next.
    pub interval: Duration,
    /// To be said to people.
    pub news: Option<News>,
}

/// What people should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Rounds come less often than asked for, and less often than was said before.
    Longer,
    /// They have come as asked for, for a while now.
    AsAsked,
}

/// Rounds as asked for after which that is said.
const CALM: u32 = 100;

impl Ledger {
    /// Nothing yet.
    pub fn new(wanted: Duration, budget: f64) -> Self {
        Self {
            wanted,
            budget,
            reserved: 0.0,
            rows: BTreeMap::new(),
            refused: BTreeMap::new(),
            over: Vec::new(),
            node: Node::default(),
        }
    }

    /// A process is attached to; `first` is its round 0. One that was tracked before goes on with its row.
    pub fn attached(&mut self, process: &Match, header: TrackHeader, first: &TrackRound) {
        self.refused.remove(&process.key);
        let known = self.rows.remove(&process.key.pid);
        let mut row = known
            .filter(|row| row.key == process.key)
            .unwrap_or_else(|| Row::new(process, header.clone()));
        row.header = header;
        row.selector = process.selector.clone();
        row.ended = None;
        row.interval = self.wanted;
        row.last_cost = Duration::ZERO;
        row.add(first);
        self.rows.insert(process.key.pid, row);
    }

    /// CPU time that was used; for a process if it is about one.
    pub fn spent(&mut self, work: Work, cost: Duration, key: Option<ProcessKey>) {
        self.node.cpu[work as usize] += cost;
        if let Some(row) = key.and_then(|key| self.row(key)) {
            row.cpu += cost;
        }
    }

    /// How much of the budget looking for and attaching to processes take from now on.
    pub fn reserve(&mut self, share: f64) {
        self.reserved = share.min(self.budget * budget::OVERHEAD);
    }

    /// A round is over; when the next is due. None: the row is another process's by now.
    pub fn round(&mut self, key: ProcessKey, round: &TrackRound, cost: Duration) -> Option<Next> {
        self.spent(Work::Round, cost, Some(key));
        let written = sum(round).written;
        let (wanted, left) = (self.wanted, self.budget - self.reserved);
        let row = self.row(key)?;
        row.rounds += 1;
        row.add(round);
        row.last_cost = cost;
        let live = self.rows.values().filter(|row| row.ended.is_none());
        let needs: Vec<_> = live
            .map(|row| budget::need(row.last_cost, wanted))
            .collect();
        let share = budget::level(&needs, left);
        self.node.written += written;
        let row = self.row(key)?;
        row.interval = budget::interval(cost, wanted, share);
        let (interval, order) = (row.interval, order(row.interval, wanted));
        row.calm = if order == 0 { row.calm + 1 } else { 0 };
        let news = if order > row.told {
            row.told = order;
            Some(News::Longer)
        } else if row.told > 0 && row.calm >= CALM {
            row.told = 0;
            Some(News::AsAsked)
        } else {
            None
        };
        Some(Next { interval, news })
    }

    /// What explaining a round came to.
    pub fn explained(&mut self, key: ProcessKey, round: &Explanation) {
        if let Some(row) = self.row(key) {
            row.explained.get_or_insert_default().add(round);
        }
    }

    /// A process is no longer tracked, at the latest since now.
    pub fn ended(&mut self, key: ProcessKey, now: Duration) {
        if let Some(row) = self.row(key) {
            row.ended.get_or_insert(now);
        }
    }

    /// A worker ended without a word, by a panic: not to be tried again at once.
    pub fn lost(&mut self, key: ProcessKey, now: Duration, first: Duration) {
        let Some(row) = self.row(key).filter(|row| row.ended.is_none()) else {
            return;
        };
        row.ended = Some(now);
        let process = Match {
            key,
            comm: row.comm.clone(),
            selector: row.selector.clone(),
            explained: row.explained.is_some(),
        };
        let message = "its thread ended by a panic; the log has it".to_owned();
        self.refused(&process, "unexpected", message, now, first);
    }

    /// A process refuses; true if nobody heard of it for this reason yet.
    pub fn refused(
        &mut self,
        process: &Match,
        reason: &'static str,
        message: String,
        now: Duration,
        first: Duration,
    ) -> bool {
        if let Some(index) = REASONS.iter().position(|known| *known == reason) {
            self.node.failures[index] += 1;
        }
        let known = self.refused.get(&process.key);
        let tries = known.map_or(0, |known| known.tries) + 1;
        let new = known.is_none_or(|known| known.reason != reason);
        let refusal = Refusal {
            comm: process.comm.clone(),
            reason,
            message,
            tries,
            until: now + backoff(tries, first),
        };
        self.refused.insert(process.key, refusal);
        new
    }

    /// The processes that match now: who refused and is not among them is forgotten.
    pub fn matching(&mut self, matching: &[Match]) {
        self.refused
            .retain(|key, _| matching.iter().any(|process| process.key == *key));
    }

    /// Who is left out.
    pub fn leave_out(&mut self, over: Vec<Match>) {
        self.over = over;
    }

    /// Drops rows that ended `linger` ago.
    pub fn forget(&mut self, now: Duration, linger: Duration) {
        self.rows.retain(|_, row| {
            row.ended
                .is_none_or(|ended| now.saturating_sub(ended) < linger)
        });
    }

    /// The rows, by number.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// Who refuses.
    pub const fn refusals(&self) -> &BTreeMap<ProcessKey, Refusal> {
        &self.refused
    }

    /// Who is left out because there are too many.
    pub fn over(&self) -> &[Match] {
        &self.over
    }

    /// Of all processes.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    fn row(&mut self, key: ProcessKey) -> Option<&mut Row> {
        self.rows.get_mut(&key.pid).filter(|row| row.key == key)
    }
}

impl Row {
    fn new(process: &Match, header: TrackHeader) -> Self {
        Self {
            key: process.key,
            comm: process.comm.clone(),
            selector: process.selector.clone(),
            header,
            rounds: 0,
            pages: TrackedPages::default(),
            explained: None,
            cpu: Duration::ZERO,
            last_cost: Duration::ZERO,
            interval: Duration::ZERO,
            ended: None,
            told: 0,
            calm: 0,
        }
    }

    fn add(&mut self, round: &TrackRound) {
        let new = sum(round);
        self.pages.tracked = new.tracked;
        self.pages.armed = new.armed;
        self.pages.written += new.written;
        self.pages.unknown += new.unknown;
        self.pages.vanished += new.vanished;
    }
}

/// What all mappings together counted.
fn sum(round: &TrackRound) -> TrackedPages {
    let mut sum = TrackedPages::default();
    for mapping in &round.mappings {
        sum.tracked += mapping.pages.tracked;
        sum.armed += mapping.pages.armed;
        sum.written += mapping.pages.written;
        sum.unknown += mapping.pages.unknown;
        sum.vanished += mapping.pages.vanished;
    }
    sum
}

/// 0 as asked for or hardly longer, 1 longer than that, 2 from twice as long, 3 from four times as long, ...
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

    use super::*;
    use pages::track::{MappingRound, TrackedMapping};

    const SECOND: Duration = Duration::from_secs(1);

    fn process(pid: u32, start: u64) -> Match {
        Match {
            key: ProcessKey {
                pid,
                start_boottime_ns: start,
            },
            comm: b"redis".to_vec(),
            selector: Selector::Pid(pid),
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

    fn tracked(processes: &[&Match]) -> Ledger {
        let mut ledger = Ledger::new(SECOND, 0.01);
        for process in processes {
            ledger.attached(process, header(), &round(0, 5));
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
                Some(Next {
                    interval: SECOND,
                    news: None
                })
            );
        }
        let row = ledger.rows().next().unwrap();
        assert_eq!(
            (
                row.rounds,
                row.pages.written,
                row.pages.unknown,
                row.pages.tracked
            ),
            (2, 7, 7, 256)
        );
        assert_eq!(
            (ledger.node().written, row.cpu),
            (7, Duration::from_millis(2))
        );
    }

    #[test]
    fn another_process_of_the_same_number_begins_at_nothing() {
        let (old, new) = (process(1, 1), process(1, 2));
        let mut ledger = tracked(&[&old]);
        ledger.round(old.key, &round(3, 0), Duration::ZERO);
        ledger.attached(&new, header(), &round(0, 0));
        // The old one's thread has not noticed yet.
        assert_eq!(ledger.round(old.key, &round(9, 0), Duration::ZERO), None);
        ledger.ended(old.key, SECOND);
        let row = ledger.rows().next().unwrap();
        assert_eq!((row.key, row.pages.written, row.ended), (new.key, 0, None));
    }

    #[test]
    fn one_that_is_attached_again_goes_on_and_one_that_ended_lingers() {
        let redis = process(1, 1);
        let mut ledger = tracked(&[&redis]);
        ledger.round(redis.key, &round(3, 0), Duration::ZERO);
        ledger.ended(redis.key, SECOND);
        ledger.forget(SECOND * 2, SECOND * 2);
        ledger.attached(&redis, header(), &round(0, 2));
        let row = ledger.rows().next().unwrap();
        assert_eq!(
            (row.pages.written, row.pages.unknown, row.ended),
            (3, 7, None)
        );
        ledger.ended(redis.key, SECOND);
        // Told again later, it ended when it ended.
        ledger.ended(redis.key, SECOND * 3);
        ledger.forget(SECOND * 3, SECOND * 2);
        assert_eq!(ledger.rows().count(), 0);
        assert_eq!(ledger.node().written, 3);
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
            Next {
                interval: Duration::from_millis(1500),
                news: Some(News::Longer)
            }
        );
        assert_eq!(news(19).news, None);
        assert_eq!(news(25).news, Some(News::Longer));
        assert_eq!(news(15).news, None);
        for _ in 1..CALM {
            assert_eq!(news(1).news, None);
        }
        assert_eq!(news(1).news, Some(News::AsAsked));
        assert_eq!(news(15).news, Some(News::Longer));
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
        let mut ledger = Ledger::new(SECOND, 0.01);
        let mut refuse = |reason| ledger.refused(&redis, reason, String::new(), SECOND, SECOND);
        assert_eq!(
            [
                refuse("traced"),
                refuse("traced"),
                refuse("busy"),
                refuse("busy")
            ],
            [true, false, true, false]
        );
        let refusal = &ledger.refusals()[&redis.key];
        assert_eq!((refusal.tries, refusal.until), (4, SECOND * 9));
        assert_eq!(ledger.node().failures.iter().sum::<u64>(), 4);
        ledger.matching(&[]);
        assert!(ledger.refusals().is_empty());
    }
}
