//! Attaches, rounds and kills at random moments, of a process that counts all that it could notice:
//! there is nothing beyond the table of docs/inject.md.
//!
//! `TRACKER_ATTACHES` says how many on a quiet and on a busy machine each, and `STRATEGY_SEED` which
//! ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pages::strategy::StrategyName;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testbed::inject::{InjectTarget, family, holders, nothing_noticed, tracers};
use testbed::script::{ANON, seed};
use testbed::session::{registered, working};
use testbed::smaps::field;
use testbed::{KilledChild, eventually, program};

const TRACK: [&str; 2] = ["track", "--json"];
const EXPLAIN: [&str; 2] = ["explain", "--of=ours"];
/// Processes that compute on a busy machine.
const LOAD: usize = 4;

/// Only one at a time: a quiet machine is quiet.
static MACHINE: Mutex<()> = Mutex::new(());

/// On a busy machine, where each takes a multiple of the time.
const BUSY_TURN: [(TrackerMix, usize); 3] = [
    (TrackerMix::Running, 6),
    (TrackerMix::Freezing, 1),
    (TrackerMix::Telling, 1),
];

fn attaches(turn: &[(TrackerMix, usize)]) -> usize {
    let asked = std::env::var("TRACKER_ATTACHES").ok();
    let usual = turn.iter().map(|(_, times)| times).sum();
    asked.map_or(usual, |asked| asked.parse().unwrap())
}

/// Who attaches to a target, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrackerMix {
    /// Those that stop one thread; half of them are killed.
    Running,
    /// Those that stop all threads in each round, too.
    Freezing,
    /// Only those that do, and nobody is killed: each tells what it has cut short.
    Telling,
}

/// So many attach to one target, in this order: explaining takes far longer to begin.
const TURN: [(TrackerMix, usize); 3] = [
    (TrackerMix::Running, 12),
    (TrackerMix::Freezing, 2),
    (TrackerMix::Telling, 1),
];

/// How a tracker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrackerEnd {
    Killed,
    Terminated,
    AfterRounds,
}

/// What a target shows from outside while nobody is attached to it.
#[derive(Debug, PartialEq, Eq)]
struct RestingTarget {
    mappings: usize,
    descriptors: Vec<String>,
    /// What they are and do, as in `/proc/PID/stat`.
    family: Vec<String>,
    shared_pss: u64,
    huge: u64,
    absent_rss: u64,
}

impl RestingTarget {
    /// Whether what is left of attaching is what docs/inject.md says: seldom, a child or some
    /// mappings. Who asks for many attaches wants to see each.
    fn is_in_the_table(&self, before: &Self) -> bool {
        /// The most that were seen.
        const MAPPINGS: usize = 8;
        if std::env::var_os("TRACKER_ATTACHES").is_some() {
            return self == before;
        }
        let children = self.family.len().saturating_sub(before.family.len());
        let mappings = self.mappings.saturating_sub(before.mappings);
        let is_there = |member: &String| self.family.contains(member);
        children <= 1
            && before.family.iter().all(is_there)
            && mappings <= MAPPINGS
            && self.descriptors == before.descriptors
            && (self.shared_pss, self.huge) == (before.shared_pss, before.huge)
            && self.absent_rss == before.absent_rss
    }
}

/// Pid and name of a process, and whether it has ended.
fn known(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (name, rest) = stat.rsplit_once(") ").unwrap_or_default();
    let ended = if rest.starts_with('Z') { ", ended" } else { "" };
    format!("{name}){ended}")
}

/// A target, and where its memory is.
struct WatchedTarget {
    target: InjectTarget,
    areas: Value,
}

impl WatchedTarget {
    fn start() -> Self {
        let mut target = InjectTarget::until_asked("witness");
        let areas = target.line();
        Self { target, areas }
    }

    fn pid(&self) -> u32 {
        self.target.pid()
    }

    fn area(&self, name: &str) -> Range<u64> {
        let bound = |at: usize| self.areas[name][at].as_u64().unwrap();
        bound(0)..bound(1)
    }

