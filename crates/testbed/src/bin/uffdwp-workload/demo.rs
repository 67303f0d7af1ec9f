//! A little of everything, gently and for ever: something to look at for those who have just
//! installed the agent.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::mm::Advice;
use tracker_ebpf::WpMode;
use uffd::{RegisterMode, UffdFeatures, Userfaultfd};

use crate::area::{MappedArea, MemoryKind};
use crate::handler::SyncHandler;
use crate::needs::{MachineFacts, TestNeed};

/// A thread with an area that it writes for ever.
struct DemoPart {
    name: &'static str,
    about: &'static str,
    mode: WpMode,
    kind: MemoryKind,
    needs: &'static [TestNeed],
    /// Whether to drop the pages before each round, so that markers are armed instead.
    empties: bool,
}

const PARTS: &[DemoPart] = &[
    DemoPart {
        name: "anon-async",
        about: "writes armed anonymous pages, resolved by the kernel",
        mode: WpMode::Async,
        kind: MemoryKind::Anon,
        needs: &[TestNeed::Async],
        empties: false,
    },
    DemoPart {
        name: "anon-marker",
        about: "writes anonymous markers, resolved by the kernel",
        mode: WpMode::Async,
        kind: MemoryKind::Anon,
        needs: &[TestNeed::Async],
        empties: true,
    },
    DemoPart {
        name: "shmem-async",
        about: "writes shmem that was zapped while it was armed",
        mode: WpMode::Async,
        kind: MemoryKind::SharedAnon,
        needs: &[TestNeed::Async],
        empties: true,
    },
    DemoPart {
        name: "anon-sync",
        about: "writes armed anonymous pages, resolved by a handler thread",
        mode: WpMode::Sync,
        kind: MemoryKind::Anon,
        needs: &[],
        empties: false,
    },
    DemoPart {
        name: "memfd-sync",
        about: "writes armed pages of a memfd, resolved by a handler thread",
        mode: WpMode::Sync,
        kind: MemoryKind::Memfd,
        needs: &[TestNeed::ShmemMarkers],
        empties: false,
    },
];

/// Pages of 4 KiB per area, 1 MiB in all.
const PAGES: u64 = 256;
/// The pause after the write to each page; a round writes all of them.
const PAUSE: Duration = Duration::from_millis(20);

/// Starts what this kernel supports, and stays until SIGTERM or SIGINT.
pub fn run(directory: &Path) -> Result<()> {
    let facts = MachineFacts::gather(directory)?;
    for (place, part) in PARTS.iter().enumerate() {
        match part.needs.iter().try_for_each(|&need| facts.check(need)) {
            Ok(()) => start(part, place as u64, &facts)?,
            Err(skip) => println!("{:<12} left out: {skip}", part.name),
        }
    }
    println!("pid {}, until SIGTERM or SIGINT", std::process::id());
    crate::signals::wait()
}

fn start(part: &'static DemoPart, place: u64, facts: &MachineFacts) -> Result<()> {
    let uffd = Arc::new(Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only())?);
    match part.mode {
        WpMode::Async => uffd.enable(UffdFeatures::WP_ASYNC)?,
        WpMode::Sync => uffd.enable(UffdFeatures::default())?,
    };
    let area = MappedArea::map(part.kind, place, PAGES, &facts.directory)?;
    uffd.register(&area.range(), RegisterMode::WP)?;
    if part.mode == WpMode::Sync {
        SyncHandler::start(uffd.clone())?;
    }
    println!(
        "{:<12} {} at {:#x}",
        part.name,
        part.about,
        area.range().start
    );
    let body = move || {
        if let Err(error) = write_forever(part, &uffd, &area) {
            eprintln!("uffdwp-workload: {} ended: {error:#}", part.name);
            std::process::exit(1);
        }
    };
    thread::Builder::new()
        .name(part.name.into())
        .spawn(body)
        .context("cannot start a thread")?;
    Ok(())
}

fn write_forever(part: &DemoPart, uffd: &Userfaultfd, area: &MappedArea) -> Result<()> {
    area.write_all();
    loop {
        match (part.empties, part.kind) {
            // Anonymous memory that is emptied forgets that it was armed: empty it first, then arm
            // the holes.
            (true, MemoryKind::Anon) => {
                area.advise(Advice::LinuxDontNeed)?;
                uffd.arm(&area.range())?;
            }
            // Shmem remembers: arm the pages, then empty it.
            (true, _) => {
                uffd.arm(&area.range())?;
                area.advise(Advice::LinuxDontNeed)?;
            }
            (false, _) => uffd.arm(&area.range())?,
        }
        for unit in 0..area.units() {
            area.write(unit);
            thread::sleep(PAUSE);
        }
    }
}
