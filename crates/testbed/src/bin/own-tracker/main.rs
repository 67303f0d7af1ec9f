//! `own-tracker CLIENT`: a program that tracks memory of its own, each client with one fault that
//! `tracker explain` has to find, and some with none.
//!
//! It does as it is told, a word a line on standard input, and answers `done`: `begin` maps memory,
//! registers it and arms it as the client does; each `round` writes to it and asks what was
//! written.

mod memory;

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use memory::{ANON, HUGETLB, MappedMemory, SCAN_AND_ARM, SHMEM_HUGE, ScanWish, TrackedMemory};
use uffd::{PAGE_SIZE, PageCategories, UffdFeatures, UffdMessage, Userfaultfd};

/// A way to track.
struct TrackerClient {
    name: &'static str,
    begin: fn() -> anyhow::Result<TrackedMemory>,
    round: fn(&TrackedMemory) -> anyhow::Result<()>,
}

const CLIENTS: &[TrackerClient] = &[
    TrackerClient {
        name: "clean",
        begin: scanned,
        round: |memory| {
            memory.store(&[1, 5]);
            scan(memory, SCAN_AND_ARM)
        },
    },
    TrackerClient {
        name: "sync",
        begin: handled,
        round: |memory| {
            memory.store(&[1, 5]);
            memory.uffd.arm(&memory.pages(1..2))?;
            Ok(memory.uffd.arm(&memory.pages(5..6))?)
        },
    },
    TrackerClient {
        name: "read-then-arm",
        begin: scanned,
        round: |memory| {
            memory.store(&[1, 5]);
            scan(memory, reads())?;
            memory.store(&[9]);
            scan(memory, only_arms())
        },
    },
    TrackerClient {
        name: "pagemap-then-arm",
        begin: scanned,
        round: |memory| {
            memory.store(&[1, 5]);
            memory.read_pagemap()?;
            memory.store(&[9]);
            for page in [1, 5, 9] {
                memory.uffd.arm(&memory.pages(page..page + 1))?;
            }
            Ok(())
        },
    },
    // One of soft-dirty bits, too.
    TrackerClient {
        name: "soft-dirty",
        begin: scanned,
        round: |memory| {
            memory.store(&[1, 5]);
            memory.read_pagemap()?;
            uffd::clear_soft_dirty(std::process::id())?;
            scan(memory, SCAN_AND_ARM)
        },
    },
    TrackerClient {
        name: "scan-cut-short",
        begin: scanned,
        round: |memory| {
            memory.store(&[1, 5, 9]);
            let room = 2;
            scan(
                memory,
                ScanWish {
                    room,
                    ..SCAN_AND_ARM
                },
            )
        },
    },
    TrackerClient {
        name: "never-armed",
        begin: || registered(asynchronous()),
        round: |memory| {
            memory.store(&[1, 5]);
            scan(memory, reads())
        },
    },
    TrackerClient {
        name: "armed-in-part",
        begin: || {
            let memory = registered(asynchronous())?;
            memory.scan(&memory.pages(0..32), SCAN_AND_ARM)?;
            Ok(memory)
        },
        round: |memory| {
            memory.store(&[1, 5]);
            memory.scan(&memory.pages(0..32), SCAN_AND_ARM).map(drop)
        },
    },
    TrackerClient {
        name: "read-first",
        begin: || {
            let memory = MappedMemory::new(ANON)?;
            memory.store(0..16);
            memory.read();
            begun(memory.register(asynchronous())?)
        },
        round: |memory| {
            memory.store(&[1, 5]);
            scan(memory, SCAN_AND_ARM)
        },
    },
    TrackerClient {
        name: "armed-absent",
        begin: || {
            let memory = MappedMemory::new(ANON)?;
            memory.store(0..32);
            let memory = memory.register(UffdFeatures::default())?;
            memory.uffd.arm(&memory.range)?;
            Ok(memory)
        },
        round: |memory| {
            memory.store(&[memory.first_absent()?]);
            Ok(())
        },
    },
    TrackerClient {
        name: "filled-unarmed",
        begin: || {
            let memory = MappedMemory::new(ANON)?;
            memory.store(0..32);
            begun(memory.register(asynchronous())?)
        },
        round: |memory| {
            let absent = memory.first_absent()?;
            memory.copy(absent..absent + 2)?;
            scan(memory, SCAN_AND_ARM)
        },
    },
    TrackerClient {
        name: "registered-again",
        begin: || {
            let memory = scanned()?;
            memory.register_again()?;
            Ok(memory)
        },
        round: |memory| {
            memory.store(&[1, 5]);
            memory.uffd.arm(&memory.pages(1..2))?;
            Ok(memory.uffd.arm(&memory.pages(5..6))?)
        },
    },
    TrackerClient {
        name: "armed-in-vain",
        begin: scanned,
        round: |memory| {
            memory.store(&[1, 5]);
            memory.arm()
        },
    },
    TrackerClient {
        name: "extra-categories",
        begin: scanned,
        round: |memory| {
            memory.store(&[1, 5]);
            let also = PageCategories::PRESENT;
            scan(
                memory,
                ScanWish {
                    also,
                    ..SCAN_AND_ARM
                },
            )
        },
    },
    TrackerClient {
        name: "huge-shared-page",
        begin: || begun(TrackedMemory::registered(SHMEM_HUGE, asynchronous())?),
        round: |memory| {
            memory.store(&[1]);
            scan(memory, SCAN_AND_ARM)
        },
    },
    TrackerClient {
        name: "hugetlb-unit",
        begin: || begun(TrackedMemory::registered(HUGETLB, asynchronous())?),
        round: |memory| {
            memory.store(&[1, 5]);
            scan(memory, SCAN_AND_ARM)
        },
    },
    TrackerClient {
        name: "emptied",
        begin: scanned,
        round: |memory| {
            memory.store(&[0, 1, 2, 3]);
            scan(memory, SCAN_AND_ARM)?;
            memory.advise(0..4, libc::MADV_DONTNEED)
        },
    },
    TrackerClient {
        name: "forked-without-event",
        begin: scanned,
        round: |memory| {
            memory.store(&[1, 5]);
            scan(memory, SCAN_AND_ARM)?;
            fork()
        },
    },
    TrackerClient {
        name: "moved-without-event",
        begin: scanned,
        // In the first round.
        round: |memory| {
            if memory.is_there() {
                memory.move_away()?;
            }
            Ok(())
        },
    },
];

