//! Pages are reclaimed: dropped, unmapped, or swapped out and in.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::mm::Advice;
use uffd::{Pagemap, PagemapEntry};

use super::forks::CHILD;
use super::ground::{GroundMaker, ScenarioGround};
use super::{ScenarioAct, TestScenario, scenario};
use crate::area::{MappedArea, MemoryKind};
use crate::needs::SkipReason;

pub const SCENARIOS: &[TestScenario] = &[
    scenario("free-reclaim", free),
    scenario("free-swapped", free_swapped),
    scenario("unmap-shmem", unmap_shmem),
    scenario("swap", |grounds| swap(grounds, |_| {})),
    scenario("swap-load", |grounds| swap(grounds, ScenarioGround::load)),
    scenario("swap-store", |grounds| {
        swap(grounds, ScenarioGround::store_blindly)
    }),
    scenario("swapped", |grounds| swapped(grounds, |_| {})),
    scenario("swapped-load", |grounds| {
        swapped(grounds, ScenarioGround::load)
    }),
    scenario("swapped-store", |grounds| {
        swapped(grounds, ScenarioGround::store_blindly)
    }),
];

/// How long the kernel may take to reclaim a few pages on request.
const PATIENCE: Duration = Duration::from_secs(60);

/// linux/mempolicy.h
const MPOL_MF_MOVE: i32 = 2;

/// MADV_FREE of pages, which the kernel then takes.
fn free(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let ground = grounds.some(MemoryKind::Anon)?;
    Ok(Box::new(move || {
        // A page on its way to a list goes to swap if there is swap, and then at once.
        let there = |entry: &PagemapEntry| entry.present() || entry.swapped();
        reclaim(&ground, &[Advice::LinuxFree, Advice::LinuxPageOut], there)?;
        Ok(ground)
    }))
}

/// MADV_FREE of pages that are in swap.
fn free_swapped(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    needs_swap()?;
    let ground = grounds.some(MemoryKind::Anon)?;
    Ok(Box::new(move || {
        reclaim(&ground, &[Advice::LinuxPageOut], |entry| entry.present())?;
        ground.advise(Advice::LinuxFree)?;
        Ok(ground)
    }))
}

fn unmap_shmem(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let ground = grounds.some(MemoryKind::SharedAnon)?;
    Ok(Box::new(move || {
        reclaim(&ground, &[Advice::LinuxPageOut], |entry| entry.present())?;
        Ok(ground)
    }))
}

/// What is hit goes to swap; `then` may bring it back.
fn swap(grounds: &mut GroundMaker, then: fn(&ScenarioGround)) -> Result<ScenarioAct> {
    needs_swap()?;
    let ground = grounds.some(MemoryKind::Anon)?;
    Ok(Box::new(move || {
        reclaim(&ground, &[Advice::LinuxPageOut], |entry| entry.present())?;
        then(&ground);
        Ok(ground)
    }))
}

/// What is hit is in swap when it is armed; `then` may bring it back.
fn swapped(grounds: &mut GroundMaker, then: fn(&ScenarioGround)) -> Result<ScenarioAct> {
    needs_swap()?;
    let ground = grounds.some(MemoryKind::Anon)?;
    reclaim(&ground, &[Advice::LinuxPageOut], |entry| entry.present())?;
    Ok(Box::new(move || {
        then(&ground);
        Ok(ground)
    }))
}

fn needs_swap() -> Result<()> {
    if fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1) {
        return Ok(());
    }
    Err(SkipReason::Machine("there is no swap".to_owned()).into())
}

/// Makes the kernel reclaim what is hit, which it does once nobody else uses the pages.
fn reclaim(
    ground: &ScenarioGround,
    advice: &[Advice],
    there: fn(&PagemapEntry) -> bool,
) -> Result<()> {
    // The kernel leaves alone what a child shares.
    let _held = CHILD.lock();
    let begin = Instant::now();
    for part in ground.parts() {
        loop {
            advice.iter().try_for_each(|it| part.advise(*it))?;
            let left = count(&part, there)?;
            if left == 0 {
                break;
            }
            ensure!(begin.elapsed() < PATIENCE, "{left} pages are not reclaimed");
            drain();
        }
    }
    Ok(())
}

/// Makes every CPU give up the pages that it holds on their way to the list that reclaim looks at
/// (`lru_cache_disable`, with which move_pages(2) begins). Without that call, waiting must do.
fn drain() {
    // SAFETY: no page is given, so none of the pointers is followed.
    unsafe {
        let nowhere = std::ptr::dangling::<u8>();
        libc::syscall(
            libc::SYS_move_pages,
            0,
            0_usize,
            nowhere,
            nowhere,
            nowhere,
            MPOL_MF_MOVE,
        );
    }
    std::thread::yield_now();
}

fn count(area: &MappedArea, which: fn(&PagemapEntry) -> bool) -> Result<usize> {
    let pagemap = Pagemap::own()?;
    let mut entries = vec![PagemapEntry::default(); area.pages() as usize];
    pagemap.read(&area.range(), &mut entries)?;
    Ok(entries.iter().filter(|entry| which(entry)).count())
}
