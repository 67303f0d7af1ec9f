//! Mappings that move or appear.

use anyhow::Result;
use rustix::mm::Advice;
use uffd::{RegisterMode, UffdFeatures, Userfaultfd};

use super::ground::{GroundMaker, ScenarioGround};
use super::{ScenarioAct, TestScenario, scenario};
use crate::area::{MappedArea, MemoryKind};
use crate::needs::SkipReason;

pub const SCENARIOS: &[TestScenario] = &[
    scenario("move", |grounds| moved(grounds, |_| {})),
    scenario("move-store", |grounds| {
        moved(grounds, ScenarioGround::store)
    }),
    scenario("move-keep", keep),
    scenario("uffd-move", uffd_move),
    scenario("map", new),
];

fn moved(grounds: &mut GroundMaker, after: fn(&ScenarioGround)) -> Result<ScenarioAct> {
    let ScenarioGround { area, hit } = grounds.some(MemoryKind::Anon)?;
    let address = grounds.address();
    Ok(Box::new(move || {
        let area = area.move_to_address(address)?;
        let ground = ScenarioGround { area, hit };
        after(&ground);
        Ok(ground)
    }))
}

/// All pages go elsewhere, and the mapping stays.
fn keep(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let ground = grounds.all(MemoryKind::Anon)?;
    let address = grounds.address();
    Ok(Box::new(move || {
        ground.area.move_pages_to_address(address)?;
        Ok(ground)
    }))
}

/// What is hit goes to a mapping that the process serves itself, as a compacting garbage collector
/// does.
fn uffd_move(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    if !UffdFeatures::offered()?.contains(UffdFeatures::MOVE) {
        return Err(SkipReason::Kernel("this kernel has no UFFDIO_MOVE (6.8)".to_owned()).into());
    }
    let ground = grounds.some(MemoryKind::Anon)?;
    // The kernel moves no page that a child shares.
    ground.area.advise(Advice::LinuxDontFork)?;
    let target = MappedArea::map_at(
        MemoryKind::Anon,
        grounds.address(),
        ground.area.pages(),
        "".as_ref(),
    )?;
    target.advise(Advice::LinuxDontFork)?;
    let uffd = Userfaultfd::open_user_mode_only()?;
    uffd.enable(UffdFeatures::MOVE)?;
    uffd.register(&target.range(), RegisterMode::MISSING)?;
    Ok(Box::new(move || {
        let distance = target.range().start.wrapping_sub(ground.area.range().start);
        for mut from in ground.parts().map(|part| part.range()) {
            // The call stops where a page is busy.
            while !from.is_empty() {
                let to = from.start.wrapping_add(distance)..from.end.wrapping_add(distance);
                // SAFETY: both are ours, and nothing refers to them.
                from.start += unsafe { uffd.move_pages(&to, from.start) }?;
            }
        }
        // The userfaultfd serves the other mapping until the process ends.
        std::mem::forget(uffd);
        Ok(ground)
    }))
}

/// A new mapping, populated before anybody can arm it.
fn new(grounds: &mut GroundMaker) -> Result<ScenarioAct> {
    let pattern = grounds.hole(MemoryKind::Anon)?;
    pattern.area.unmap()?;
    let (address, pages) = (pattern.area.range().start, pattern.area.pages());
    Ok(Box::new(move || {
        let area = MappedArea::map_at(MemoryKind::Anon, address, pages, "".as_ref())?;
        let ground = ScenarioGround { area, ..pattern };
        ground.store_blindly();
        Ok(ground)
    }))
}
