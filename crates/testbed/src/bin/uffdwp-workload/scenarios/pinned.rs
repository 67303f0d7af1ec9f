//! Buffers that io_uring pins, while they are armed or before.

use std::fs::File;
use std::io::Write as _;

use anyhow::Result;

use super::ground::GroundMaker;
use super::ring::IoRing;
use super::{ScenarioAct, TestScenario, scenario};
use crate::area::MemoryKind;

pub const SCENARIOS: &[TestScenario] = &[
    scenario("register-buffers", register),
    scenario("read-fixed", read_fixed),
];

/// REGISTER_BUFFERS pins what is armed.
fn register(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let mut ring = IoRing::open()?;
    let ground = grounds.all(MemoryKind::Anon)?;
    Ok(Box::new(move || {
        ring.register(&ground.area)?;
        // The pages stay pinned until the process ends.
        std::mem::forget(ring);
        Ok(ground)
    }))
}

/// READ_FIXED into what was pinned before it was armed.
fn read_fixed(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let mut ring = IoRing::open()?;
    let ground = grounds.some(MemoryKind::Anon)?;
    ring.register(&ground.area)?;
    let memfd = rustix::fs::memfd_create("source", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut source = File::from(memfd);
    source.write_all(b"new data")?;
    Ok(Box::new(move || {
        ground.each(|page| ring.read_fixed(&source, ground.area.byte(page), 8))?;
        std::mem::forget(ring);
        Ok(ground)
    }))
}