    fn look(&self) -> RestingTarget {
        let pid = self.pid();
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut descriptors: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        descriptors.sort();
        RestingTarget {
            // It may just be between unmapping a page and mapping it again.
            mappings: (0..5)
                .map(|_| uffd::maps(pid).unwrap().count())
                .min()
                .unwrap(),
            descriptors,
            family: family(pid).into_iter().map(known).collect(),
            shared_pss: field(pid, &self.area("shared"), "Pss"),
            huge: field(pid, &self.area("huge"), "AnonHugePages"),
            absent_rss: field(pid, &self.area("absent"), "Rss"),
        }
    }

    /// As it is when all of its threads are at work and nothing changes any more.
    fn at_rest(&self) -> RestingTarget {
        let mut before = self.look();
        let mut same = 0;
        eventually("it is at rest", || {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.look();
            same = if now == before { same + 1 } else { 0 };
            before = now;
            (same == 10).then_some(())
        });
        before
    }

    /// Waits until nobody is attached, and it is as it was.
    fn is_as_before(&self, before: &RestingTarget, what: &str) {
        let pid = self.pid();
        eventually("all are gone", || {
            let gone = tracers(pid) == 0 && registered(pid) == 0 && holders(pid).is_empty();
            gone.then_some(())
        });
        let (began, mut now) = (Instant::now(), self.look());
        while now != *before && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
            now = self.look();
        }
        if now != *before {
            eprintln!("after {what}: {now:?}, and before {before:?}");
        }
        assert!(
            now.is_in_the_table(before),
            "after {what}: {now:?}, and before {before:?}"
        );
    }
}

/// A tracker at work.
struct RandomTracker {
    process: KilledChild,
    tracks: bool,
    end: TrackerEnd,
    what: String,
}

impl RandomTracker {
    fn start(pid: u32, mix: TrackerMix, random: &mut Rng) -> Self {
        let mut command = Command::new(program("tracker"));
        let ends = [
            TrackerEnd::Killed,
            TrackerEnd::Killed,
            TrackerEnd::Terminated,
            TrackerEnd::AfterRounds,
        ];
        let choices = if mix == TrackerMix::Telling { 2.. } else { 0.. };
        let end = random.choice(&ends[choices]).copied().unwrap();
        let tracks = mix == TrackerMix::Running && random.u8(..16) != 0;
        command.args(if tracks { TRACK } else { EXPLAIN });
        if mix != TrackerMix::Running {
            command.arg("--freeze");
        }
        let mut strategies = working(ANON);
        strategies.retain(|name| tracks || name.needs_descriptor());
        let auto = StrategyName::outside().count();
        let strategy = random.usize(..=auto);
        let strategy = strategies.get(strategy).map_or("auto", |it| it.as_str());
        command.args(["--strategy", strategy]);
        let intervals = if mix == TrackerMix::Telling { 2.. } else { 0.. };
        let interval = random.choice(&["1ms", "5ms", "40ms"][intervals]).unwrap();
        command.args(["--interval", interval, "--pid", &pid.to_string()]);
        if end == TrackerEnd::AfterRounds {
            command.arg(format!("--rounds={}", random.usize(1..20)));
        }
        let what = format!("{command:?} {end:?}");
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let process = KilledChild(command.stdout(Stdio::piped()).spawn().unwrap());
        Self {
            process,
            tracks,
            end,
            what,
        }
    }

    /// Ends it at this moment of its work, if not by itself; what it has said.
    fn end(mut self, after: f64, times: &TrackerTimes) -> String {
        let after = times.of(self.tracks).mul_f64(after);
        let child = &mut self.process.0;
        let said = [read(child.stdout.take()), read(child.stderr.take())];
        if self.end != TrackerEnd::AfterRounds {
            std::thread::sleep(after);
        }
        let child = &mut self.process.0;
        match self.end {
            TrackerEnd::Killed => child.kill().unwrap(),
            TrackerEnd::Terminated => end_politely(child),
            TrackerEnd::AfterRounds => (),
        }
        let status = child.wait().unwrap();
        let said = said.map(|reader| reader.join().unwrap()).concat();
        let fine = self.end != TrackerEnd::AfterRounds || status.success();
        assert!(fine, "{}: {status}: {said}", self.what);
        said
    }
}

