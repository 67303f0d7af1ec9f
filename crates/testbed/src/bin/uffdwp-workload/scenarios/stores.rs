//! Stores of the process itself.

use anyhow::Result;

use super::ground::GroundMaker;
use super::{ScenarioAct, TestScenario, scenario};
use crate::area::MemoryKind;

pub const SCENARIOS: &[TestScenario] = &[
    scenario("store", |grounds| store(grounds, MemoryKind::Anon)),
    scenario("store-same", same),
    scenario("store-shmem", |grounds| {
        store(grounds, MemoryKind::SharedAnon)
    }),
    scenario("store-file", |grounds| {
        store(grounds, MemoryKind::FilePrivate)
    }),
    scenario("store-hole", |grounds| {
        store_hole(grounds, MemoryKind::Anon)
    }),
    scenario("store-hole-shmem", |grounds| {
        store_hole(grounds, MemoryKind::SharedAnon)
    }),
];

fn store(grounds: &mut GroundMaker, kind: MemoryKind) -> Result<ScenarioAct> {
    let ground = grounds.some(kind)?;
    Ok(Box::new(move || {
        ground.store();
        Ok(ground)
    }))
}

fn same(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let ground = grounds.some(MemoryKind::Anon)?;
    Ok(Box::new(move || {
        ground.each(|page| {
            ground.area.store(page, ground.area.word(page));
            Ok(())
        })?;
        Ok(ground)
    }))
}

fn store_hole(grounds: &mut GroundMaker, kind: MemoryKind) -> Result<ScenarioAct> {
    let ground = grounds.hole(kind)?;
    Ok(Box::new(move || {
        ground.store_blindly();
        Ok(ground)
    }))
}
