//! A process splits, merges, moves, empties and unmaps its memory at random, while the agent
//! collects and discovers at any moment: the series of a mapping has all that happened to it, and
//! all that the process allocated less what it freed is the change of its `VmPTE`. Runs only in
//! guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::ops::Range;
use std::ptr;
use std::time::{Duration, Instant};

use rustix::mm::{self, Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use testbed::{AgentProcess, check_metrics, guest, sum};
use uffd::{PAGE_SIZE, PMD_SIZE, RegisterMode, UffdFeatures, Userfaultfd};

const PAGES: u64 = 2 * PMD_SIZE / PAGE_SIZE;
const AREAS: u64 = 4;
const HISTORIES: u64 = 6;
const STEPS: u32 = 60;
const SOON: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
enum PageState {
    /// A write is no write-protect fault.
    Open,
    Armed,
}

/// A mapping of uffd-wp memory.
struct SplitArea {
    start: u64,
    pages: Vec<PageState>,
    /// Pages that nobody may write to: a mapping of its own as long as that is.
    closed: Option<Range<u64>>,
    /// Write-protect faults of the mapping that has the start.
    faults: u64,
}

/// The process under test: this one.
struct RandomProcess {
    uffd: Userfaultfd,
    is_async: bool,
    random: fastrand::Rng,
    areas: Vec<SplitArea>,
    /// Where nothing was mapped yet, of a reservation.
    free: Range<u64>,
}

impl RandomProcess {
    fn new(seed: u64) -> Self {
        let is_async = UffdFeatures::offered()
            .unwrap()
            .contains(UffdFeatures::WP_ASYNC);
        let uffd = Userfaultfd::open().unwrap();
        let features = if is_async {
            UffdFeatures::WP_ASYNC
        } else {
            UffdFeatures::default()
        };
        uffd.enable(features).unwrap();
        let size = (1 << 30) as usize;
        // SAFETY: a new mapping.
        let reserved = unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            mm::mmap_anonymous(ptr::null_mut(), size, ProtFlags::empty(), flags).unwrap()
        };
        let start = (reserved as u64).next_multiple_of(PMD_SIZE);
        let mut process = Self {
            uffd,
            is_async,
            random: fastrand::Rng::with_seed(seed),
            areas: Vec::new(),
            free: start..start + size as u64 - PMD_SIZE,
        };
        (0..AREAS).for_each(|_| process.map());
        process
    }

    /// A place that was never used, apart from its neighbours.
    fn place(&mut self) -> u64 {
        let start = self.free.start + PMD_SIZE;
        self.free.start += (PAGES * PAGE_SIZE) + 2 * PMD_SIZE;
        assert!(
            self.free.start < self.free.end,
            "the reservation is used up"
        );
        start
    }

    fn map(&mut self) {
        let start = self.place();
        // SAFETY: inside the reservation, and nothing else is there.
        unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::FIXED;
            let rights = ProtFlags::READ | ProtFlags::WRITE;
            mm::mmap_anonymous(pointer(start), bytes(PAGES), rights, flags).unwrap();
            mm::madvise(pointer(start), bytes(PAGES), Advice::LinuxNoHugepage).unwrap();
            // Parts that get their first page apart do not merge again (`anon_vma`).
            pointer(start).cast::<u8>().write_volatile(1);
        }
        self.register(start);
    }

    /// Registers a new mapping, whose pages are open.
    fn register(&mut self, start: u64) {
        let range = start..start + PAGES * PAGE_SIZE;
        self.uffd.register(&range, RegisterMode::WP).unwrap();
        let pages = vec![PageState::Open; PAGES as usize];
        self.areas.push(SplitArea {
            start,
            pages,
            closed: None,
            faults: 0,
        });
    }

    fn step(&mut self) {
        let at = self.random.usize(..self.areas.len());
        match self.random.u32(..12) {
            0..=3 => self.write(at),
            4 => self.arm(at),
            5..=7 => self.protect(at),
            8 => self.empty(at),
            9 => self.remap(at),
            10 => {
                let area = self.areas.swap_remove(at);
                // SAFETY: nothing refers to it.
                unsafe { mm::munmap(pointer(area.start), bytes(PAGES)).unwrap() };
                self.map();
            }
            _ => {
                let pause = self.random.u64(..400);
                std::thread::sleep(Duration::from_millis(pause));
            }
        }
    }

    fn some_pages(&mut self) -> Range<u64> {
        let start = self.random.u64(..PAGES);
        start..self.random.u64(start + 1..=PAGES)
    }

    fn write(&mut self, at: usize) {
        let pages = self.some_pages();
        let area = &mut self.areas[at];
        let closed = area.closed.clone().unwrap_or(0..0);
        for page in pages.step_by(7).filter(|page| !closed.contains(page)) {
            let armed = area.pages[page as usize] == PageState::Armed;
            if armed && !self.is_async {
                // Nobody would answer.
                continue;
            }
            // The mapping that begins at the start ends where another begins.
            let own = match &area.closed {
                Some(closed) if closed.start > 0 => page < closed.start,
                Some(_) => false,
                None => true,
            };
            area.faults += u64::from(armed && own);
            area.pages[page as usize] = PageState::Open;
            // SAFETY: the page is ours and writable, and no reference to it exists.
            unsafe {
                pointer(area.start + page * PAGE_SIZE)
                    .cast::<u8>()
                    .write_volatile(1)
            };
        }
    }

    fn arm(&mut self, at: usize) {
        let area = &mut self.areas[at];
        let closed = area.closed.clone().unwrap_or(PAGES..PAGES);
        // 6.1 arms no more than one mapping at a time.
        for pages in [0..closed.start, closed.clone(), closed.end..PAGES] {
            if !pages.is_empty() {
                let (start, end) = (pages.start * PAGE_SIZE, pages.end * PAGE_SIZE);
                let range = area.start + start..area.start + end;
                self.uffd.arm(&range).unwrap();
            }
        }
        area.pages.fill(PageState::Armed);
    }

    /// Takes the right to write from a part, which splits the mapping, or gives it back, which
    /// merges it.
    fn protect(&mut self, at: usize) {
        let mut pages = self.some_pages();
        match self.random.u32(..3) {
            0 => pages.start = 0,
            1 => pages.end = PAGES,
            _ => {}
        }
        let area = &mut self.areas[at];
        let (pages, rights) = match area.closed.take() {
            Some(closed) => (closed, MprotectFlags::READ | MprotectFlags::WRITE),
            // The whole would be no split.
            None if pages == (0..PAGES) => return,
            None => {
                area.closed = Some(pages.clone());
                (pages, MprotectFlags::READ)
            }
        };
        let size = bytes(pages.end - pages.start);
        // SAFETY: it is ours, and no reference to it exists.
        unsafe { mm::mprotect(pointer(area.start + pages.start * PAGE_SIZE), size, rights) }
            .unwrap();
    }

    fn empty(&mut self, at: usize) {
        let pages = self.some_pages();
        let area = &mut self.areas[at];
        let size = bytes(pages.end - pages.start);
        let start = pointer(area.start + pages.start * PAGE_SIZE);
        // SAFETY: it is ours, and no reference to it exists.
        unsafe { mm::madvise(start, size, Advice::LinuxDontNeed) }.unwrap();
        area.pages[pages.start as usize..pages.end as usize].fill(PageState::Open);
    }

    /// Moves a mapping that is one: it is registered no more, and disarmed.
    fn remap(&mut self, at: usize) {
        if self.areas[at].closed.is_some() {
            return;
        }
        let area = self.areas.swap_remove(at);
        let to = self.place();
        let flags = MremapFlags::MAYMOVE;
        // SAFETY: both places are ours, and no reference to them exists.
        unsafe {
            let size = bytes(PAGES);
            mm::mremap_fixed(pointer(area.start), size, size, flags, pointer(to)).unwrap();
        }
        self.register(to);
    }

    /// What is wrong with what the agent shows now.
    fn differences(&self, exposition: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for area in &self.areas {
            let labels = [
                pid(),
                format!("vma=\"{:#x}\"", area.start),
                "entry=\"pte\"".to_owned(),
            ];
            let labels = labels.each_ref().map(String::as_str);
            let counted = sum(exposition, "uffdwp_faults_total", &labels).unwrap_or(0.0);
            if counted != area.faults as f64 {
                let (start, faults) = (area.start, area.faults);
                wrong.push(format!("{counted} of {faults} faults at {start:#x}"));
            }
        }
        wrong
    }
}

