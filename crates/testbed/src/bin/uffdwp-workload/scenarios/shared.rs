//! Memory that changes behind the page tables of its mapping: through another mapping or its file.
//! Afterwards all scenarios but those that say otherwise read each page, so that it is mapped
//! again.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use anyhow::{Result, ensure};
use rustix::mm::Advice;
use uffd::PAGE_SIZE;

use super::ground::{GroundMaker, ScenarioGround};
use super::{ScenarioAct, TestScenario, scenario};
use crate::area::{MappedArea, MemoryKind};

pub const SCENARIOS: &[TestScenario] = &[
    scenario("second-mapping", second_mapping),
    scenario("pwrite", |grounds| of_file(grounds, pwrite)),
    scenario("punch", |grounds| of_file(grounds, punch)),
    scenario("punch-unread", punch_unread),
    scenario("remove", |grounds| {
        of_file(grounds, |_, ground| ground.advise(Advice::LinuxRemove))
    }),
    scenario("truncate", truncate),
    scenario("file-zap-load", file_zap),
];

fn of_file(
    grounds: &mut GroundMaker,
    act: fn(&File, &ScenarioGround) -> Result<()>,
) -> Result<ScenarioAct> {
    let (file, ground) = grounds.memfd()?;
    Ok(Box::new(move || {
        act(&file, &ground)?;
        ground.load();
        Ok(ground)
    }))
}

/// Another mapping of the same file, which is gone when somebody looks.
fn second_mapping(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let (file, ScenarioGround { area, hit }) = grounds.memfd()?;
    let address = grounds.address();
    Ok(Box::new(move || {
        let second = MappedArea::map_file(MemoryKind::Memfd, address, area.pages(), &file)?;
        let second = ScenarioGround { area: second, hit };
        second.store();
        second.area.unmap()?;
        Ok(ScenarioGround {
            area,
            hit: second.hit,
        })
    }))
}

fn pwrite(file: &File, ground: &ScenarioGround) -> Result<()> {
    ground.each(|page| Ok(file.write_all_at(b"other", page * PAGE_SIZE)?))
}

fn punch(file: &File, ground: &ScenarioGround) -> Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    ground.each(|page| {
        let (offset, length) = ((page * PAGE_SIZE) as i64, PAGE_SIZE as i64);
        // SAFETY: it takes no pointer; no reference into what is punched exists.
        let punched = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) };
        ensure!(punched == 0, "fallocate: {}", io::Error::last_os_error());
        Ok(())
    })
}

fn punch_unread(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let (file, ground) = grounds.memfd()?;
    Ok(Box::new(move || {
        punch(&file, &ground)?;
        Ok(ground)
    }))
}

fn truncate(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let (file, ground) = grounds.memfd()?;
    let ground = GroundMaker::whole(ground.area);
    Ok(Box::new(move || {
        file.set_len(0)?;
        file.set_len(ground.area.pages() * PAGE_SIZE)?;
        ground.load();
        Ok(ground)
    }))
}

/// A private file mapping whose own copies are given back: the file's content returns.
fn file_zap(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let ground = grounds.some(MemoryKind::FilePrivate)?;
    Ok(Box::new(move || {
        ground.advise(Advice::LinuxDontNeed)?;
        ground.load();
        Ok(ground)
    }))
}
