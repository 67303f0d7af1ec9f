//! The outcome of scenarios, compared with the table.

use std::collections::{BTreeMap, BTreeSet};

use uffd::{PAGE_SIZE, PMD_SIZE};

use crate::table::{self, KernelClass, PageFate, ScenarioFates};
use crate::target::{ActedGround, ScenarioExcuse, ScenarioTarget};

/// Scenarios that were acted.
pub struct ActedScenarios {
    /// Keeps the memory of the scenarios.
    _target: ScenarioTarget,
    acted: BTreeMap<String, Result<ActedGround, String>>,
    class: KernelClass,
}

impl ActedScenarios {
    /// Lets the scenarios act.
    pub fn of(mut target: ScenarioTarget, class: KernelClass) -> Self {
        for (name, ScenarioExcuse { of_kernel, why }) in &target.excused {
            eprintln!("skipped: {name}: {why}");
            // Guests of the matrix have whatever a scenario needs from the machine.
            assert!(*of_kernel || !in_guest(), "{name}: {why}");
        }
        let acted = target.act();
        Self {
            _target: target,
            acted,
            class,
        }
    }

    /// How many pages the scenarios have together.
    pub fn pages(&self) -> u64 {
        self.acted.values().flatten().map(ActedGround::pages).sum()
    }

    /// What is wrong with every scenario: what `each` says of its pages by fate, and what should
    /// not have been refused.
    pub fn check(&self, each: impl Fn(&ActedGround, &[PageLot]) -> Vec<String>) -> Vec<String> {
        let class = self.class;
        let mut wrong = Vec::new();
        for (name, came) in &self.acted {
            let fates = table::find(name).fates(class);
            let of_it = match came {
                Ok(_) if fates.hit == PageFate::Refused => vec!["it was not refused".to_owned()],
                Ok(ground) => each(ground, &lots(ground, fates)),
                Err(_) if fates.hit == PageFate::Refused => continue,
                Err(why) => vec![format!("refused: {why}")],
            };
            let here = |what| format!("{name} ({class:?}): {what}");
            wrong.extend(of_it.into_iter().map(here));
        }
        wrong
    }
}

/// Whether this is a guest of the matrix.
pub fn in_guest() -> bool {
    std::env::var_os("TRACKER_VM").is_some()
}

/// The pages of a scenario that share a fate.
pub struct PageLot {
    pub name: &'static str,
    pub fate: PageFate,
    /// Their numbers, from the start of the mapping on.
    pub pages: BTreeSet<u64>,
}

fn lots(ground: &ActedGround, fates: ScenarioFates) -> [PageLot; 3] {
    let unit = |page: &u64| (ground.range.start + page * PAGE_SIZE) / PMD_SIZE;
    let units: BTreeSet<u64> = ground.hit.iter().map(unit).collect();
    let others = (0..ground.pages()).filter(|page| !ground.hit.contains(page));
    let (around, rest) = others.partition(|page| units.contains(&unit(page)));
    let lot = |name, fate, pages| PageLot { name, fate, pages };
    [
        lot("hit", fates.hit, ground.hit.clone()),
        lot("around", fates.around, around),
        lot("rest", fates.rest, rest),
    ]
}