fn pointer(address: u64) -> *mut std::ffi::c_void {
    ptr::without_provenance_mut(address as usize)
}

fn bytes(pages: u64) -> usize {
    (pages * PAGE_SIZE) as usize
}

fn pid() -> String {
    format!("pid=\"{}\"", std::process::id())
}

/// Page tables of this process, of all levels (`VmPTE`).
fn own_tables() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmPTE:"))
        .unwrap();
    let kib: f64 = line
        .split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib / 4.0
}

/// What the agent shows while no table comes or goes, and how many tables it then does not know.
fn quiet_look(agent: &AgentProcess) -> (String, f64) {
    loop {
        let before = own_tables();
        let exposition = agent.metrics();
        if own_tables() == before {
            let of = |family| sum(&exposition, family, &[&pid()]).unwrap_or(0.0);
            let known = of("uffdwp_process_page_tables_allocated_total")
                - of("uffdwp_page_tables_freed_total");
            return (exposition, before - known);
        }
    }
}

/// Waits until nothing is wrong.
fn wait_right(agent: &AgentProcess, process: &RandomProcess, unknown: f64, when: &str) {
    let begin = Instant::now();
    loop {
        let (exposition, now_unknown) = quiet_look(agent);
        let mut wrong = process.differences(&exposition);
        if now_unknown != unknown {
            wrong.push(format!(
                "{now_unknown} tables are unknown instead of {unknown}"
            ));
        }
        if wrong.is_empty() {
            return check_metrics(&exposition);
        }
        assert!(begin.elapsed() < SOON, "{when}: {wrong:#?}\n{exposition}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn random_splits_merges_and_moves_lose_nothing() {
    let args = [
        "--linger",
        "1s",
        "--collect-interval",
        "150ms",
        "--vma-label",
        "address",
    ];
    let agent = guest::start(&[&args[..], &["--max-vmas", "64"]].concat());
    agent.wait_ready();
    let mut process = RandomProcess::new(0);
    testbed::eventually("the process is known", || {
        sum(
            &agent.metrics(),
            "uffdwp_process_page_tables_allocated_total",
            &[&pid()],
        )
    });
    let (_, unknown) = quiet_look(&agent);
    for seed in 1..=HISTORIES {
        process.random = fastrand::Rng::with_seed(seed);
        for step in 0..STEPS {
            process.step();
            if step % 20 == 19 {
                let when = format!("seed {seed}, step {step}");
                wait_right(&agent, &process, unknown, &when);
            }
        }
    }
}
