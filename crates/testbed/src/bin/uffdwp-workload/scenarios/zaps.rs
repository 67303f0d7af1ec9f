//! Pages of anonymous memory are given back, with what may come before and after.

use anyhow::{Result, ensure};
use rustix::mm::Advice;
use uffd::{PAGE_SIZE, PMD_SIZE};

use super::ground::{GroundMaker, ScenarioGround};
use super::{ScenarioAct, TestScenario, scenario};
use crate::area::{MappedArea, MemoryKind};
use crate::needs::SkipReason;

pub const SCENARIOS: &[TestScenario] = &[
    scenario("zap", |grounds| some(grounds, |_| {}, |_| {})),
    scenario("zap-load", |grounds| {
        some(grounds, |_| {}, ScenarioGround::load)
    }),
    scenario("zap-store", |grounds| {
        some(grounds, |_| {}, ScenarioGround::store_blindly)
    }),
    scenario("store-zap", |grounds| {
        some(grounds, ScenarioGround::store, |_| {})
    }),
    scenario("zap-zeroes", zeroes),
    scenario("zap-table", table),
    scenario("guard", |grounds| guard(grounds, &[GUARD_INSTALL])),
    scenario("guard-removed", |grounds| {
        guard(grounds, &[GUARD_INSTALL, GUARD_REMOVE])
    }),
];

const GUARD_INSTALL: libc::c_int = 102;
const GUARD_REMOVE: libc::c_int = 103;

fn zap(ground: &ScenarioGround) -> Result<()> {
    ground.advise(Advice::LinuxDontNeed)
}

fn some(
    grounds: &mut GroundMaker,
    before: fn(&ScenarioGround),
    after: fn(&ScenarioGround),
) -> Result<ScenarioAct> {
    let ground = grounds.some(MemoryKind::Anon)?;
    Ok(Box::new(move || {
        before(&ground);
        zap(&ground)?;
        after(&ground);
        Ok(ground)
    }))
}

/// What is given back was all zeroes.
fn zeroes(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let ground = grounds.some(MemoryKind::Anon)?;
    (0..ground.area.pages()).for_each(|page| ground.area.store(page, 0));
    Ok(Box::new(move || {
        zap(&ground)?;
        Ok(ground)
    }))
}

/// Everything that one page table maps is given back.
fn table(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    const PAGES: u64 = PMD_SIZE / PAGE_SIZE;
    let area = grounds.anonymous(2 * PAGES)?;
    let hit = (PAGES..2 * PAGES).collect();
    let ground = ScenarioGround { area, hit };
    Ok(Box::new(move || {
        zap(&ground)?;
        Ok(ground)
    }))
}

fn guard(grounds: &mut GroundMaker, advice: &'static [libc::c_int]) -> Result<ScenarioAct> {
    let tried = grounds.anonymous(1)?;
    let refused = advice.iter().find_map(|it| tried.advise_number(*it).err());
    tried.unmap()?;
    if let Some(error) = refused {
        ensure!(error.raw_os_error() == Some(libc::EINVAL), error);
        return Err(
            SkipReason::Kernel("this kernel has no guard markers (6.13)".to_owned()).into(),
        );
    }
    let ground = grounds.some(MemoryKind::Anon)?;
    Ok(Box::new(move || {
        let advise = |part: MappedArea| advice.iter().try_for_each(|it| part.advise_number(*it));
        ground.parts().try_for_each(advise)?;
        Ok(ground)
    }))
}
