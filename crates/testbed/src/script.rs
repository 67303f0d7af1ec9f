//! A process that touches its memory as it is told, and a strategy that tracks it from outside.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::ops::Range;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread;

use pages::strategy::{
    FaultTimeObserver, StrategyFacts, StrategyName, StrategyOutcome, StrategyTarget, TrackedArea,
    TrackingStrategy, WrittenRun, gather_observed, start,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tracker::probes::fault_time::FaultTimeProbes;
use uffd::Backing;
use uffd::{PAGE_SIZE, PMD_SIZE, Userfaultfd};

use super::KilledChild;

/// What this kernel can do, found out once.
pub static FACTS: LazyLock<StrategyFacts> =
    LazyLock::new(|| gather_observed(false, Some(FaultTimeProbes::shared())).unwrap());

/// A kind of memory in the script: its name, its backing, and how many pages of 4 KiB are one of
/// its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptMemory(pub &'static str, pub Backing, pub u64);

/// Private anonymous memory.
pub const ANON: ScriptMemory = ScriptMemory("anon", Backing::Anon, 1);
/// Anonymous memory in huge pages.
pub const THP: ScriptMemory = ScriptMemory("thp", Backing::Anon, 512);
/// Shared anonymous memory.
pub const SHMEM: ScriptMemory = ScriptMemory("shared-anon", Backing::Shmem, 1);
/// A memfd, mapped shared.
pub const MEMFD: ScriptMemory = ScriptMemory("memfd", Backing::Shmem, 1);
/// Memory that only its process can read.
pub const SECRET: ScriptMemory = ScriptMemory("secret", Backing::File, 1);
/// A memfd in huge pages.
pub const SHMEM_THP: ScriptMemory = ScriptMemory("shmem-thp", Backing::Shmem, 512);
/// Private memory of hugetlb.
pub const HUGETLB: ScriptMemory = ScriptMemory("hugetlb", Backing::Hugetlb, 512);
/// A regular file, mapped privately.
pub const FILE: ScriptMemory = ScriptMemory("file-private", Backing::File, 1);

/// Why a strategy cannot track this memory here, as its trial tells; `None` if it can.
pub fn refused(name: StrategyName, kind: ScriptMemory) -> Option<String> {
    let setting = |file, on: &[&str]| {
        let path = format!("/sys/kernel/mm/transparent_hugepage/{file}");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let off = !on.iter().any(|word| text.contains(word));
        off.then(|| format!("{path} is {}", text.trim()))
    };
    let off = match kind {
        THP => setting("enabled", &["[always]", "[madvise]"]),
        SHMEM_THP => setting("shmem_enabled", &["[always]", "[advise]", "[within_size]"]),
        _ => None,
    };
    let mut trials = FACTS.trials.iter();
    let trial = trials
        .find(|t| t.strategy == name && t.backing == kind.1)
        .unwrap();
    if let (StrategyOutcome::Fails(why), ANON) = (&trial.outcome, kind)
        && name != StrategyName::SoftDirty
    {
        // A broken strategy must not excuse itself by its own trial.
        assert!(!why.is_wrong_report(), "{name}: {why}");
    }
    off.or_else(|| match &trial.outcome {
        StrategyOutcome::Works(_) => None,
        StrategyOutcome::Fails(why) => Some(why.to_string()),
        StrategyOutcome::Untried(why) => Some(why.to_string()),
    })
}

/// A process of `uffdwp-workload script`.
pub struct ScriptProcess {
    process: KilledChild,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    areas: u64,
}

impl ScriptProcess {
    /// Starts `uffdwp-workload script`.
    pub fn start() -> Self {
        let path = super::program("uffdwp-workload");
        Self::start_program(path.as_ref())
    }

    /// Starts a copy of that program at another path.
    pub fn start_program(path: &Path) -> Self {
        let mut command = Command::new(path);
        command
            .arg("script")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = KilledChild(command.spawn().unwrap());
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        Self {
            stdin: process.0.stdin.take().unwrap(),
            lines,
            process,
            areas: 0,
        }
    }

    /// Pid of the process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Makes the process obey a line; returns its answer.
    pub fn say(&mut self, line: &str) -> String {
        writeln!(self.stdin, "{line}").unwrap();
        let answer = self.lines.next();
        answer
            .unwrap_or_else(|| panic!("the script ended at `{line}`"))
            .unwrap()
    }

    /// Maps an area; returns its number and where it is.
    pub fn map(&mut self, kind: ScriptMemory, pages: u64) -> (u64, TrackedArea) {
        self.area(kind, &format!("map {} {pages}", kind.0))
    }

    /// Maps an area at an address where nothing is; returns its number and where it is.
    pub fn map_at(&mut self, kind: ScriptMemory, address: u64, pages: u64) -> (u64, TrackedArea) {
        self.area(kind, &format!("map-at {} {address:x} {pages}", kind.0))
    }

    /// Moves an area to another place, where it has a new number.
    pub fn move_away(&mut self, kind: ScriptMemory, number: u64) -> (u64, TrackedArea) {
        self.area(kind, &format!("move {number}"))
    }

    /// Maps the shared memory of an area again; returns the new area's number and where it is.
    pub fn alias(&mut self, kind: ScriptMemory, number: u64) -> (u64, TrackedArea) {
        self.area(kind, &format!("alias {number}"))
    }

    /// Makes the process execute its program anew: no area is left.
    pub fn exec(&mut self) {
        assert_eq!(self.say("exec"), "ready");
        self.areas = 0;
    }

    /// Makes the process obey a line that it does not answer.
    pub fn order(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// Makes the process obey a line, which it must answer with `ok`.
    pub fn tell(&mut self, line: &str) {
        assert_eq!(self.say(line), "ok", "{line}");
    }

    /// The first word of each page of an area.
    pub fn words(&self, area: &TrackedArea) -> Vec<u64> {
        words(self.pid(), &area.range)
    }

    fn area(&mut self, kind: ScriptMemory, line: &str) -> (u64, TrackedArea) {
        let answer = self.say(line);
        let (start, end) = answer.split_once(' ').unwrap();
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        let area = TrackedArea {
            range: address(start)..address(end),
            backing: kind.1,
            page_size: if kind == HUGETLB { PMD_SIZE } else { PAGE_SIZE },
            shared: kind.1 == Backing::Shmem || kind == SECRET,
        };
        self.areas += 1;
        (self.areas - 1, area)
    }

    /// Takes over a new userfaultfd of the process, which keeps no copy.
    pub fn userfaultfd(&mut self) -> Userfaultfd {
        let number = self.say("uffd");
        let pid = Pid::from_raw(self.pid() as i32).unwrap();
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let (fd, flags) = (number.parse().unwrap(), PidfdGetfdFlags::empty());
        let uffd = pidfd_getfd(&process, fd, flags).unwrap();
        assert_eq!(self.say(&format!("close {number}")), "ok");
        uffd.into()
    }

    /// A strategy that tracks this process.
    pub fn track(&mut self, name: StrategyName) -> Box<dyn TrackingStrategy> {
        self.track_in(name, false, FACTS.observer.clone())
    }

    /// A strategy that tracks this process, and is told what happens by somebody else.
    pub fn track_observed(
        &mut self,
        name: StrategyName,
        observer: Arc<dyn FaultTimeObserver>,
    ) -> Box<dyn TrackingStrategy> {
        self.track_in(name, false, Some(observer))
    }

    /// A strategy that tracks this process, and tells zaps and huge pages apart.
    pub fn track_detailed(&mut self, name: StrategyName) -> Box<dyn TrackingStrategy> {
        self.track_in(name, true, FACTS.observer.clone())
    }

    fn track_in(
        &mut self,
        name: StrategyName,
        detailed: bool,
        observer: Option<Arc<dyn FaultTimeObserver>>,
    ) -> Box<dyn TrackingStrategy> {
        let target = StrategyTarget {
            pid: self.pid(),
            uffd: name.needs_descriptor().then(|| self.userfaultfd()),
            behaviour: FACTS.behaviour,
            observer,
            detailed,
        };
        start(name, target).unwrap()
    }

    /// Makes the process obey a line, calls `each` again and again meanwhile, and once afterwards.
    pub fn say_while(&mut self, line: &str, mut each: impl FnMut()) {
        thread::scope(|scope| {
            let obeying = scope.spawn(|| self.say(line));
            while !obeying.is_finished() {
                each();
            }
            assert_eq!(obeying.join().unwrap(), "ok");
        });
        each();
    }
}

/// The first word of each page of a range of a process. By process_vm_readv(2), which waits for
/// whoever answers for missing pages, as the process itself does; `/proc/PID/mem` does not.
fn words(pid: u32, range: &Range<u64>) -> Vec<u64> {
    let mut buffer = vec![0_u8; (range.end - range.start) as usize];
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(range.start as usize),
        iov_len: buffer.len(),
    };
    // SAFETY: the kernel writes to `buffer`, at most its length, and checks the remote address.
    let read =
        unsafe { libc::process_vm_readv(pid as i32, &raw const local, 1, &raw const remote, 1, 0) };
    assert_eq!(usize::try_from(read), Ok(buffer.len()), "{range:x?}");
    let word = |page: &[u8]| u64::from_ne_bytes(page[..8].try_into().unwrap());
    buffer.chunks(PAGE_SIZE as usize).map(word).collect()
}

/// A seed for random choices; `STRATEGY_SEED` repeats that of a failure.
pub fn seed() -> u64 {
    let given = std::env::var("STRATEGY_SEED").ok();
    given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap())
}

