//! Stores of the process itself.

use anyhow::Result;

use super::ground::Grounds;
use super::{Act, Scenario, scenario};
use crate::area::Kind;

pub const SCENARIOS: &[Scenario] = &[
    scenario("store", |grounds| store(grounds, Kind::Anon)),
    scenario("store-same", same),
    scenario("store-shmem", |grounds| store(grounds, Kind::SharedAnon)),
    scenario("store-file", |grounds| store(grounds, Kind::FilePrivate)),
    scenario("store-hole", |grounds| store_hole(grounds, Kind::Anon)),
    scenario("store-hole-shmem", |grounds| {
        store_hole(grounds, Kind::SharedAnon)
    }),
];

fn store(grounds: &mut Grounds, kind: Kind) -> Result<Act> {
    let ground = grounds.some(kind)?;
    Ok(Box::new(move || {
        ground.store();
        Ok(ground)
    }))
}

fn same(grounds: &mut Grounds) -> Result<Act> {
    let ground = grounds.some(Kind::Anon)?;
    Ok(Box::new(move || {
        ground.each(|page| {
            ground.area.store(page, ground.area.word(page));
            Ok(())
        })?;
        Ok(ground)
    }))
}

fn store_hole(grounds: &mut Grounds, kind: Kind) -> Result<Act> {
    let ground = grounds.hole(kind)?;
    Ok(Box::new(move || {
        ground.store_blindly();
        Ok(ground)
    }))
}