/// SIGTERM, unless it has ended already.
fn end_politely(child: &Child) {
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
}

/// Reads all, so that nobody waits for room.
fn read(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        // What a killed process wrote may end anywhere.
        let _ = from.unwrap().read_to_string(&mut text);
        text
    })
}

/// How many calls a report says came back short.
fn told_short(said: &str) -> u64 {
    let lines = said
        .lines()
        .filter(|line| line.contains("came back short: it had"));
    let count = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words
            .iter()
            .position(|word| word.starts_with("thread"))
            .unwrap();
        words[at - 1].parse().unwrap_or(1)
    };
    lines.map(count).sum()
}

/// How many calls came back short.
fn short(report: &Value) -> u64 {
    let fields = report.as_object().unwrap().iter();
    let counts = fields.filter(|(name, _)| name.ends_with(": short"));
    counts.map(|(_, count)| count.as_u64().unwrap()).sum()
}

/// How long trackers take here until they have made a round.
struct TrackerTimes {
    track: Duration,
    explain: Duration,
}

impl TrackerTimes {
    fn measure(pid: u32) -> Self {
        let time = |kind: [&str; 2]| {
            let began = Instant::now();
            let mut command = Command::new(program("tracker"));
            command
                .args(kind)
                .args(["--rounds=1", "--interval=1ms", "--pid", &pid.to_string()]);
            assert!(command.output().unwrap().status.success());
            began.elapsed()
        };
        Self {
            track: time(TRACK),
            explain: time(EXPLAIN),
        }
    }

    const fn of(&self, tracks: bool) -> Duration {
        if tracks { self.track } else { self.explain }
    }
}

/// Attaches so many times to one target.
fn one_target(mix: TrackerMix, times: usize, is_busy: bool, random: &mut Rng) {
    let mut watched = WatchedTarget::start();
    let mut before = watched.at_rest();
    assert_eq!(before.absent_rss, 0);
    let lasts = TrackerTimes::measure(watched.pid());
    let mut told = 0;
    for _ in 0..times {
        let moment = 1.5 * random.f64();
        let tracker = RandomTracker::start(watched.pid(), mix, random);
        let what = tracker.what.clone();
        told += told_short(&tracker.end(moment, &lasts));
        watched.is_as_before(&before, &what);
        // What is left once stays.
        before = watched.look();
    }
    let mut report = watched.target.ask();
    let short = short(&report);
    eprintln!("{mix:?}: {short} came back short, {told} told; {report}");
    match mix {
        TrackerMix::Running => assert_eq!((short, told), (0, 0), "{report}"),
        TrackerMix::Telling if !is_busy => assert_eq!(short, told, "{report}"),
        // Who was killed tells nothing. Who gave up tells nothing of those that had not stopped by
        // then; who stops a thread twice before it gets to run tells the same twice.
        TrackerMix::Telling | TrackerMix::Freezing => (),
    }
    let counts = report.as_object_mut().unwrap();
    counts.retain(|name, _| !name.ends_with(": short"));
    nothing_noticed(&report);
}

fn attach_at_random(is_busy: bool) {
    let turn = if is_busy { BUSY_TURN } else { TURN };
    let (seed, all) = (seed(), attaches(&turn));
    let kernel = rustix::system::uname();
    eprintln!(
        "{all} attaches, STRATEGY_SEED={seed}, {:?}",
        kernel.release()
    );
    let mut random = Rng::with_seed(seed);
    let mut left = all;
    for (mix, times) in turn.iter().cycle() {
        if left == 0 {
            return;
        }
        let times = left.min(*times);
        left -= times;
        one_target(*mix, times, is_busy, &mut random);
    }
}

#[test]
fn nothing_beyond_the_table_on_a_quiet_machine() {
    let _machine = MACHINE.lock();
    attach_at_random(false);
}

#[test]
fn nothing_beyond_the_table_on_a_busy_machine() {
    let _machine = MACHINE.lock();
    let load: Vec<_> = (0..LOAD)
        .map(|_| InjectTarget::until_asked("checksum-alone"))
        .collect();
    attach_at_random(true);
    drop(load);
}
