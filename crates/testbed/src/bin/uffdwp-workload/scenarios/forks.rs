//! A forked child stores to its copy, or to what it shares.

use std::io;
use std::sync::Mutex;

use anyhow::{Result, ensure};

use super::ground::{GroundMaker, ScenarioGround};
use super::{ScenarioAct, TestScenario, scenario};
use crate::area::MemoryKind;

pub const SCENARIOS: &[TestScenario] = &[
    scenario("fork", |grounds| fork(grounds, MemoryKind::Anon, |_| {})),
    scenario("fork-store", |grounds| {
        fork(grounds, MemoryKind::Anon, ScenarioGround::store)
    }),
    scenario("fork-shared", |grounds| {
        fork(grounds, MemoryKind::SharedAnon, |_| {})
    }),
];

/// Held while there is a child, or while pages must not be shared with one.
pub static CHILD: Mutex<()> = Mutex::new(());

/// The child stores to the pages that are hit; then its parent does `after`.
fn fork(
    grounds: &mut GroundMaker,
    kind: MemoryKind,
    after: fn(&ScenarioGround),
) -> Result<ScenarioAct> {
    let ground = grounds.some(kind)?;
    Ok(Box::new(move || {
        let held = CHILD.lock();
        // SAFETY: the child only touches its memory and leaves by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            ground.store();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        ensure!(child > 0, "cannot fork: {}", io::Error::last_os_error());
        let mut status = 0;
        // SAFETY: waits for our child and writes one int.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        drop(held);
        ensure!(
            waited == child && status == 0,
            "the child ended with {status:#x}"
        );
        after(&ground);
        Ok(ground)
    }))
}
