//! Mappings that come to another place, or to be.

use anyhow::Result;
use rustix::mm::Advice;
use uffd::{Features, RegisterMode, Userfaultfd};

use super::ground::{Ground, Grounds};
use super::{Act, Scenario, scenario};
use crate::area::{Area, Kind};
use crate::needs::Skip;

pub const SCENARIOS: &[Scenario] = &[
    scenario("move", |grounds| moved(grounds, |_| {})),
    scenario("move-store", |grounds| moved(grounds, Ground::store)),
    scenario("move-keep", keep),
    scenario("uffd-move", uffd_move),
    scenario("map", new),
];

fn moved(grounds: &mut Grounds, after: fn(&Ground)) -> Result<Act> {
    let Ground { area, hit } = grounds.some(Kind::Anon)?;
    let address = grounds.address();
    Ok(Box::new(move || {
        let area = area.move_to_address(address)?;
        let ground = Ground { area, hit };
        after(&ground);
        Ok(ground)
    }))
}

/// All pages go elsewhere; the mapping stays.
fn keep(grounds: &mut Grounds) -> Result<Act> {
    let ground = grounds.all(Kind::Anon)?;
    let address = grounds.address();
    Ok(Box::new(move || {
        ground.area.move_pages_to_address(address)?;
        Ok(ground)
    }))
}

/// What is hit goes to a mapping that the process serves itself, as a collector that compacts does.
fn uffd_move(grounds: &mut Grounds) -> Result<Act> {
    if !Features::offered()?.contains(Features::MOVE) {
        return Err(Skip("this kernel has no UFFDIO_MOVE (6.8)".to_owned()).into());
    }
    let ground = grounds.some(Kind::Anon)?;
    // The kernel moves no page that a child has shared.
    ground.area.advise(Advice::LinuxDontFork)?;
    let target = Area::map_at(
        Kind::Anon,
        grounds.address(),
        ground.area.pages(),
        "".as_ref(),
    )?;
    target.advise(Advice::LinuxDontFork)?;
    let uffd = Userfaultfd::open_user_mode_only()?;
    uffd.enable(Features::MOVE)?;
    uffd.register(&target.range(), RegisterMode::MISSING)?;
    Ok(Box::new(move || {
        let distance = target.range().start.wrapping_sub(ground.area.range().start);
        for mut from in ground.parts().map(|part| part.range()) {
            // It stops where a page is busy.
            while !from.is_empty() {
                let to = from.start.wrapping_add(distance)..from.end.wrapping_add(distance);
                // SAFETY: both are ours, and nothing refers to them.
                from.start += unsafe { uffd.move_pages(&to, from.start) }?;
            }
        }
        // It serves the other mapping until the process ends.
        std::mem::forget(uffd);
        Ok(ground)
    }))
}

/// A new mapping, populated before anybody can arm it.
fn new(grounds: &mut Grounds) -> Result<Act> {
    let pattern = grounds.hole(Kind::Anon)?;
    pattern.area.unmap()?;
    let (address, pages) = (pattern.area.range().start, pattern.area.pages());
    Ok(Box::new(move || {
        let area = crate::area::Area::map_at(Kind::Anon, address, pages, "".as_ref())?;
        let ground = Ground { area, ..pattern };
        ground.store_blindly();
        Ok(ground)
    }))
}