/// Pages in the syntax of the script; there must be at least one.
pub fn list<'a>(pages: impl IntoIterator<Item = &'a u64>) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == page => *last = page,
            _ => runs.push((page, page)),
        }
    }
    let runs: Vec<_> = runs
        .iter()
        .map(|(first, last)| format!("{first}-{last}"))
        .collect();
    runs.join(",")
}

/// The numbers of the reported pages in their area.
pub fn numbers(area: &TrackedArea, written: &[WrittenRun]) -> BTreeSet<u64> {
    let number = |address: u64| (address - area.range.start) / PAGE_SIZE;
    let pages = written
        .iter()
        .flat_map(|w| number(w.range.start)..number(w.range.end));
    pages.collect()
}

/// Makes a round, and returns the pages that it reports.
pub fn round(strategy: &mut dyn TrackingStrategy, area: &TrackedArea) -> BTreeSet<u64> {
    doubtful_round(strategy, area).0
}

/// As [`round`], and returns how many of the pages are in doubt, see [`pages::strategy::AreaStats`].
pub fn doubtful_round(
    strategy: &mut dyn TrackingStrategy,
    area: &TrackedArea,
) -> (BTreeSet<u64>, u64) {
    let mut written = Vec::new();
    let stats = strategy.round(area, &mut written).unwrap();
    strategy.end_round().unwrap();
    let pages = numbers(area, &written);
    assert_eq!((stats.written, stats.vanished), (pages.len() as u64, 0));
    assert_eq!(stats.tracked, area.pages());
    (pages, stats.in_doubt)
}

