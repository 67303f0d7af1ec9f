//! Pages of anonymous memory are given up, and what may come before and after.

use anyhow::{Result, ensure};
use rustix::mm::Advice;
use uffd::{PAGE_SIZE, PMD_SIZE};

use super::ground::{Ground, Grounds};
use super::{Act, Scenario, scenario};
use crate::area::{Area, Kind};
use crate::needs::Skip;

pub const SCENARIOS: &[Scenario] = &[
    scenario("zap", |grounds| some(grounds, |_| {}, |_| {})),
    scenario("zap-load", |grounds| some(grounds, |_| {}, Ground::load)),
    scenario("zap-store", |grounds| {
        some(grounds, |_| {}, Ground::store_blindly)
    }),
    scenario("store-zap", |grounds| some(grounds, Ground::store, |_| {})),
    scenario("zap-zeroes", zeroes),
    scenario("zap-table", table),
    scenario("guard", |grounds| guard(grounds, &[GUARD_INSTALL])),
    scenario("guard-removed", |grounds| {
        guard(grounds, &[GUARD_INSTALL, GUARD_REMOVE])
    }),
];

const GUARD_INSTALL: libc::c_int = 102;
const GUARD_REMOVE: libc::c_int = 103;

fn zap(ground: &Ground) -> Result<()> {
    ground.advise(Advice::LinuxDontNeed)
}

fn some(grounds: &mut Grounds, before: fn(&Ground), after: fn(&Ground)) -> Result<Act> {
    let ground = grounds.some(Kind::Anon)?;
    Ok(Box::new(move || {
        before(&ground);
        zap(&ground)?;
        after(&ground);
        Ok(ground)
    }))
}

/// What is given up was all zeroes.
fn zeroes(grounds: &mut Grounds) -> Result<Act> {
    let ground = grounds.some(Kind::Anon)?;
    (0..ground.area.pages()).for_each(|page| ground.area.store(page, 0));
    Ok(Box::new(move || {
        zap(&ground)?;
        Ok(ground)
    }))
}

/// All that a page table maps.
fn table(grounds: &mut Grounds) -> Result<Act> {
    const PAGES: u64 = PMD_SIZE / PAGE_SIZE;
    let area = grounds.anonymous(2 * PAGES)?;
    let hit = (PAGES..2 * PAGES).collect();
    let ground = Ground { area, hit };
    Ok(Box::new(move || {
        zap(&ground)?;
        Ok(ground)
    }))
}

fn guard(grounds: &mut Grounds, advice: &'static [libc::c_int]) -> Result<Act> {
    let tried = grounds.anonymous(1)?;
    let refused = advice.iter().find_map(|it| tried.advise_number(*it).err());
    tried.unmap()?;
    if let Some(error) = refused {
        ensure!(error.raw_os_error() == Some(libc::EINVAL), error);
        return Err(Skip("this kernel has no guard markers (6.13)".to_owned()).into());
    }
    let ground = grounds.some(Kind::Anon)?;
    Ok(Box::new(move || {
        let advise = |part: Area| advice.iter().try_for_each(|it| part.advise_number(*it));
        ground.parts().try_for_each(advise)?;
        Ok(ground)
    }))
}
