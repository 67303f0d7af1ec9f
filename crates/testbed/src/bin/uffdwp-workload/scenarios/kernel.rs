//! The kernel writes to the memory of the process, or takes pages as if to write, for it or for
//! another process.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use rustix::mm::Advice;

use super::ground::{GroundMaker, ScenarioGround};
use super::{ScenarioAct, TestScenario, scenario};
use crate::area::{MappedArea, MemoryKind};
use crate::writer::{RemoteWriter, WriteMeans};

pub const SCENARIOS: &[TestScenario] = &[
    scenario("read", |grounds| read(grounds, 7)),
    // Every page begins with this byte.
    scenario("read-same", |grounds| read(grounds, 1)),
    scenario("vm-writev", |grounds| remote(grounds, WriteMeans::VmWritev)),
    scenario("remote-mem", |grounds| remote(grounds, WriteMeans::ProcMem)),
    scenario("self-mem", self_mem),
    scenario("futex", futex),
    scenario("mlock", |grounds| {
        whole(grounds, MemoryKind::Anon, |area| area.lock())
    }),
    scenario("mlock-shared", |grounds| {
        whole(grounds, MemoryKind::SharedAnon, |area| area.lock())
    }),
    scenario("populate-write", |grounds| {
        whole(grounds, MemoryKind::Anon, |area| {
            area.advise(Advice::LinuxPopulateWrite)
        })
    }),
    scenario("populate-write-shmem", |grounds| {
        whole(grounds, MemoryKind::SharedAnon, |area| {
            area.advise(Advice::LinuxPopulateWrite)
        })
    }),
];

fn read(grounds: &mut GroundMaker, value: u8) -> Result<ScenarioAct> {
    let ground = grounds.some(MemoryKind::Anon)?;
    let memfd = rustix::fs::memfd_create("source", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut source = File::from(memfd);
    source.write_all(&[value])?;
    Ok(Box::new(move || {
        ground.each(|page| {
            source.rewind()?;
            ground.area.read_into(page, &source)
        })?;
        Ok(ground)
    }))
}

/// Another process writes a byte, which is 2.
fn remote(grounds: &mut GroundMaker, means: WriteMeans) -> Result<ScenarioAct> {
    let ground = grounds.some(MemoryKind::Anon)?;
    let mut writer = RemoteWriter::start()?;
    Ok(Box::new(move || {
        for part in ground.parts() {
            writer.write(&part, means)?;
        }
        Ok(ground)
    }))
}

fn self_mem(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let ground = grounds.some(MemoryKind::Anon)?;
    let memory = File::options().write(true).open("/proc/self/mem")?;
    Ok(Box::new(move || {
        ground.each(|page| {
            let address = ground.area.byte(page).addr() as u64;
            memory
                .write_all_at(&[9], address)
                .context("cannot write to /proc/self/mem")
        })?;
        Ok(ground)
    }))
}

/// FUTEX_WAKE_OP adds one to a word for which nobody waits.
fn futex(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    /// `FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0)`
    const ADD_ONE: libc::c_ulong = 1 << 28 | 1 << 12;
    static OTHER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let ground = grounds.some(MemoryKind::Anon)?;
    OTHER.store(0, Ordering::Relaxed);
    Ok(Box::new(move || {
        ground.each(|page| {
            let operation = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
            let word = ground.area.byte(page);
            // SAFETY: two aligned words of ours; nobody waits at either.
            let woken = unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    OTHER.as_ptr(),
                    operation,
                    0,
                    0,
                    word,
                    ADD_ONE,
                )
            };
            ensure!(woken == 0, "futex: {}", io::Error::last_os_error());
            Ok(())
        })?;
        Ok(ground)
    }))
}

fn whole(
    grounds: &mut GroundMaker,
    kind: MemoryKind,
    act: fn(&MappedArea) -> Result<()>,
) -> Result<ScenarioAct> {
    let ground: ScenarioGround = grounds.all(kind)?;
    Ok(Box::new(move || {
        act(&ground.area)?;
        Ok(ground)
    }))
}
