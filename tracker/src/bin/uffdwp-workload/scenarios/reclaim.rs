//! Pages are reclaimed: dropped, unmapped, or swapped out and in.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::mm::Advice;
use tracker::uffd::{Entry, Pagemap};

use super::forks::CHILD;
use super::ground::{Ground, Grounds};
use super::{Act, Scenario, scenario};
use crate::area::{Area, Kind};
use crate::needs::Skip;

pub const SCENARIOS: &[Scenario] = &[
    scenario("free-reclaim", free),
    scenario("unmap-shmem", unmap_shmem),
    scenario("swap", |grounds| swap(grounds, Ground::load)),
    scenario("swap-store", |grounds| swap(grounds, Ground::store_blindly)),
];

/// How long the kernel may need to reclaim a few pages that it is asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// linux/mempolicy.h
const MPOL_MF_MOVE: i32 = 2;

/// MADV_FREE of pages, which the kernel then takes.
fn free(grounds: &mut Grounds) -> Result<Act> {
    let ground = grounds.some(Kind::Anon)?;
    Ok(Box::new(move || {
        reclaim(&ground, &[Advice::LinuxFree, Advice::LinuxPageOut])?;
        Ok(ground)
    }))
}

fn unmap_shmem(grounds: &mut Grounds) -> Result<Act> {
    let ground = grounds.some(Kind::SharedAnon)?;
    Ok(Box::new(move || {
        reclaim(&ground, &[Advice::LinuxPageOut])?;
        Ok(ground)
    }))
}

/// What is hit goes to swap; `then` brings it back.
fn swap(grounds: &mut Grounds, then: fn(&Ground)) -> Result<Act> {
    if !fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1) {
        return Err(Skip("there is no swap".to_owned()).into());
    }
    let ground = grounds.some(Kind::Anon)?;
    Ok(Box::new(move || {
        reclaim(&ground, &[Advice::LinuxPageOut])?;
        then(&ground);
        Ok(ground)
    }))
}

/// Has the kernel reclaim what is hit, which it does once nobody else looks at the pages.
fn reclaim(ground: &Ground, advice: &[Advice]) -> Result<()> {
    // What a child shares is left alone.
    let _held = CHILD.lock();
    let begin = Instant::now();
    for part in ground.parts() {
        loop {
            advice.iter().try_for_each(|it| part.advise(*it))?;
            let present = present(&part)?;
            if present == 0 {
                break;
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "{present} pages are not reclaimed"
            );
            drain();
        }
    }
    Ok(())
}

/// Has every CPU give up the pages that it holds on their way to the list that reclaim looks at (`lru_cache_disable`,
/// which move_pages(2) begins with). Where there is no such call, waiting has to do.
fn drain() {
    // SAFETY: no page is given; none of the pointers is followed.
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

fn present(area: &Area) -> Result<usize> {
    let pagemap = Pagemap::own()?.context("there is no pagemap of ours")?;
    let mut entries = vec![Entry::default(); area.pages() as usize];
    pagemap.read(&area.range(), &mut entries)?;
    Ok(entries.iter().filter(|entry| entry.present()).count())
}
