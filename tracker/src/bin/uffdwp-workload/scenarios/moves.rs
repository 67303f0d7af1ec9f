//! Mappings that come to another place, or to be.

use anyhow::Result;

use super::ground::{Ground, Grounds};
use super::{Act, Scenario, scenario};
use crate::area::Kind;

pub const SCENARIOS: &[Scenario] = &[
    scenario("move", |grounds| moved(grounds, |_| {})),
    scenario("move-store", |grounds| moved(grounds, Ground::store)),
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
