//! What `uffdwp-workload client` does to its pages in each round: a tracker with a known number of
//! reports, true and false; and the process that does it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{ChildStdout, Command, Stdio};

use super::KilledChild;

/// Pages of the area that the client tracks.
pub const PAGES: u64 = 512;
/// What every page of it holds at first.
pub const FIRST: u64 = 7;

/// Something that the client does to pages in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientAct {
    /// A thread stores what is there.
    SameStore,
    /// A thread stores another value.
    OtherStore,
    /// A thread stores zeroes.
    ZeroStore,
    /// read(2) puts in what is there.
    SameRead,
    /// read(2) puts in another value.
    OtherRead,
    /// `/proc/PID/mem` puts in what is there.
    SameForce,
    /// `/proc/PID/mem` puts in another value.
    OtherForce,
    /// Given back with `MADV_DONTNEED`.
    Zap,
}

impl ClientAct {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SameStore,
        Self::OtherStore,
        Self::ZeroStore,
        Self::SameRead,
        Self::OtherRead,
        Self::SameForce,
        Self::OtherForce,
        Self::Zap,
    ];

    /// To so many pages of 4 KiB in each round.
    #[must_use]
    pub const fn pages(self) -> u64 {
        match self {
            Self::SameStore => 23,
            Self::OtherStore => 19,
            Self::ZeroStore => 5,
            Self::SameRead => 11,
            Self::OtherRead => 13,
            Self::SameForce => 3,
            Self::OtherForce => 2,
            Self::Zap => 7,
        }
    }

    /// What a page holds after it in a round, that held `before`.
    #[must_use]
    pub const fn value(self, before: u64, round: u64) -> u64 {
        match self {
            Self::SameStore | Self::SameRead | Self::SameForce => before,
            Self::ZeroStore | Self::Zap => 0,
            Self::OtherStore => 100 + round,
            Self::OtherRead => 120 + round,
            Self::OtherForce => 140 + round,
        }
    }

    /// The line of `uffdwp-workload script` that does it.
    #[must_use]
    pub fn line(self, area: u64, value: u64, page: u64) -> String {
        match self {
            Self::SameStore | Self::OtherStore | Self::ZeroStore => {
                format!("store {area} {value} 1 {page}-{page}")
            }
            Self::SameRead | Self::OtherRead => format!("read {area} {value} {page}-{page}"),
            Self::SameForce | Self::OtherForce => format!("force {area} {value} {page}-{page}"),
            Self::Zap => format!("zap {area} {page}-{page}"),
        }
    }
}

/// How the client learns what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientWay {
    /// PAGEMAP_SCAN that arms what it reports, in one step.
    Scan,
    /// PAGEMAP_SCAN, and then UFFDIO_WRITEPROTECT of what it reported.
    ScanThenArm,
    /// Bit 57 of `/proc/PID/pagemap`, and then UFFDIO_WRITEPROTECT.
    Pagemap,
    /// A message for each first write, which a thread answers with UFFDIO_WRITEPROTECT.
    Messages,
}

impl ClientWay {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Scan, Self::ScanThenArm, Self::Pagemap, Self::Messages];

    /// As it is written on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::ScanThenArm => "scan-then-arm",
            Self::Pagemap => "pagemap",
            Self::Messages => "messages",
        }
    }

    /// What the client does in each round. No message tells of what is given back, and where a
    /// handler answers, a write through `/proc/PID/mem` fails.
    pub fn acts(self) -> impl Iterator<Item = ClientAct> {
        let answered = self == Self::Messages;
        let unanswered = |act: &ClientAct| {
            use ClientAct::{OtherForce, SameForce, Zap};
            !matches!(act, SameForce | OtherForce | Zap)
        };
        let acts = ClientAct::ALL.into_iter();
        acts.filter(move |act| !answered || unanswered(act))
    }
}

/// What the client does in its rounds: the seed decides to which pages.
pub struct ClientPlan {
    way: ClientWay,
    values: Vec<u64>,
    random: fastrand::Rng,
    round: u64,
}

/// Something that is done to a page.
#[derive(Clone, Copy, Debug)]
pub struct PlannedAct {
    /// What.
    pub act: ClientAct,
    /// To which page, by number.
    pub page: u64,
    /// What the page holds then.
    pub value: u64,
}

impl PlannedAct {
    /// The line of `uffdwp-workload script` that does it.
    #[must_use]
    pub fn line(&self, area: u64) -> String {
        self.act.line(area, self.value, self.page)
    }
}

impl ClientPlan {
    /// Of a client that learns in that way what was written.
    #[must_use]
    pub fn new(way: ClientWay, seed: u64) -> Self {
        Self {
            way,
            values: vec![FIRST; PAGES as usize],
            random: fastrand::Rng::with_seed(seed),
            round: 0,
        }
    }

    /// What is done in the next round, one after the other, to a page each.
    pub fn round(&mut self) -> Vec<PlannedAct> {
        self.round += 1;
        let (mut acts, mut taken) = (Vec::new(), BTreeSet::new());
        for act in self.way.acts() {
            for _ in 0..act.pages() {
                let page = self.choose(&taken);
                taken.insert(page);
                let value = &mut self.values[page as usize];
                *value = act.value(*value, self.round);
                let value = *value;
                acts.push(PlannedAct { act, page, value });
            }
        }
        acts
    }

    /// A page that is not in the set and holds something.
    fn choose(&mut self, but: &BTreeSet<u64>) -> u64 {
        loop {
            let page = self.random.u64(0..PAGES);
            if self.values[page as usize] != 0 && !but.contains(&page) {
                return page;
            }
        }
    }
}

/// Whose memory the client tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientTarget {
    /// Its own.
    Inside,
    /// That of a child.
    Outside,
}

impl ClientTarget {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Inside, Self::Outside];

    /// As it is written on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Outside => "outside",
        }
    }
}

/// A process of `uffdwp-workload client`.
pub struct ClientProcess {
    process: KilledChild,
    lines: Lines<BufReader<ChildStdout>>,
    pid: u32,
    start: u64,
    said: Vec<String>,
}

impl ClientProcess {
    /// Starts one; the seed decides which pages it acts on.
    pub fn start(target: ClientTarget, way: ClientWay, seed: u64) -> Self {
        let mut command = Command::new(super::program("uffdwp-workload"));
        command
            .args(["client", "--target", target.as_str(), "--way", way.as_str()])
            .args(["--seed", &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = KilledChild(command.spawn().unwrap());
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let words: Vec<_> = first.split(' ').collect();
        assert_eq!((words[0], words.len()), ("tracks", 4), "{first}");
        Self {
            process,
            lines,
            pid: words[1].parse().unwrap(),
            start: u64::from_str_radix(words[2], 16).unwrap(),
            said: Vec::new(),
        }
    }

    /// The process whose memory it tracks.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The first address of that memory.
    pub fn start_of_area(&self) -> u64 {
        self.start
    }

    /// Has it do something, and waits until it is done.
    pub fn say(&mut self, line: &str) {
        writeln!(self.process.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.said.push(self.lines.next().unwrap().unwrap());
    }

    /// All its answers.
    pub fn said(&self) -> &[String] {
        &self.said
    }
}
