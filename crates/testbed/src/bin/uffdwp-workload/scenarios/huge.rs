//! Huge pages, of which one 4 KiB page is accessed, or all are given back.

use anyhow::Result;
use rustix::mm::Advice;

use super::ground::{GroundMaker, ScenarioGround};
use super::{ScenarioAct, TestScenario, scenario};
use crate::area::MemoryKind;

pub const SCENARIOS: &[TestScenario] = &[
    scenario("thp-store", |grounds| one(grounds, MemoryKind::Thp, store)),
    scenario("thp-zap-part", |grounds| one(grounds, MemoryKind::Thp, zap)),
    scenario("thp-zap", |grounds| units(grounds, MemoryKind::Thp, zap)),
    scenario("thp-zap-load", |grounds| {
        units(grounds, MemoryKind::Thp, zap_load)
    }),
    scenario("shmem-thp-store", |grounds| {
        one(grounds, MemoryKind::ShmemThp, store)
    }),
    scenario("shmem-thp-zap", |grounds| {
        units(grounds, MemoryKind::ShmemThp, zap)
    }),
    scenario("hugetlb-store", |grounds| {
        one(grounds, MemoryKind::Hugetlb, store)
    }),
    scenario("hugetlb-store-hole", hugetlb_hole),
    scenario("hugetlb-zap-load", |grounds| {
        units(grounds, MemoryKind::Hugetlb, zap_load)
    }),
];

fn store(ground: &ScenarioGround) -> Result<()> {
    ground.store();
    Ok(())
}

fn zap(ground: &ScenarioGround) -> Result<()> {
    ground.advise(Advice::LinuxDontNeed)
}

fn zap_load(ground: &ScenarioGround) -> Result<()> {
    zap(ground)?;
    ground.load();
    Ok(())
}

fn one(
    grounds: &mut GroundMaker,
    kind: MemoryKind,
    act: fn(&ScenarioGround) -> Result<()>,
) -> Result<ScenarioAct> {
    let ground = grounds.some(kind)?;
    then(ground, act)
}

fn units(
    grounds: &mut GroundMaker,
    kind: MemoryKind,
    act: fn(&ScenarioGround) -> Result<()>,
) -> Result<ScenarioAct> {
    let ground = grounds.some_units(kind)?;
    then(ground, act)
}

fn then(ground: ScenarioGround, act: fn(&ScenarioGround) -> Result<()>) -> Result<ScenarioAct> {
    Ok(Box::new(move || {
        act(&ground)?;
        Ok(ground)
    }))
}

fn hugetlb_hole(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let ground = grounds.hole(MemoryKind::Hugetlb)?;
    Ok(Box::new(move || {
        ground.store_blindly();
        Ok(ground)
    }))
}
