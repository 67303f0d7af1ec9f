//! A case that counts everything that tracking could do to it, until standard input ends.

use std::io::{Error, Result, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use uffd::{PAGE_SIZE, ScratchMapping, UffdError};

use super::report::CaseReport;
use super::{crowd, memory, sys, transfers, until_asked};

/// Pages of each area.
const PAGES: u64 = 4096;
/// Processes that share the memory of this one since they were forked.
const CHILDREN: usize = 3;

static CHILDREN_TOLD: AtomicU64 = AtomicU64::new(0);

extern "C" fn told_of_a_child(_: i32) {
    CHILDREN_TOLD.fetch_add(1, Ordering::SeqCst);
}

/// Memory that the case leaves as it is once it is ready.
struct WitnessAreas {
    /// Shared with children since fork(2).
    shared: ScratchMapping,
    /// In huge pages, where the kernel has any.
    huge: ScratchMapping,
    /// Never touched.
    absent: ScratchMapping,
}

impl WitnessAreas {
    fn new() -> std::result::Result<Self, UffdError> {
        const BYTES: u64 = PAGES * PAGE_SIZE;
        let areas = Self {
            shared: ScratchMapping::anonymous(BYTES)?,
            huge: ScratchMapping::huge(BYTES).or_else(|_| ScratchMapping::anonymous(BYTES))?,
            absent: ScratchMapping::anonymous(BYTES)?,
        };
        // What is alike and side by side would be one mapping.
        sys::advise(&areas.shared.range(), libc::MADV_DONTDUMP);
        sys::advise(&areas.absent.range(), libc::MADV_DONTFORK);
        for page in 0..PAGES {
            areas.shared.store(page, content(page));
            areas.huge.store(page, content(page));
        }
        Ok(areas)
    }

    /// Where they are, as a line of JSON.
    fn tell(&self) {
        let range = |area: &ScratchMapping| json!([area.range().start, area.range().end]);
        println!(
            "{}",
            json!({
                "shared": range(&self.shared),
                "huge": range(&self.huge),
                "absent": range(&self.absent),
            })
        );
        // If the reader is gone, nobody needs to know.
        let _ = std::io::stdout().flush();
    }

    /// How many pages do not hold what was stored to them.
    fn wrong(&self) -> usize {
        let is_wrong = |page: &u64| {
            let (page, expected) = (*page, content(*page));
            self.shared.read(page) != expected || self.huge.read(page) != expected
        };
        (0..PAGES).filter(is_wrong).count()
    }
}

/// What a page holds: never zero.
const fn content(page: u64) -> u8 {
    (page % 251) as u8 + 1
}

/// Threads in calls of all kinds, one that computes, one that changes mappings; memory that is
/// shared, huge, absent.
pub fn all(report: &mut CaseReport) -> Result<()> {
    let areas = WitnessAreas::new().map_err(Error::other)?;
    let children: Vec<_> = (0..CHILDREN)
        .map(|_| sys::begin_child(sys::sleep_while_parent_lives))
        .collect::<rustix::io::Result<_>>()?;
    sys::handle(libc::SIGCHLD, told_of_a_child, libc::SA_RESTART);
    let waiting = crowd::begin_waiting(2)?;
    let moved = transfers::begin_all()?;
    std::thread::spawn(change_mappings);
    until_asked::watch();
    report.ready();
    areas.tell();
    memory::compute_on(report, |_| {
        std::thread::sleep(Duration::from_millis(20));
        until_asked::is_over()
    })?;
    waiting.end(report);
    moved.iter().for_each(|count| count.wait_for_two());
    moved.iter().for_each(|count| count.put(report));
    report.put("wrong pages", areas.wrong());
    report.put("told of children", CHILDREN_TOLD.load(Ordering::SeqCst));
    for child in children {
        sys::end_child(child)?;
    }
    report.put("no other child", sys::has_no_child());
    Ok(())
}

/// Unmaps single pages and maps them again, as allocators do, a few in the time of a round.
fn change_mappings() -> rustix::io::Result<()> {
    let memory = sys::ReservedMemory::new(64)?;
    for page in (0..64).step_by(2).cycle() {
        memory.refill(page)?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
