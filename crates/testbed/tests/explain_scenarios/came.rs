//! What came of acting, held against the table.

use std::collections::{BTreeMap, BTreeSet};

use uffd::{PAGE_SIZE, PMD_SIZE};

use crate::table::{self, Class, Fate, Fates};
use crate::target::{Ground, Target};

/// Scenarios that were acted.
pub struct Came {
    /// Keeps its memory.
    _target: Target,
    acted: BTreeMap<String, Result<Ground, String>>,
    class: Class,
}

impl Came {
    /// Acts.
    pub fn of(mut target: Target, class: Class) -> Self {
        for (name, why) in &target.excused {
            eprintln!("skipped: {name}: {why}");
            // The matrix gives guests whatever a scenario needs of the machine.
            let of_kernel = why.starts_with("this kernel") || why.starts_with("io_uring");
            assert!(of_kernel || !in_guest(), "{name}: {why}");
        }
        let acted = target.act();
        Self {
            _target: target,
            acted,
            class,
        }
    }

    /// Pages of all grounds.
    pub fn pages(&self) -> u64 {
        self.acted.values().flatten().map(Ground::pages).sum()
    }

    /// Differences of every scenario: what `each` says of its pages by fate, and what was refused that had not to be.
    pub fn check(&self, each: impl Fn(&Ground, &[Lot]) -> Vec<String>) -> Vec<String> {
        let class = self.class;
        let mut wrong = Vec::new();
        for (name, came) in &self.acted {
            let fates = table::find(name).fates(class);
            let of_it = match came {
                Ok(_) if fates.hit == Fate::Refused => vec!["it was not refused".to_owned()],
                Ok(ground) => each(ground, &lots(ground, fates)),
                Err(_) if fates.hit == Fate::Refused => continue,
                Err(why) => vec![format!("refused: {why}")],
            };
            let here = |what| format!("{name} ({class:?}): {what}");
            wrong.extend(of_it.into_iter().map(here));
        }
        wrong
    }
}

/// Whether this is one of the matrix's machines.
pub fn in_guest() -> bool {
    std::env::var_os("TRACKER_VM").is_some()
}

/// Pages of a ground that share a fate.
pub struct Lot {
    pub name: &'static str,
    pub fate: Fate,
    /// Numbers from the ground's start on.
    pub pages: BTreeSet<u64>,
}

fn lots(ground: &Ground, fates: Fates) -> [Lot; 3] {
    let unit = |page: &u64| (ground.range.start + page * PAGE_SIZE) / PMD_SIZE;
    let units: BTreeSet<u64> = ground.hit.iter().map(unit).collect();
    let others = (0..ground.pages()).filter(|page| !ground.hit.contains(page));
    let (around, rest) = others.partition(|page| units.contains(&unit(page)));
    let lot = |name, fate, pages| Lot { name, fate, pages };
    [
        lot("hit", fates.hit, ground.hit.clone()),
        lot("around", fates.around, around),
        lot("rest", fates.rest, rest),
    ]
}