/// How often what is exact may be in doubt, before it is called never exact.
const DOUBTFUL_TRIES: u32 = 3;

/// Tries something again while it is in doubt: on a busy machine an eBPF program can miss an event,
/// and a round then reports everything. `run` returns what it found, and pages in doubt.
pub fn without_doubt<T>(what: &str, mut run: impl FnMut() -> (T, u64)) -> T {
    for _ in 0..DOUBTFUL_TRIES {
        match run() {
            (found, 0) => return found,
            (_, pages) => eprintln!("{what}: {pages} pages in doubt, tried again"),
        }
    }
    panic!("{what}: events were lost each of {DOUBTFUL_TRIES} times");
}

/// The content as a tracker knows it that copies each reported page.
pub struct ShadowCopy {
    pid: u32,
    area: TrackedArea,
    content: Vec<u64>,
}

impl ShadowCopy {
    /// The copy of an area that is all zeroes.
    pub fn empty(pid: u32, area: &TrackedArea) -> Self {
        Self {
            pid,
            area: area.clone(),
            content: vec![0; area.pages() as usize],
        }
    }

    /// Copies the pages that were reported.
    pub fn copy(&mut self, pages: &BTreeSet<u64>) {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for &page in pages {
            match runs.last_mut() {
                Some(run) if run.end == page => run.end += 1,
                _ => runs.push(page..page + 1),
            }
        }
        for run in runs {
            let address = |page| self.area.range.start + page * PAGE_SIZE;
            let words = words(self.pid, &(address(run.start)..address(run.end)));
            self.content[run.start as usize..run.end as usize].copy_from_slice(&words);
        }
    }

    /// The pages whose content differs from the copy.
    pub fn lost(&self) -> BTreeSet<u64> {
        let words = words(self.pid, &self.area.range);
        let pairs = self.content.iter().zip(words).enumerate();
        pairs
            .filter(|(_, (a, b))| **a != *b)
            .map(|(page, _)| page as u64)
            .collect()
    }
}
