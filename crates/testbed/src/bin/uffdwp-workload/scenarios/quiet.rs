//! What changes no content and must not be reported.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::mm::Advice;

use super::ground::{Ground, Grounds};
use super::{Act, Scenario, scenario};
use crate::area::Kind;

pub const SCENARIOS: &[Scenario] = &[
    scenario("load", |grounds| {
        quiet(grounds, Kind::Anon, |ground| {
            ground.load();
            Ok(())
        })
    }),
    scenario("load-hole", load_hole),
    scenario("protect", |grounds| quiet(grounds, Kind::Anon, protect)),
    scenario("zap-shmem", |grounds| {
        quiet(grounds, Kind::SharedAnon, |ground| {
            ground.advise(Advice::LinuxDontNeed)
        })
    }),
    scenario("collapse", collapse),
    scenario("compact", compact),
];

fn quiet(grounds: &mut Grounds, kind: Kind, act: fn(&Ground) -> Result<()>) -> Result<Act> {
    let ground = grounds.some(kind)?;
    Ok(Box::new(move || {
        act(&ground)?;
        Ok(ground)
    }))
}

fn load_hole(grounds: &mut Grounds) -> Result<Act> {
    let ground = grounds.hole(Kind::Anon)?;
    Ok(Box::new(move || {
        ground.each(|page| {
            ground.area.load(page);
            Ok(())
        })?;
        Ok(ground)
    }))
}

fn protect(ground: &Ground) -> Result<()> {
    for part in ground.parts() {
        part.protect(false)?;
        part.protect(true)?;
    }
    Ok(())
}

/// MADV_COLLAPSE: the kernel makes no huge page of armed ones, and may say so.
fn collapse(grounds: &mut Grounds) -> Result<Act> {
    const COLLAPSE: libc::c_int = 25;
    let area = grounds.anonymous(1024)?;
    let ground = Grounds::whole(area);
    Ok(Box::new(move || {
        let _ = ground.area.advise_number(COLLAPSE);
        Ok(ground)
    }))
}

/// All memory of the machine is compacted: pages migrate.
fn compact(grounds: &mut Grounds) -> Result<Act> {
    grounds.may_change_machine("where pages are")?;
    let ground = grounds.all(Kind::Anon)?;
    Ok(Box::new(move || {
        fs::write("/proc/sys/vm/compact_memory", "1").context("cannot compact memory")?;
        Ok(ground)
    }))
}
