//! What changes no content and must not be reported.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::mm::Advice;

use super::ground::{GroundMaker, ScenarioGround};
use super::{ScenarioAct, TestScenario, scenario};
use crate::area::MemoryKind;

pub const SCENARIOS: &[TestScenario] = &[
    scenario("load", |grounds| {
        quiet(grounds, MemoryKind::Anon, |ground| {
            ground.load();
            Ok(())
        })
    }),
    scenario("load-hole", load_hole),
    scenario("protect", |grounds| {
        quiet(grounds, MemoryKind::Anon, protect)
    }),
    scenario("zap-shmem", |grounds| {
        quiet(grounds, MemoryKind::SharedAnon, |ground| {
            ground.advise(Advice::LinuxDontNeed)
        })
    }),
    scenario("collapse", collapse),
    scenario("compact", compact),
];

fn quiet(
    grounds: &mut GroundMaker,
    kind: MemoryKind,
    act: fn(&ScenarioGround) -> Result<()>,
) -> Result<ScenarioAct> {
    let ground = grounds.some(kind)?;
    Ok(Box::new(move || {
        act(&ground)?;
        Ok(ground)
    }))
}

fn load_hole(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let ground = grounds.hole(MemoryKind::Anon)?;
    Ok(Box::new(move || {
        ground.each(|page| {
            ground.area.load(page);
            Ok(())
        })?;
        Ok(ground)
    }))
}

fn protect(ground: &ScenarioGround) -> Result<()> {
    for part in ground.parts() {
        part.protect(false)?;
        part.protect(true)?;
    }
    Ok(())
}

/// MADV_COLLAPSE: the kernel makes no huge page of armed pages, and may say so.
fn collapse(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    const COLLAPSE: libc::c_int = 25;
    let area = grounds.anonymous(1024)?;
    let ground = GroundMaker::whole(area);
    Ok(Box::new(move || {
        let _ = ground.area.advise_number(COLLAPSE);
        Ok(ground)
    }))
}

/// The kernel compacts all memory of the machine: pages migrate.
fn compact(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    grounds.may_change_machine("where pages are")?;
    let ground = grounds.all(MemoryKind::Anon)?;
    Ok(Box::new(move || {
        fs::write("/proc/sys/vm/compact_memory", "1").context("cannot compact memory")?;
        Ok(ground)
    }))
}