/// What a tracker asks for that is told by the kernel alone.
fn asynchronous() -> UffdFeatures {
    UffdFeatures::WP_HUGETLBFS_SHMEM | UffdFeatures::WP_UNPOPULATED | UffdFeatures::WP_ASYNC
}

fn reads() -> ScanWish {
    ScanWish {
        arms: false,
        ..SCAN_AND_ARM
    }
}

fn only_arms() -> ScanWish {
    ScanWish {
        room: 0,
        ..SCAN_AND_ARM
    }
}

fn scan(memory: &TrackedMemory, wish: ScanWish) -> anyhow::Result<()> {
    memory.scan(&memory.range, wish).map(drop)
}

fn registered(features: UffdFeatures) -> anyhow::Result<TrackedMemory> {
    TrackedMemory::registered(ANON, features)
}

/// Armed by a scan.
fn begun(memory: TrackedMemory) -> anyhow::Result<TrackedMemory> {
    scan(&memory, SCAN_AND_ARM)?;
    Ok(memory)
}

fn scanned() -> anyhow::Result<TrackedMemory> {
    begun(registered(asynchronous())?)
}

/// Armed, with a thread that answers.
fn handled() -> anyhow::Result<TrackedMemory> {
    let memory = registered(UffdFeatures::default())?;
    let uffd = Arc::clone(&memory.uffd);
    std::thread::Builder::new()
        .name("handler".to_owned())
        .spawn(move || answer(&uffd))?;
    memory.arm()?;
    Ok(memory)
}

/// Answers each message, until the process ends.
fn answer(uffd: &Userfaultfd) -> anyhow::Result<()> {
    let mut messages = Vec::new();
    loop {
        messages.clear();
        uffd.read_messages(&mut messages)?;
        for message in &messages {
            if let UffdMessage::Fault { address, .. } = message {
                let page = address & !(PAGE_SIZE - 1);
                uffd.resolve(&(page..page + PAGE_SIZE))?;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Has a child that ends at once.
fn fork() -> anyhow::Result<()> {
    // SAFETY: the child calls nothing but _exit.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        ensure!(libc::waitpid(child, std::ptr::null_mut(), 0) == child);
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let client = CLIENTS.iter().find(|client| client.name == name);
    let client = client.with_context(|| format!("no client is called {name:?}"))?;
    let mut memory = None;
    println!("ready");
    for word in std::io::stdin().lock().lines() {
        match (word?.as_str(), &memory) {
            ("begin", None) => memory = Some((client.begin)()?),
            ("round", Some(memory)) => (client.round)(memory)?,
            (word, _) => bail!("cannot {word} now"),
        }
        println!("done");
        std::io::stdout().flush()?;
    }
    Ok(())
}
