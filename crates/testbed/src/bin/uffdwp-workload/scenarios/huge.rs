//! Huge pages, of which one 4 KiB page is accessed, or all are given up.

use anyhow::Result;
use rustix::mm::Advice;

use super::ground::{Ground, Grounds};
use super::{Act, Scenario, scenario};
use crate::area::Kind;

pub const SCENARIOS: &[Scenario] = &[
    scenario("thp-store", |grounds| one(grounds, Kind::Thp, store)),
    scenario("thp-zap-part", |grounds| one(grounds, Kind::Thp, zap)),
    scenario("thp-zap", |grounds| units(grounds, Kind::Thp, zap)),
    scenario("thp-zap-load", |grounds| {
        units(grounds, Kind::Thp, zap_load)
    }),
    scenario("shmem-thp-store", |grounds| {
        one(grounds, Kind::ShmemThp, store)
    }),
    scenario("shmem-thp-zap", |grounds| {
        units(grounds, Kind::ShmemThp, zap)
    }),
    scenario("hugetlb-store", |grounds| {
        one(grounds, Kind::Hugetlb, store)
    }),
    scenario("hugetlb-store-hole", hugetlb_hole),
    scenario("hugetlb-zap-load", |grounds| {
        units(grounds, Kind::Hugetlb, zap_load)
    }),
];

fn store(ground: &Ground) -> Result<()> {
    ground.store();
    Ok(())
}

fn zap(ground: &Ground) -> Result<()> {
    ground.advise(Advice::LinuxDontNeed)
}

fn zap_load(ground: &Ground) -> Result<()> {
    zap(ground)?;
    ground.load();
    Ok(())
}

fn one(grounds: &mut Grounds, kind: Kind, act: fn(&Ground) -> Result<()>) -> Result<Act> {
    let ground = grounds.some(kind)?;
    then(ground, act)
}

fn units(grounds: &mut Grounds, kind: Kind, act: fn(&Ground) -> Result<()>) -> Result<Act> {
    let ground = grounds.some_units(kind)?;
    then(ground, act)
}

fn then(ground: Ground, act: fn(&Ground) -> Result<()>) -> Result<Act> {
    Ok(Box::new(move || {
        act(&ground)?;
        Ok(ground)
    }))
}

fn hugetlb_hole(grounds: &mut Grounds) -> Result<Act> {
    let ground = grounds.hole(Kind::Hugetlb)?;
    Ok(Box::new(move || {
        ground.store_blindly();
        Ok(ground)
    }))
}
